"""Intervals and verdicts on differences of losses over paired seeds, as `compare` shows them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal

from scipy.special import stdtrit  # scipy.stats would take most of a second to import

Verdict = Literal["good or better", "worse", "undecided"]

CONFIDENCE = 0.95
MARGIN = 0.05  # of the reference's mean loss


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Two-sided t interval of the mean; None for fewer than two values.

    Student's t, because a percentile bootstrap of 3 to 10 seeds is far too narrow.

    >>> low, high = interval([1.0, 2.0, 3.0])
    >>> round(low, 3), round(high, 3)
    (-0.484, 4.484)
    """
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = t_quantile(confidence + (1 - confidence) / 2, len(values)) * standard_error(values)
    return mean - half, mean + half


def verdict(losses: Sequence[float], reference: Sequence[float], margin: float = MARGIN) -> Verdict:
    """Whether ``losses`` are as good as the ``reference``'s, seed by seed, within ``margin``.

    losses, reference: final losses of the same seeds in the same order, lower is better; infinite
        for a run that did not end with a finite loss.
    margin: what counts as equal, as a fraction of the size of the reference's mean loss.

    "good or better" if the one-sided 95 % upper bound of the mean paired difference is below the
    margin; "worse" if its lower bound is above; otherwise "undecided". Losing more runs than the
    reference is "worse", losing as many or fewer, but some, "undecided". That the reference alone
    loses runs is no win by itself: the seeds that both finished decide.

    >>> verdict([1.00, 1.01, 0.99], reference=[1.01, 1.00, 1.00])
    'good or better'
    >>> verdict([2.0, 2.1, 2.2], reference=[1.0, 1.1, 1.2])
    'worse'
    >>> verdict([1.0], reference=[1.0])
    'undecided'
    """
    lost, lost_by_reference = (sum(map(math.isinf, runs)) for runs in (losses, reference))
    pairs = [
        (loss, other)
        for loss, other in zip(losses, reference, strict=True)
        if math.isfinite(loss) and math.isfinite(other)
    ]
    if lost > lost_by_reference and len(losses) > 1:
        return "worse"
    if lost or len(pairs) < 2:
        return "undecided"
    differences = [loss - other for loss, other in pairs]
    mean = statistics.fmean(differences)
    half = t_quantile(CONFIDENCE, len(differences)) * standard_error(differences)
    equal = margin * abs(statistics.fmean(other for _, other in pairs))
    if mean + half <= equal:
        return "good or better"
    return "worse" if mean - half > equal else "undecided"


def standard_error(values: Sequence[float]) -> float:
    """Of the mean of two or more values."""
    return statistics.stdev(values) / math.sqrt(len(values))


def t_quantile(probability: float, count: int) -> float:
    """Of Student's t for the mean of ``count`` values."""
    return float(stdtrit(count - 1, probability))
