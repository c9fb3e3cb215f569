"""Reference curves, budget-equivalents and admissibility."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from lrpilot.bench.statistics.reference import ReferenceCurve, admissible, judge, non_increasing

INF = math.inf
HORIZONS = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0)

positive = st.floats(1e-3, 1e3)
curves = st.builds(
    lambda losses: ReferenceCurve(horizons=HORIZONS, losses=tuple((loss,) for loss in losses)),
    st.lists(positive, min_size=6, max_size=6),
)


def power_law(exponent=0.5, seeds=10, sd=0.0, floor=0.0, seed=0) -> ReferenceCurve:
    """R(h) = floor + h^-exponent, with noise shared by a seed's horizons and noise that is not."""
    rng = np.random.default_rng(seed)
    noise = sd * (rng.normal(size=(1, seeds)) + 0.2 * rng.normal(size=(6, seeds)))
    losses = floor + np.array(HORIZONS)[:, None] ** -exponent * np.exp(noise)
    return ReferenceCurve(horizons=HORIZONS, losses=tuple(map(tuple, losses.tolist())), floor=floor)


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(0.1, 10)), min_size=1, max_size=20))
def test_pooling_is_the_isotonic_regression_of_scikit_learn(pairs):
    values, weights = zip(*pairs, strict=True)
    fitted = IsotonicRegression(increasing=False).fit_transform(
        np.arange(len(values)), values, sample_weight=weights
    )
    assert non_increasing(values, weights) == pytest.approx(list(fitted), abs=1e-9)


@given(st.floats(0.25, 2.0), st.floats(0.1, 3.0), st.floats(0, 5))
def test_a_power_law_is_inverted_exactly(horizon, exponent, floor):
    curve = power_law(exponent, floor=floor)
    assert curve.budget_equivalent(floor + horizon**-exponent) == pytest.approx(horizon, rel=1e-6)
    assert curve.loss_at(horizon) == pytest.approx(floor + horizon**-exponent)
    assert curve.elasticity() == pytest.approx(exponent)


@given(curves, positive, positive)
def test_the_budget_equivalent_never_rises_with_the_loss_and_stays_in_the_horizons(
    curve, one, other
):
    low, high = sorted((one, other))
    assert 2.0 >= curve.budget_equivalent(low) >= curve.budget_equivalent(high) >= 0.25


@given(curves, positive, st.floats(1e-3, 1e3))
def test_the_unit_of_the_loss_does_not_matter(curve, loss, unit):
    scaled = ReferenceCurve(horizons=HORIZONS, losses=tuple((unit * x,) for (x,) in curve.losses))
    # Off the stretches where rounding decides on which side of a jump the loss lies.
    if min(abs(math.log(loss) - value) for value in curve.log_excess) < 1e-9:
        return
    assert scaled.budget_equivalent(unit * loss) == pytest.approx(
        curve.budget_equivalent(loss), rel=1e-6
    )


@given(curves, st.floats(0.25, 2.0))
def test_the_equivalent_is_the_smallest_budget_that_reaches_the_loss(curve, horizon):
    loss = curve.loss_at(horizon)
    reached = curve.budget_equivalent(loss * (1 + 1e-9))
    assert reached <= horizon * (1 + 1e-6)
    assert curve.loss_at(reached) <= loss * (1 + 1e-6)


def test_a_flat_stretch_is_inverted_to_its_start():
    curve = ReferenceCurve(horizons=(0.5, 1.0, 2.0), losses=((1.0,), (0.5,), (0.5,)))
    assert curve.budget_equivalent(0.5) == pytest.approx(1.0)
    assert curve.budget_equivalent(0.499) == 2.0
    violated = ReferenceCurve(horizons=(0.5, 1.0, 2.0), losses=((4.0,), (0.5,), (2.0,)))
    assert violated.loss_at(1.0) == pytest.approx(1.0)  # the geometric mean of the two
    assert violated.loss_at(2.0) == pytest.approx(1.0)


def test_beyond_the_curve_it_is_clipped_and_says_so():
    curve = power_law()
    assert [curve.budget_equivalent(x) for x in (100.0, 2.001, 1e-9)] == [0.25, 0.25, 2.0]
    assert [curve.censored(x) for x in (100.0, 2.001, 1e-9)] == [True, True, True]
    assert not any(curve.censored(x) for x in (1.99, 1.0, 0.71))


@pytest.mark.parametrize("lost", [None, INF, math.nan, -INF])
def test_a_lost_run_is_worth_the_lowest_horizon(lost):
    assert power_law().budget_equivalent(lost) == 0.25
    assert power_law().censored(lost)


def test_a_loss_at_or_below_the_floor_is_worth_the_highest_horizon():
    curve = power_law(floor=1.0)
    assert curve.budget_equivalent(1.0) == 2.0
    assert curve.budget_equivalent(-3.0) == 2.0
    assert curve.censored(1.0)


def test_one_lost_or_stuck_seed_in_ten_moves_the_curve_little():
    clean = power_law(sd=0.01)
    spoilt = [list(losses) for losses in clean.losses]
    spoilt[3][0], spoilt[4][1] = INF, 1e6
    curve = ReferenceCurve(horizons=HORIZONS, losses=tuple(map(tuple, spoilt)))
    for horizon in HORIZONS:
        assert curve.loss_at(horizon) == pytest.approx(clean.loss_at(horizon), rel=0.01)


