"""Intervals and verdicts."""

import math

import numpy as np
import pytest
from scipy import stats

from lrpilot.bench.statistics.stats import interval, verdict

INF = math.inf


def test_interval_is_the_one_scipy_computes():
    values = [0.3, 0.1, 0.4, 0.15, 0.9]
    mean, error = np.mean(values), stats.sem(values)
    assert interval(values) == pytest.approx(stats.t.interval(0.95, 4, mean, error))


def test_one_value_has_no_interval():
    assert interval([1.0]) is None
    assert interval([]) is None


def test_interval_of_five_normal_values_covers_the_mean_95_percent_of_the_time():
    rng = np.random.default_rng(0)
    intervals = [interval(list(rng.normal(size=5))) for _ in range(4000)]
    covered = [low <= 0 <= high for low, high in intervals]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("losses", "reference", "expected"),
    [
        ([1.0, 1.1, 1.2], [1.0, 1.1, 1.2], "good or better"),
        ([0.5, 0.6, 0.7], [1.0, 1.1, 1.2], "good or better"),
        ([1.02, 1.12, 1.22], [1.0, 1.1, 1.2], "good or better"),  # 2 % worse is within 5 %
        ([1.2, 1.3, 1.4], [1.0, 1.1, 1.2], "worse"),
        ([0.5, 1.5, 1.2], [1.0, 1.1, 1.2], "undecided"),
        ([-1.0, -1.1], [-1.0, -1.1], "good or better"),
        ([-0.5, -0.6], [-1.0, -1.1], "worse"),
        ([1.0, INF, 1.0], [1.0, 1.0, 1.0], "worse"),
        ([1.0, 1.0, 1.0], [1.0, INF, 1.0], "good or better"),
        ([9.0, 9.0, 9.0], [1.0, INF, 1.0], "worse"),
        ([1.0, 1.0], [1.0, INF], "undecided"),
        ([1.0], [INF], "undecided"),
        ([INF], [1.0], "undecided"),
        ([1.0, INF], [1.0, INF], "undecided"),
        ([1.0], [2.0], "undecided"),
    ],
)
def test_verdict(losses, reference, expected):
    assert verdict(losses, reference) == expected


def test_a_true_tie_is_called_worse_at_most_5_percent_of_the_time():
    rng = np.random.default_rng(1)
    worse = 0
    for _ in range(2000):
        reference = 1 + 0.1 * rng.normal(size=5)
        tied_at_the_margin = reference + 0.05 * reference.mean() + 0.05 * rng.normal(size=5)
        worse += verdict(list(tied_at_the_margin), list(reference)) == "worse"
    assert worse / 2000 < 0.065


def test_verdict_does_not_depend_on_the_unit_of_the_loss():
    losses, reference = [1.0, 1.2, 1.1], [1.05, 1.15, 1.2]
    scaled = verdict([1000 * loss for loss in losses], [1000 * loss for loss in reference])
    assert verdict(losses, reference) == scaled
