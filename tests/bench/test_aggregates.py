"""Means, bootstrap, leave-one-out and Holm."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lrpilot.bench.statistics.aggregates import (
    geometric_mean,
    hierarchical_bootstrap,
    holm,
    interquartile_mean,
    leave_one_out,
    probability_of_improvement,
)

NAN = math.nan


def cells_of(rng, tasks=12, cells=3, seeds=10, between=0.2, within=0.1):
    """Each task has its own mean ln ratio around 0; seeds are shared by a task's cells."""
    return {
        f"task{at}": (between * rng.normal() + within * (rng.normal(size=(cells, seeds)))).tolist()
        for at in range(tasks)
    }


def test_means_are_those_of_numpy_and_scipy():
    values = np.random.default_rng(0).normal(size=(9, 5))
    of_cells = values.mean(axis=1)
    assert geometric_mean(values) == pytest.approx(stats.gmean(np.exp(of_cells)))
    assert interquartile_mean(values) == pytest.approx(math.exp(stats.trim_mean(of_cells, 0.25)))
    wins = (values > 0).mean()
    assert probability_of_improvement(values) == pytest.approx(wins)


def test_cells_weigh_alike_however_many_seeds_they_have():
    padded = np.array([[0.1, 0.3, NAN], [0.0, 0.6, 0.9], [NAN, NAN, NAN]])
    assert geometric_mean(padded) == pytest.approx(math.exp((0.2 + 0.5) / 2))
    assert interquartile_mean(padded) == pytest.approx(math.exp((0.2 + 0.5) / 2))
    signs = np.array([[1.0, -1.0, NAN], [0.0, 1.0, 1.0]])
    assert probability_of_improvement(signs) == pytest.approx((0.5 + 2.5 / 3) / 2)


def test_one_cell_cannot_carry_the_interquartile_mean():
    ones = np.zeros((8, 3))
    ones[3] = 50.0
    assert interquartile_mean(ones) == 1.0
    assert geometric_mean(ones) > 100


def test_a_method_that_is_the_reference_improves_with_probability_one_half():
    assert probability_of_improvement(np.zeros((4, 5))) == 0.5


def test_with_one_seed_per_task_the_bootstrap_is_the_percentile_bootstrap_of_scipy():
    values = np.random.default_rng(0).normal(size=15)
    ours = hierarchical_bootstrap(
        {f"{at:02}": [[x]] for at, x in enumerate(values)}, rng=np.random.default_rng(1)
    )
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert math.log(ours.low) == pytest.approx(theirs.low, abs=0.04)
    assert math.log(ours.high) == pytest.approx(theirs.high, abs=0.04)
    assert ours.value == pytest.approx(math.exp(values.mean()))


def test_with_one_task_only_seeds_are_resampled_and_its_cells_share_them():
    values = np.random.default_rng(3).normal(size=8)
    ours = hierarchical_bootstrap(
        {"task": [values.tolist(), (-values).tolist()]}, rng=np.random.default_rng(1)
    )
    # The same seeds in both cells cancel exactly; seeds of their own would not.
    assert ours.low == pytest.approx(1.0)
    assert ours.high == pytest.approx(1.0)


def test_cells_stay_with_their_task():
    # Tasks of opposite cells have no variance; cells drawn by themselves would have.
    cells = {f"{at}": [[1.0], [-1.0]] for at in range(6)}
    assert hierarchical_bootstrap(cells, rng=np.random.default_rng(0))[:] == (1.0, 1.0, 1.0)


def test_the_variance_of_the_draws_is_that_of_two_levels():
    rng = np.random.default_rng(5)
    cells = cells_of(rng, tasks=10, cells=1, seeds=6, between=0.3, within=0.3)
    drawn = []

    def recorded(sample):
        means = geometric_mean(sample)
        drawn.append(np.log(np.atleast_1d(means)))
        return means

    hierarchical_bootstrap(cells, recorded, rng=np.random.default_rng(0))
    values = np.array([cells[task][0] for task in cells])
    expected = values.mean(axis=1).var() / 10 + values.var(axis=1).mean() / 6 / 10
    assert np.concatenate(drawn).var() == pytest.approx(expected, rel=0.05)


def test_ragged_cells_keep_their_own_numbers_of_seeds_and_cells():
    cells = {"a": [[0.0, 0.2], [0.1, 0.1, 0.1, 0.1]], "b": [[0.3]]}
    estimate = hierarchical_bootstrap(cells, rng=np.random.default_rng(0), draws=500)
    assert estimate.value == pytest.approx(math.exp((0.1 + 0.1 + 0.3) / 3))
    assert estimate.low >= math.exp(0.05) - 1e-9  # both tasks drawn from a, all seeds at 0
    assert estimate.high == pytest.approx(math.exp(0.3))


def test_the_order_of_tasks_does_not_matter_and_the_seed_decides_all():
    cells = cells_of(np.random.default_rng(0))
    turned = dict(reversed(cells.items()))
    first, second, other = (
        hierarchical_bootstrap(given, rng=np.random.default_rng(seed), draws=1500)
        for given, seed in ((cells, 7), (turned, 7), (cells, 8))
    )
    assert first == second
    assert first != other


def test_the_interval_covers_the_mean_of_all_tasks_about_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        interval = hierarchical_bootstrap(cells_of(rng), rng=rng, draws=400)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


@pytest.mark.parametrize("cells", [{}, {"a": []}, {"a": [[]]}, {"a": [[0.0]], "b": []}])
def test_a_task_without_a_value_is_refused(cells):
    with pytest.raises(ValueError, match="every task needs a cell"):
        hierarchical_bootstrap(cells, rng=np.random.default_rng(0))


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="ln ratios of a must be finite"):
        hierarchical_bootstrap({"a": [[0.0, -math.inf]]}, rng=np.random.default_rng(0))


def test_leaving_one_out_shows_the_task_that_carries_the_mean():
    cells = {"a": [[0.0]], "b": [[0.0]], "c": [[0.9]]}
    low, low_without, high, _ = leave_one_out(cells)
    assert (low, low_without) == (1.0, "c")
    assert high == pytest.approx(math.exp(0.45))
    with pytest.raises(ValueError, match="two tasks or more"):
        leave_one_out({"a": [[0.0]]})


def test_holm_gives_the_values_that_r_gives():
    # p.adjust(p, "holm")
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.5, 0.001, 0.9]) == pytest.approx([1.0, 0.003, 1.0])
    assert holm([]) == []
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        holm([1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10), st.floats(0.001, 0.2))
def test_holm_rejects_what_stepping_down_rejects(p_values, alpha):
    rejected: set[int] = set()
    for rank, at in enumerate(sorted(range(len(p_values)), key=lambda at: p_values[at])):
        if p_values[at] * (len(p_values) - rank) > alpha:
            break
        rejected.add(at)
    assert {at for at, p in enumerate(holm(p_values)) if p <= alpha} == rejected
