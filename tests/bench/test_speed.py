"""Steps to a target, profiles, areas and anytime losses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.bench.statistics.speed import (
    anytime,
    area_under_log_loss,
    compute_adjusted,
    performance_profile,
    profile_score,
    ratios_to_fastest,
    steps_to_target,
)

INF = math.inf

runs = st.lists(st.floats(0.01, 10), min_size=1, max_size=12).map(
    lambda losses: [(10 * at, loss) for at, loss in enumerate(losses)]
)


def test_a_dip_below_the_target_does_not_count():
    assert steps_to_target([(0, 4.0), (10, 0.5), (20, 2.0), (30, 0.5)], 1.0) == pytest.approx(25.0)


def test_between_evaluations_the_logarithm_of_the_loss_is_linear():
    run = [(0, 100.0), (10, 1.0)]
    assert steps_to_target(run, 10.0) == pytest.approx(5.0)
    assert steps_to_target([(0, 1.0), (10, -1.0)], 0.0) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ([(0, 4.0), (10, 2.0)], None),
        ([(0, 4.0), (10, 0.5), (20, math.nan)], None),
        ([(0, 4.0), (10, 0.5), (20, INF)], None),
        ([(0, INF), (10, 0.5)], 10.0),
        ([(0, 4.0), (10, math.nan), (20, 0.5)], 20.0),
        ([(0, 0.5), (10, 0.4)], 0.0),
        ([(0, 4.0), (10, 1.0)], 10.0),
    ],
)
def test_what_reaches_the_target_and_when(run, expected):
    assert steps_to_target(run, 1.0) == expected


def test_a_diverged_run_has_not_reached_its_target():
    assert steps_to_target([(0, 4.0), (10, 0.1)], 1.0, diverged=True) is None


@given(runs, st.floats(0.01, 10), st.floats(0.01, 10))
def test_a_lower_target_is_never_reached_earlier(run, one, other):
    low, high = sorted((one, other))
    later, earlier = steps_to_target(run, low), steps_to_target(run, high)
    assert later is None or (earlier is not None and earlier <= later + 1e-6)


@given(runs, st.floats(0.01, 10))
def test_after_the_step_all_evaluations_are_within_the_target_and_the_one_before_is_not(
    run, target
):
    step = steps_to_target(run, target)
    if step is None:
        assert run[-1][1] > target
        return
    assert all(loss <= target for at, loss in run if at >= step + 1e-6)
    above = [at for at, loss in run if loss > target]
    assert max(above, default=0) <= step <= max(above, default=-10) + 10


@given(runs, st.floats(0.01, 10), st.floats(0.01, 100))
def test_steps_do_not_depend_on_the_unit_of_the_loss(run, target, unit):
    if min(abs(math.log(loss / target)) for _, loss in run) < 1e-9:
        return
    scaled = steps_to_target([(at, unit * loss) for at, loss in run], unit * target)
    assert scaled == pytest.approx(steps_to_target(run, target), abs=1e-6)


@pytest.mark.parametrize("run", [[], [(10, 1.0), (0, 1.0)], [(0, 1.0), (0, 1.0)]])
def test_evaluations_out_of_order_are_refused(run):
    with pytest.raises(ValueError, match="evaluations must be"):
        steps_to_target(run, 1.0)


def test_a_forward_pass_costs_a_third_of_a_step():
    assert compute_adjusted(100, extra_forwards=0) == 100
    assert compute_adjusted(100, extra_forwards=30) == pytest.approx(110)


def test_a_cell_that_no_method_solves_counts_for_none():
    ratios = ratios_to_fastest({"a": [10, None, 0], "b": [15.0, None, 5]})
    assert ratios == {"a": [1.0, INF, 1.0], "b": [1.5, INF, INF]}
    assert performance_profile(ratios["a"], [1.0, INF]) == [2 / 3, 1.0]


@given(st.lists(st.one_of(st.floats(1, 10), st.just(INF)), min_size=1, max_size=20))
def test_the_score_is_the_area_under_the_profile(ratios):
    taus = np.linspace(1, 4, 20_001)
    heights = performance_profile(ratios, taus[::10].tolist())
    numeric = np.trapezoid(heights, taus[::10]) / 3
    assert profile_score(ratios) == pytest.approx(numeric, abs=2e-3)


def test_always_the_fastest_scores_1_and_never_there_scores_0():
    assert profile_score([1.0, 1.0]) == 1.0
    assert profile_score([INF, 4.0]) == 0.0
    with pytest.raises(ValueError, match="at least one cell"):
        profile_score([])
    with pytest.raises(ValueError, match="at least one cell"):
        performance_profile([], [1.0])


def test_the_area_is_the_mean_logarithm_of_the_loss():
    uneven = [(0, math.e), (10, 1.0), (40, 1.0)]
    assert area_under_log_loss(uneven) == pytest.approx(5 / 40)
    assert area_under_log_loss([(0, 2.0), (9, 2.0)]) == pytest.approx(math.log(2))
    assert area_under_log_loss([(0, 2.0), (9, INF)]) == INF
    assert area_under_log_loss(uneven, diverged=True) == INF
    with pytest.raises(ValueError, match="must be positive"):
        area_under_log_loss([(0, 2.0), (9, 0.0)])
    with pytest.raises(ValueError, match="2 or more"):
        area_under_log_loss([(0, 2.0)])


def test_anytime_losses_are_those_last_seen():
    run = [(5 * at, 100.0 - at) for at in range(21)]
    assert anytime(run, total_steps=100) == [95.0, 90.0, 85.0]
    assert anytime(run, total_steps=100, shares=(0.04, 1.0)) == [100.0, 80.0]


def test_a_run_that_diverged_has_no_loss_afterwards():
    run = [(5 * at, 1.0) for at in range(11)]  # of 100 steps, lost after step 50
    assert anytime(run, total_steps=100) == [1.0, 1.0, INF]
