"""Whether a method is as good as the reference in one cell, from budget-equivalents by seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtr

from lrpilot.bench.statistics.stats import CONFIDENCE, MARGIN, interval, standard_error, t_quantile

CellVerdict = Literal["better", "not worse", "worse", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """What the paired seeds of a cell show; logarithms of ratios to the reference.

    mean: of the differences; NaN without a seed. interval: two-sided 95 % t interval.
    p_not_worse: one-sided p value against "worse by the margin or more".
    p_better: one-sided p value against "no better than the reference".
    seeds: how many pairs. uninformative: how many of them were clipped on both sides.
    """

    verdict: CellVerdict
    mean: float
    interval: tuple[float, float] | None
    p_not_worse: float
    p_better: float
    seeds: int
    uninformative: int

    @property
    def ratio(self) -> float:
        """The method's budget-equivalent over the reference's, as a geometric mean."""
        return math.exp(self.mean)


def cell_verdict(
    differences: Sequence[float],
    *,
    margin: float = MARGIN,
    uninformative: Sequence[bool] = (),
) -> CellResult:
    """The strongest thing that one-sided 95 % paired t bounds show.

    differences: ln budget-equivalent of the method minus the reference's, seed by seed.
    margin: which share of the budget counts as equal.
    uninformative: by seed, whether both runs were clipped at the same end of the reference curve
        (both diverged, say), so that their difference of 0 is a convention and no measurement.

    "better": the lower bound is above 0, which implies "not worse": above ln(1 - margin).
    "worse": the upper bound is below ln(1 - margin). Otherwise "undecided", as for fewer than two
    seeds. Without variance both bounds are the mean.

    A convention must not decide: where pairs are uninformative, the verdict is the weaker of that
    on all pairs and that on the informative ones, and p values are the larger. So a cell with
    fewer than two informative pairs is undecided.

    Raises ValueError for a margin outside [0, 1) or differences that are not finite (clip first).

    >>> cell_verdict([0.01, -0.02, 0.01]).verdict
    'not worse'
    >>> cell_verdict([-0.4, -0.5, -0.45]).verdict
    'worse'
    >>> cell_verdict([0.0, 0.0, 0.0], uninformative=[True, True, True]).verdict
    'undecided'
    """
    if not 0 <= margin < 1:
        raise ValueError(f"margin is a share of the budget and must lie in [0, 1), got {margin}")
    if not all(map(math.isfinite, differences)):
        raise ValueError(
            f"differences must be finite, got {list(differences)}; a lost run counts as the lowest "
            f"budget-equivalent of the reference curve"
        )
    if uninformative and len(uninformative) != len(differences):
        raise ValueError(
            f"uninformative must have one entry per difference ({len(differences)}), "
            f"got {len(uninformative)}"
        )
    bound = math.log1p(-margin)
    informative = differences
    if any(uninformative):
        pairs = zip(differences, uninformative, strict=True)
        informative = [difference for difference, without in pairs if not without]
    samples = (differences, informative)
    return CellResult(
        verdict=_weaker(_verdict(differences, bound), _verdict(informative, bound)),
        mean=statistics.fmean(differences) if differences else math.nan,
        interval=interval(differences),
        p_not_worse=max(p_above(sample, bound) for sample in samples),
        p_better=max(p_above(sample, 0.0) for sample in samples),
        seeds=len(differences),
        uninformative=len(differences) - len(informative),
    )


def p_above(values: Sequence[float], bound: float) -> float:
    """One-sided p value of Student's t test that the mean of ``values`` is above ``bound``.

    1 for fewer than two values; without variance 0 if they are above, otherwise 1.

    >>> round(p_above([1.0, 2.0, 3.0], bound=0.0), 4)
    0.0371
    """
    if len(values) < 2:
        return 1.0
    distance, error = statistics.fmean(values) - bound, standard_error(values)
    if error == 0:
        return 0.0 if distance > 0 else 1.0
    return float(stdtr(len(values) - 1, -distance / error))


def _verdict(differences: Sequence[float], bound: float) -> CellVerdict:
    if len(differences) < 2:
        return "undecided"
    mean = statistics.fmean(differences)
    half = t_quantile(CONFIDENCE, len(differences)) * standard_error(differences)
    if mean - half > 0:
        return "better"
    if mean - half > bound:
        return "not worse"
    return "worse" if mean + half < bound else "undecided"


def _weaker(one: CellVerdict, other: CellVerdict) -> CellVerdict:
    if one == other:
        return one
    return "not worse" if {one, other} == {"better", "not worse"} else "undecided"
