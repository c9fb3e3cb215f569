"""What a policy sees depends on the course of the losses alone."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lrpilot.schedules.learned.features import NAMES, Numbers, begun, features, seen_with
from lrpilot.schedules.learned.learned import Sums, closed

moderate = st.integers(1, 4000).map(lambda n: n / 8)
awkward = st.sampled_from([0.0, 1e-320, 1e140, -1e140, 1.0, -1.0])
courses = st.lists(st.lists(moderate, min_size=3, max_size=3), min_size=1, max_size=12)


def shown(windows, xp=Numbers, scale=1.0, shift=0.0, weights=(0.1, math.e, 0.2)):
    """The features after windows of losses; with NumPy, of two equal runs at once."""
    seen = None
    for losses in windows:
        losses = [scale * loss + shift for loss in losses]
        apart = sum((b - a) ** 2 for a, b in itertools.pairwise(losses))
        total, told = math.fsum(losses), [0.3, 0.5, 1.0]
        aligned, persisted = Sums().plus(0.3), Sums()
        if xp is np:
            total, apart, told = (np.tile(x, (2, 1)).T for x in (total, apart, told))
            total, apart = total[0], apart[0]
        for one in told:
            persisted = persisted.plus(one)
        window = closed(len(losses), total, apart, aligned, persisted, xp, weights)
        seen = begun(window) if seen is None else seen_with(seen, window, xp)
    return dict(zip(NAMES, features(seen, 3, 0.5, 0.1, -0.2, xp), strict=True))


def test_a_course_worked_by_hand():
    """Averages 3 (fast) and 3.7 (slow), noise √½, gained 1, standard error √⅓.

    The persistences 0.3, 0.5 and 1 have the mean 0.6 and the variance 0.13.
    """
    assert shown([[4.5, 3.5], [2.5, 1.5]]) == pytest.approx(
        {
            "progress": 0.5,
            "offset": 0.1,
            "action": -0.2,
            "evidence": math.log(1 + 2 * math.sqrt(3)),
            "trend": math.log(1 + 0.7 * math.sqrt(3)),
            "speed": math.log(1 + 20 * 0.7),
            "setback": 0.0,
            "noise": math.log(math.sqrt(0.5)) / 5,
            "noise growth": 0.0,
            "level": math.log(3 / 4) / 3,
            "alignment": math.log(0.3) / 2,
            "persistence": 0.6,
            "certainty": math.log(1 + 0.6 / math.sqrt(0.13 / 3)),
            "movement": math.log(0.1) / 3 + 1,
            "travel": 1 / 2,
            "evenness": -2.0,
        },
        rel=1e-5,
    )


def test_weights_that_are_not_known_show_0_and_odd_ones_a_bound():
    def of_weights(*weights):
        found = shown([[4.5, 3.5]], weights=weights)
        return [found[name] for name in ("movement", "travel", "evenness")]

    assert of_weights(0.0, 0.0, 0.0) == [0, 0, 0]
    assert of_weights(1e-300, 1e-300, 1e-300) == [-2, -2, -2]
    assert of_weights(1e100, 1e100, math.sqrt(2 / math.pi)) == [2, 2, 0]


@given(windows=courses, power=st.integers(-40, 40))
def test_a_power_of_two_times_the_loss_changes_no_feature(windows, power):
    assert shown(windows) == shown(windows, scale=2.0**power)


@given(windows=courses, scale=st.floats(1e-6, 1e6))
def test_the_unit_of_the_loss_changes_no_feature(windows, scale):
    ours, theirs = shown(windows), shown(windows, scale=scale)
    # Rounding shows where a difference of averages is next to 0 and divided by a noise of 0.
    assume(abs(ours["evidence"]) < 7 and abs(ours["trend"]) < 7)
    assert ours == pytest.approx(theirs, abs=1e-4)


@given(windows=courses, shift=st.integers(-400, 400).map(lambda n: n / 8))
def test_a_constant_added_to_the_loss_changes_the_level_alone(windows, shift):
    ours, theirs = shown(windows), shown(windows, shift=shift)
    assume(ours["noise"] > -1.9)  # what no difference is smaller than is a share of the loss
    del ours["level"], theirs["level"]
    assert ours == pytest.approx(theirs, abs=1e-6)


@given(windows=st.lists(st.lists(moderate | awkward, min_size=1, max_size=4), min_size=1))
def test_every_feature_is_finite_and_moderate(windows):
    for feature in shown(windows).values():
        assert type(feature) is float
        assert -8 <= feature <= 8


@given(windows=st.lists(st.lists(moderate | awkward, min_size=1, max_size=4), min_size=1))
def test_many_runs_see_what_one_does(windows):
    one, many = shown(windows), shown(windows, xp=np)
    for name, feature in one.items():
        assert np.broadcast_to(many[name], 2) == pytest.approx([feature] * 2, abs=1e-9)


@pytest.mark.parametrize(
    ("told", "mean", "certainty"),
    [
        ([], 0, 0),
        ([0.7], 0.7, 0),
        ([0.0, 0.0], 0, 0),
        ([1.0, 3.0], 2, 2),
        ([-1.0, -3.0], -2, -2),
        ([0.5] * 9, 0.5, 1e6),
    ],
)
def test_a_mean_is_as_certain_as_its_standard_error_says(told, mean, certainty):
    sums = Sums()
    for one in told:
        sums = sums.plus(one)
    assert sums.mean(Numbers) == mean
    assert sums.certainty(Numbers) == pytest.approx(certainty, rel=1e-4)
    many = Sums()
    for one in [*told, math.nan]:
        known = np.array([math.isfinite(one), False])
        many = many.plus(np.where(known, one, 0.0), known)
    assert np.broadcast_to(many.mean(np, unknown=1.0), 2).tolist() == [mean if told else 1.0, 1.0]
    assert many.certainty(np) == pytest.approx([sums.certainty(Numbers), 0], rel=1e-6)