def test_json_gives_the_same_curve_back_lost_runs_included():
    losses = tuple((1 / h, 2 / h, INF) for h in HORIZONS)
    curve = ReferenceCurve(horizons=HORIZONS, losses=losses, floor=0.1)
    text = json.dumps(curve.to_plain(), allow_nan=False)
    assert ReferenceCurve.from_plain(json.loads(text)) == curve


@pytest.mark.parametrize(
    ("horizons", "losses", "floor", "message"),
    [
        ((1.0, 0.5), ((1.0,), (1.0,)), 0.0, "must rise"),
        ((1.0,), ((1.0,),), 0.0, "two or more"),
        ((0.0, 1.0), ((1.0,), (1.0,)), 0.0, "must be positive"),
        ((0.5, 1.0), ((1.0,), (0.0,)), 0.0, "above the floor .* give the task's lowest"),
        ((0.5, 1.0), ((1.0,), (-1.0,)), 0.0, "above the floor"),
        ((0.5, 1.0), ((3.0,), (2.0,)), 2.0, r"floor \(2\).* got 2 at horizon 1"),
        ((0.5, 1.0), ((3.0,),), 0.0, "one tuple per horizon"),
        ((0.5, 1.0), ((3.0,), (2.0, 1.0)), 0.0, "same seeds"),
        ((0.5, 1.0), ((), ()), 0.0, "same seeds"),
        ((0.5, 1.0), ((3.0,), (math.nan,)), 0.0, "NaN"),
        ((0.5, 1.0), ((3.0, 3.0), (2.0, INF)), 0.0, "half of the reference's runs"),
    ],
)
def test_curves_that_cannot_be_are_refused(horizons, losses, floor, message):
    with pytest.raises(ValueError, match=message):
        ReferenceCurve(horizons=horizons, losses=losses, floor=floor)


def test_the_reference_judged_against_itself_is_not_worse():
    curve = power_law(sd=0.1)
    result = judge(curve, curve.losses[3], curve.losses[3])
    assert (result.verdict, result.mean, result.ratio) == ("not worse", 0.0, 1.0)


def test_the_reference_at_0_7_budgets_is_judged_to_have_a_ratio_of_0_7():
    curve = power_law(sd=0.02)
    result = judge(curve, curve.losses[2], curve.losses[3])
    assert result.verdict == "worse"
    assert result.ratio == pytest.approx(0.7, abs=0.01)


def test_both_methods_lost_on_every_seed_leave_the_cell_undecided():
    result = judge(power_law(), [None, INF, math.nan], [INF, None, 1e9])
    assert (result.verdict, result.uninformative) == ("undecided", 3)


def test_one_lost_one_beyond_the_best_is_information():
    result = judge(power_law(), [1e-9] * 3, [None] * 3)
    assert (result.verdict, result.uninformative) == ("better", 0)
    assert result.ratio == pytest.approx(8.0)


def test_a_steep_quiet_task_on_which_constant_loses_is_admissible():
    curve = power_law(sd=0.02)
    at_budget = curve.losses[3]
    worse = [1.2 * loss for loss in at_budget]
    assert _reasons(curve, constant=worse) == []


@pytest.mark.parametrize(
    ("curve", "changed", "reason"),
    [
        (power_law(0.01), {}, "saturated: elasticity 0.010"),
        (power_law(0.1, sd=0.5), {}, "flat: from 0.25 to 0.5 budgets"),
        (power_law(0.0), {}, "flat"),
        (power_law(), {"best_at_edge": True}, "edge"),
        (power_law(), {"diverged_share": 0.05}, "unstable: 5%"),
        (power_law(sd=0.02), {"constant": power_law(sd=0.02).losses[3]}, "constant ties"),
        (power_law(), {"constant": [1.2, 1.2, 0.5, 0.9]}, "constant ties: .* undecided"),
    ],
)
def test_each_way_not_to_discriminate_is_named(curve, changed, reason):
    reasons = _reasons(curve, **changed)
    assert any(_matches(reason, text) for text in reasons), reasons


def test_a_curve_without_an_octave_cannot_be_shown_to_fall():
    curve = ReferenceCurve(horizons=(0.7, 1.0), losses=((2.0, 2.0), (1.0, 1.0)))
    assert any("no octave" in text for text in _reasons(curve))


def test_a_lost_constant_counts_as_worse():
    assert _reasons(power_law(sd=0.02), constant=[None] * 10) == []


def _reasons(curve, best_at_edge=False, diverged_share=0.0, constant=None):
    reference = curve.losses[-3] if len(curve.losses) == 6 else curve.losses[-1]
    constant = [1.3 * loss for loss in reference] if constant is None else constant
    return admissible(
        curve,
        best_at_edge=best_at_edge,
        diverged_share=diverged_share,
        constant_losses=constant,
        reference_losses=list(reference)[: len(constant)],
    )


def _matches(reason, text):
    first, _, last = reason.partition(".*")
    return text.startswith(first.strip()) and last.strip() in text
