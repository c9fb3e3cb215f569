"""The verdict on a cell."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lrpilot.bench.statistics.paired import cell_verdict, p_above

BOUND = math.log(0.95)
differences = st.lists(st.floats(-1, 1), min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.10, 0.11, 0.12], "better"),
        ([0.01, -0.01, 0.0, 0.005, -0.005], "not worse"),
        ([-0.2, -0.21, -0.19], "worse"),
        ([0.5, -0.5, 0.1], "undecided"),
        ([-0.05, -0.06, -0.05, -0.045], "undecided"),  # around the margin
        ([0.3], "undecided"),
        ([], "undecided"),
        ([0.0, 0.0, 0.0], "not worse"),  # the reference against itself
        ([0.02, 0.02], "better"),  # no variance
        ([-0.02, -0.02], "not worse"),
        ([-0.5, -0.5], "worse"),
    ],
)
def test_verdict_on_a_cell(values, expected):
    assert cell_verdict(values).verdict == expected


@given(differences)
def test_p_values_are_those_of_scipy(values):
    if np.std(values) < 1e-6:
        return
    result = cell_verdict(values)
    for bound, p in ((BOUND, result.p_not_worse), (0.0, result.p_better)):
        expected = stats.ttest_1samp(values, bound, alternative="greater").pvalue
        assert p == pytest.approx(expected, abs=1e-12)


@given(differences)
def test_verdicts_and_p_values_agree(values):
    result = cell_verdict(values)
    if result.verdict == "better":
        assert result.p_better <= 0.05 + 1e-9
        assert result.p_not_worse <= result.p_better
    if result.verdict == "not worse":
        assert result.p_not_worse <= 0.05 + 1e-9 <= result.p_better + 2e-9
    if result.verdict == "worse":
        assert result.p_not_worse >= 0.95 - 1e-9
    if result.verdict == "undecided":
        assert 0.05 - 1e-9 <= result.p_not_worse <= 0.95 + 1e-9


@given(differences, st.floats(0, 0.5))
def test_adding_a_gain_to_every_seed_never_weakens_the_verdict(values, gain):
    order = ["worse", "undecided", "not worse", "better"]
    less, more = cell_verdict(values), cell_verdict([value + gain + 1e-9 for value in values])
    assert order.index(more.verdict) >= order.index(less.verdict)


def test_mean_ratio_and_interval_are_those_of_the_differences():
    values = [0.1, 0.2, 0.4]
    result = cell_verdict(values)
    assert result.ratio == pytest.approx(math.exp(np.mean(values)))
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert result.interval == pytest.approx(expected)
    assert result.seeds == 3


def test_without_a_seed_nothing_is_known():
    result = cell_verdict([])
    assert math.isnan(result.mean)
    assert result.interval is None
    assert (result.p_not_worse, result.p_better) == (1.0, 1.0)


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("sd", [0.02, 0.2])
def test_a_method_at_the_margin_is_called_not_worse_or_worse_5_percent_of_the_time(seeds, sd):
    rng = np.random.default_rng(seeds)
    runs = 3000
    at_margin = [
        cell_verdict(list(BOUND + sd * rng.normal(size=seeds))).verdict for _ in range(runs)
    ]
    noise = 3 * math.sqrt(0.05 * 0.95 / runs)
    good = sum(verdict in ("better", "not worse") for verdict in at_margin) / runs
    assert good == pytest.approx(0.05, abs=noise)
    assert at_margin.count("worse") / runs == pytest.approx(0.05, abs=noise)


def test_an_equal_method_is_called_better_5_percent_of_the_time_and_seldom_missed():
    rng = np.random.default_rng(1)
    verdicts = [cell_verdict(list(0.05 * rng.normal(size=10))).verdict for _ in range(3000)]
    assert verdicts.count("better") / 3000 == pytest.approx(0.05, abs=0.012)
    assert verdicts.count("worse") == 0
    # The power that was planned with: 91 % of ties with 10 seeds and a paired sd of 0.05.
    good = verdicts.count("better") + verdicts.count("not worse")
    assert good / 3000 == pytest.approx(0.91, abs=0.02)


def test_pairs_clipped_on_both_sides_cannot_make_a_verdict():
    values = [0.0] * 8 + [0.3]
    clipped = [True] * 8 + [False]
    assert cell_verdict(values).verdict == "not worse"
    result = cell_verdict(values, uninformative=clipped)
    assert result.verdict == "undecided"
    assert result.p_not_worse == 1.0
    assert (result.seeds, result.uninformative) == (9, 8)


def test_pairs_clipped_on_both_sides_weaken_a_verdict_that_they_contradict():
    better, both = [0.1, 0.11, 0.12, 0.1], [True] * 6
    values = better + [0.0] * 6
    result = cell_verdict(values, uninformative=[False] * 4 + both)
    assert cell_verdict(better).verdict == "better"
    assert result.verdict == "better"  # also with six ties
    worse = cell_verdict([-0.1, -0.11, -0.1] + [0.0] * 6, uninformative=[False] * 3 + both)
    assert worse.verdict == "undecided"


@given(differences, st.data())
def test_without_information_means_p_values_no_smaller(values, data):
    flags = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    plain, flagged = cell_verdict(values), cell_verdict(values, uninformative=flags)
    assert flagged.p_not_worse >= plain.p_not_worse
    assert flagged.p_better >= plain.p_better


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"differences": [0.0, math.inf]}, "must be finite"),
        ({"differences": [0.0, 0.1], "margin": 1.0}, "margin"),
        ({"differences": [0.0, 0.1], "uninformative": [True]}, "one entry per difference"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        cell_verdict(**arguments)


def test_a_wider_margin_accepts_more():
    values = [-0.08, -0.07, -0.09]
    assert cell_verdict(values).verdict == "worse"
    assert cell_verdict(values, margin=0.1).verdict == "not worse"


def test_p_without_variance_is_0_or_1():
    assert p_above([1.0, 1.0], 0.5) == 0.0
    assert p_above([1.0, 1.0], 1.0) == 1.0
