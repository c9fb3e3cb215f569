"""Whether a noisy loss falls or rises: the slope through block means against its standard error.

Everything is plain arithmetic, so that the rule on floats and its twin on arrays share it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

FEWEST = 4  # block means for which there is a fit with an error
TINY = 1e-300  # keeps quotients of zero by zero at zero
LARGEST_CORRELATION = 0.95

# A named tuple's own constructor costs three times as much, and these run often.
_new = tuple.__new__


class Evidence(NamedTuple):
    """Sums over the block means since the last verdict; all that the fit needs.

    With block means y_0, y_1, ... and u_t = y_t - y_0, which keeps the sums free of cancellation.
    """

    blocks: int = 0  # n
    first: float = 0.0  # y_0
    last: float = 0.0  # y_(n-1)
    sum_u: float = 0.0
    sum_tu: float = 0.0
    sum_uu: float = 0.0
    sum_dd: float = 0.0  # of squared differences between neighbours
    climbs: int = 0  # neighbours of which the later is higher, less those of which it is lower


class Fit(NamedTuple):
    """The straight line through the block means."""

    slope: float  # per block
    slope_error: float
    level: float  # of the line at the last block
    level_error: float
    deviation: float  # of a block mean from the line


def with_block(evidence: Evidence, mean: float) -> Evidence:
    """The sums once one more block mean is known."""
    n, first, last, sum_u, sum_tu, sum_uu, sum_dd, climbs = evidence
    if n == 0:
        return Evidence(1, mean, mean)
    u, d = mean - first, mean - last
    sums = (sum_u + u, sum_tu + n * u, sum_uu + u * u, sum_dd + d * d)
    return _new(Evidence, (n + 1, first, mean, *sums, climbs + (d > 0) - (d < 0)))


def fit(
    evidence: Evidence,
    sqrt: Callable[[Any], Any] = math.sqrt,
    larger: Callable[[Any, Any], Any] = max,
    smaller: Callable[[Any, Any], Any] = min,
) -> Fit:
    """Least squares through ``FEWEST`` or more block means, minding their autocorrelation.

    The residuals' correlation between neighbours, r, is taken from the ratio of their squared
    differences to their squares (von Neumann 1941) and raised by 1/n for its bias; n values
    count as n (1 - r) / (1 + r) independent ones. Negative correlation is not made use of.

    >>> line = fit(Evidence(4, 3.0, 0.0, -6.0, -14.0, 14.0, 3.0))  # through 3, 2, 1, 0
    >>> line.slope, line.level, line.slope_error
    (-1.0, 0.0, 0.0)
    """
    n, first, last, sum_u, sum_tu, sum_uu, sum_dd, _ = evidence
    half = (n - 1) / 2
    sum_xx = n * (n * n - 1) / 12
    slope = (sum_tu - half * sum_u) / sum_xx
    residuals = larger(sum_uu - sum_u * sum_u / n - slope * slope * sum_xx, 0.0)
    differences = larger(sum_dd - 2 * slope * (last - first) + (n - 1) * slope * slope, 0.0)
    r = 1 - differences / (2 * larger(residuals, TINY)) + 1 / n
    r = smaller(larger(r, 0.0), LARGEST_CORRELATION)
    variance = residuals / (n - 2)
    inflated = variance * ((1 + r) / (1 - r))
    slope_error, level_error = sqrt(inflated / sum_xx), 2 * sqrt(inflated / n)
    level = first + sum_u / n + slope * half
    return _new(Fit, (slope, slope_error, level, level_error, sqrt(variance)))


def critical(z: float, freedom: Any) -> Any:
    """Student's t that is as rare at ``freedom`` degrees of freedom as ``z`` is for a normal.

    The series in 1/freedom of Abramowitz and Stegun 26.7.5, three terms.

    >>> round(critical(2.0, 30), 2)  # exact: 2.09
    2.09
    """
    a = (z**3 + z) / 4
    b = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    c = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + (a + (b + c / freedom) / freedom) / freedom
