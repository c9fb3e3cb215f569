"""Responses to the rate and expected bests."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.bench.statistics.response import expected_best, robustness_range

GRID = [10 ** (at / 2) for at in range(-10, 1)]
equivalents = st.lists(st.floats(0.25, 2), min_size=11, max_size=11)


def test_ends_are_interpolated_in_logarithms():
    response = robustness_range([0.1, 1.0, 10.0, 100.0], [0.25, 1.0, 1.0, 0.125])
    assert response.low == pytest.approx(10**-0.5)
    assert response.high == pytest.approx(10 ** (1 + 1 / 3))
    assert response.decades == pytest.approx(0.5 + 1 + 1 / 3)
    assert (response.open_below, response.open_above) == (False, False)


def test_only_the_stretch_around_the_best_counts_as_range():
    values = [0.6, 0.3, 0.3, 0.9, 1.0, 0.9, 0.3, 0.7, 0.7, 0.3, 0.3]
    response = robustness_range(GRID, values)
    assert response.usable == 6
    assert 1.0 < response.decades < 2.0
    assert response.low is not None
    assert GRID[2] < response.low < GRID[3]
    assert response.worst == 0.3
    assert response.mean == pytest.approx(math.exp(np.mean(np.log(values))))


def test_a_range_that_reaches_the_edge_of_the_grid_says_so():
    response = robustness_range([0.1, 1.0, 10.0], [1.0, 1.0, 0.25])
    assert (response.open_below, response.open_above) == (True, False)
    assert response.low == pytest.approx(0.1)


def test_without_a_usable_rate_there_is_no_range():
    response = robustness_range([0.1, 1.0], [0.3, 0.49])
    assert (response.decades, response.low, response.high, response.usable) == (0, None, None, 0)
    assert not response.open_above


@given(equivalents, st.floats(0.25, 2), st.floats(0.25, 2))
def test_a_higher_level_never_widens_the_range(values, one, other):
    low, high = sorted((one, other))
    wide, narrow = (robustness_range(GRID, values, level) for level in (low, high))
    assert narrow.decades <= wide.decades + 1e-9
    assert narrow.usable <= wide.usable


@given(equivalents, st.floats(0.3, 1.5))
def test_turning_the_grid_around_changes_no_width_if_the_best_is_unique(values, level):
    if values.count(max(values)) > 1:
        return
    turned = robustness_range(GRID, values[::-1], level)
    assert turned.decades == pytest.approx(robustness_range(GRID, values, level).decades)


@pytest.mark.parametrize(
    ("lrs", "values", "message"),
    [
        ([1.0, 0.1], [1.0, 1.0], "must rise"),
        ([], [], "must rise"),
        ([0.1, 1.0], [1.0], "one value per rate"),
        ([0.1, 1.0], [1.0, 0.0], "positive"),
        ([0.1, 1.0], [1.0, math.nan], "positive"),
    ],
)
def test_bad_responses_are_refused(lrs, values, message):
    with pytest.raises(ValueError, match=message):
        robustness_range(lrs, values)


@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5]), st.floats(0, 1)), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_the_expected_best_is_the_mean_over_all_draws(pairs, k):
    values, reported = zip(*pairs, strict=True)
    outcomes = []
    for drawn in itertools.product(pairs, repeat=k):
        best = max(value for value, _ in drawn)
        tied = [test for value, test in drawn if value == best]
        outcomes.append(np.mean(tied))
    assert expected_best(values, k, reported) == pytest.approx(np.mean(outcomes))


@given(equivalents, st.integers(1, 20))
def test_more_trials_never_expect_less(values, k):
    assert expected_best(values, k + 1) >= expected_best(values, k) - 1e-12
    assert expected_best(values, 1) == pytest.approx(np.mean(values))
    assert expected_best(values, 10_000) == pytest.approx(max(values))


def test_choosing_by_validation_does_not_report_the_best_test():
    assert expected_best([1.0, 2.0], k=1000, reported=[9.0, 3.0]) == pytest.approx(3.0)
    with pytest.raises(ValueError, match="at least 1"):
        expected_best([1.0], k=0)
    with pytest.raises(ValueError, match="values is empty"):
        expected_best([], k=1)
