"""Shares of cells, and the share that chance alone yields."""

import math

import numpy as np
import pytest
from scipy import stats

from lrpilot.bench.statistics.shares import (
    exact_interval,
    null_strict_share,
    p_share_above,
    share_not_worse,
    strict_share,
)


def rng():
    return np.random.default_rng(0)


def test_an_undecided_cell_is_no_success():
    verdicts = {"a": ["better", "not worse"], "b": ["worse", "undecided"]}
    share = share_not_worse(verdicts, rng=rng())
    assert (share.value, share.better, share.worse, share.undecided) == (0.5, 0.25, 0.25, 0.25)
    assert (share.cells, share.tasks) == (4, 2)


def test_unanimous_cells_do_not_make_certainty():
    share = share_not_worse({f"{at}": ["not worse"] * 3 for at in range(12)}, rng=rng())
    assert share.value == share.high == 1.0
    assert share.low == pytest.approx(0.9026, abs=1e-4)  # 0.025 ** (1 / 36)


def test_tasks_that_disagree_make_the_interval_wider_than_that_of_independent_cells():
    verdicts = {f"{at}": ["better" if at % 2 else "worse"] * 6 for at in range(10)}
    share = share_not_worse(verdicts, rng=rng())
    low, high = exact_interval(30, 60)
    assert share.low < low
    assert share.high > high
    assert (share.low, share.high) == pytest.approx((0.2, 0.8))  # 10 tasks, half of them good


def test_the_exact_interval_and_test_are_those_of_scipy():
    for good, cells in ((0, 5), (3, 7), (35, 36), (36, 36)):
        test = stats.binomtest(good, cells, 0.9, alternative="greater")
        assert p_share_above(good, cells, 0.9) == pytest.approx(test.pvalue)
        theirs = stats.binomtest(good, cells).proportion_ci(method="exact")
        assert exact_interval(good, cells) == pytest.approx((theirs.low, theirs.high))


def test_no_cell_is_refused():
    with pytest.raises(ValueError, match="no cell"):
        share_not_worse({}, rng=rng())
    with pytest.raises(ValueError, match="no cell"):
        strict_share([], [])
    with pytest.raises(ValueError, match="two finished seeds"):
        null_strict_share([[1.0]], rng=rng())


def test_the_strict_share_compares_means_within_one_percent():
    reference = [[1.0, 3.0]] * 5
    losses = [[2.0, 2.0], [2.0, 2.03], [2.0, 2.05], [2.0, math.inf], [1.0, 1.0]]
    assert strict_share(losses, reference) == pytest.approx(3 / 5)


def test_losing_the_runs_that_the_reference_loses_too_is_no_success():
    assert strict_share([[1.0, math.inf]], [[1.0, math.inf]]) == 0.0
    assert strict_share([[1.0, 9.0]], [[1.0, math.inf]]) == 1.0


def normal_cells(sd, cells=400, seeds=10, seed=1):
    noise = np.random.default_rng(seed).normal(size=(cells, seeds))
    return (1 + sd * noise).tolist()


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.1])
def test_the_independent_null_of_normal_losses_is_the_normal_integral(sd):
    ours = null_strict_share(normal_cells(sd, seeds=200, cells=40), rng=rng(), seeds=5)
    difference = sd * math.sqrt((1 + 1.01**2) / 5)
    assert ours == pytest.approx(stats.norm.cdf(0.01 / difference), abs=0.015)


@pytest.mark.parametrize("sd", [0.005, 0.02, 0.1])
def test_the_paired_null_of_normal_differences_is_the_normal_integral(sd):
    reference = normal_cells(0.3, seeds=200, cells=40)
    differences = (np.array(normal_cells(sd, seeds=200, cells=40, seed=2)) - 1).tolist()
    ours = null_strict_share(reference, differences=differences, rng=rng(), seeds=5)
    assert ours == pytest.approx(stats.norm.cdf(0.01 * math.sqrt(5) / sd), abs=0.02)


def test_the_paired_null_does_not_see_which_method_is_better():
    reference = normal_cells(0.1, cells=20)
    differences = np.random.default_rng(2).normal(size=(20, 10)) * 0.02
    equal = null_strict_share(reference, differences=differences.tolist(), rng=rng())
    shifted = null_strict_share(reference, differences=(differences - 0.5).tolist(), rng=rng())
    assert shifted == pytest.approx(equal, abs=1e-12)


def test_ten_seeds_are_enough_for_the_null_to_come_near_the_truth():
    # On average it is 0.016 too high, since the sd itself is estimated; 0.03 without stretching.
    sd = 0.03
    truth = stats.norm.cdf(0.01 / (sd * math.sqrt((1 + 1.01**2) / 10)))
    ours = null_strict_share(normal_cells(sd, cells=1500), rng=rng(), draws=300)
    assert ours == pytest.approx(truth, abs=0.022)


def test_equal_schedulers_pass_the_strict_test_as_rarely_as_was_measured():
    """Published for tasks with noise of very different size; here its logarithm is normal."""
    generator = np.random.default_rng(4)
    sizes = np.exp(stats.norm.ppf((np.arange(300) + 0.5) / 300))[:, None]  # log-sd 1

    def cells(median):
        return 1 + median * sizes**2.1 * generator.normal(size=(300, 100))

    paired = (cells(0.025) - 1).tolist()
    ones = np.ones((300, 100)).tolist()

    def null(seeds, margin=0.01):
        return null_strict_share(
            ones, differences=paired, rng=rng(), seeds=seeds, margin=margin, draws=300
        )

    assert null(5) == pytest.approx(0.79, abs=0.02)
    assert null(30) == pytest.approx(0.86, abs=0.02)
    assert null(100) == pytest.approx(0.90, abs=0.02)
    assert null(5, margin=0.05) == pytest.approx(0.91, abs=0.02)
    # Independent means differ by the noise of both; measured where it was six times the paired.
    independent = np.exp(0.16 * sizes**2.1 * 0)  # no noise in common
    assert independent.shape == (300, 1)


def test_seeds_lost_by_either_are_left_out_of_the_null():
    reference = [[1.0, math.inf, 1.1, 0.9, 1.0]]
    differences = [[0.01, 0.0, math.nan, 0.0, -0.01]]
    whole = null_strict_share(reference, differences=differences, rng=rng())
    kept = null_strict_share([[1.0, 0.9, 1.0]], differences=[[0.01, 0.0, -0.01]], rng=rng())
    assert whole == kept
    with pytest.raises(ValueError, match="one value per seed"):
        null_strict_share([[1.0, 1.1]], differences=[[0.1]], rng=rng())
