import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lrpilot.schedules.greedy.trend import FEWEST, Evidence, critical, fit, with_block

series = st.lists(st.floats(-100, 100), min_size=FEWEST, max_size=90).filter(
    lambda means: (
        np.ptp(means - np.poly1d(np.polyfit(range(len(means)), means, 1))(range(len(means)))) > 1e-3
    )
)


def evidence_of(means) -> Evidence:
    evidence = Evidence()
    for mean in means:
        evidence = with_block(evidence, float(mean))
    return evidence


@given(series)
def test_the_line_is_that_of_least_squares(means):
    line = fit(evidence_of(means))
    theirs = stats.linregress(range(len(means)), means)
    assert line.slope == pytest.approx(theirs.slope, rel=1e-6, abs=1e-9)
    end = theirs.intercept + theirs.slope * (len(means) - 1)
    assert line.level == pytest.approx(end, rel=1e-6, abs=1e-7)


@given(series)
def test_the_error_is_that_of_independent_residuals_or_larger(means):
    assert (
        fit(evidence_of(means)).slope_error
        >= 0.999999 * stats.linregress(range(len(means)), means).stderr
    )


def test_without_correlation_the_error_is_the_textbooks():
    means = np.tile([1.0, -1.0], 20) + np.arange(40)  # neighbours correlate negatively
    assert fit(evidence_of(means)).slope_error == pytest.approx(
        stats.linregress(range(40), means).stderr, rel=1e-9
    )


@pytest.mark.parametrize("correlation", [0.3, 0.6, 0.8])
def test_the_error_minds_autocorrelation(correlation):
    """On average it is that of the true spread of slopes, where the textbook's is far too small."""
    rng = np.random.default_rng(0)
    slopes, errors, textbook = [], [], []
    for _ in range(400):
        noise = rng.normal(size=90)
        for t in range(1, 90):
            noise[t] += correlation * noise[t - 1]
        line = fit(evidence_of(noise))
        slopes.append(line.slope)
        errors.append(line.slope_error)
        textbook.append(stats.linregress(range(90), noise).stderr)
    spread = np.std(slopes)
    assert 0.8 * spread < np.mean(errors) < 1.3 * spread
    assert np.mean(textbook) < 0.8 * spread


@given(st.floats(-1e150, 1e150), st.integers(FEWEST, 90))
def test_a_constant_has_no_slope_and_no_error(mean, blocks):
    line = fit(evidence_of([mean] * blocks))
    assert (line.slope, line.slope_error, line.deviation, line.level) == (0.0, 0.0, 0.0, mean)


@given(st.lists(st.floats(-1e150, 1e150), min_size=FEWEST, max_size=90))
def test_the_fit_of_the_largest_losses_stays_finite(means):
    assert all(math.isfinite(value) for value in fit(evidence_of(means)))


@pytest.mark.parametrize("z", [1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("freedom", [10, 25, 58, 88])
def test_the_critical_value_is_students(z, freedom):
    exact = stats.t.isf(stats.norm.sf(z), freedom)
    assert critical(z, freedom) == pytest.approx(exact, rel=0.03)
