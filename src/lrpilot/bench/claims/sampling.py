"""The number of a claim over its cells: estimate, interval, p value, and what stands beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

import numpy as np

from lrpilot.bench.claims.claim import Claim, Metric
from lrpilot.bench.claims.comparisons import Comparison
from lrpilot.bench.claims.rules import Bounds
from lrpilot.bench.results import ResultRow
from lrpilot.bench.statistics.aggregates import (
    DRAWS,
    Array,
    Estimate,
    Range,
    Statistic,
    geometric_mean,
    hierarchical_bootstrap,
    interquartile_mean,
    leave_one_out,
    probability_of_improvement,
)
from lrpilot.bench.statistics.paired import CellVerdict, p_above
from lrpilot.bench.statistics.shares import (
    GOOD,
    null_strict_share,
    p_share_above,
    share_not_worse,
    strict_share,
)

NULL_DRAWS = 500

PerTask = dict[str, list[list[float]]]


def mean(values: Array) -> Array:
    """Mean over the cells of their means over seeds."""
    return np.log(geometric_mean(values))


STATISTICS: Mapping[Metric, Statistic] = {
    "share not worse": mean,
    "budget-equivalent": geometric_mean,
    "faster": probability_of_improvement,
    "faster per compute": probability_of_improvement,
    "usable decades": mean,
    "expected best of 3": geometric_mean,
}


def cells_of(metric: Metric, comparisons: Sequence[Comparison]) -> PerTask:
    """What the metric's statistic is of: for each task its cells, each with a value per seed.

    A share has a cell per comparison and rate, 1 if the method is shown not worse. A ratio has one
    per family, the mean over comparators and rates: these share the method's own runs.
    """
    found: PerTask = {}
    if metric == "share not worse":
        for each in comparisons:
            shown = [[float(verdict in GOOD)] for verdict in each.verdicts]
            found.setdefault(each.cell.task, []).extend(shown)
        return found
    if metric in ("budget-equivalent", "expected best of 3"):
        by_family: dict[tuple[str, str], list[Array]] = {}
        for each in comparisons:
            by_family.setdefault(each.cell, []).append(each.differences.mean(axis=0))
        for (task, _), rows in by_family.items():
            found.setdefault(task, []).append(np.mean(rows, axis=0).tolist())
        return found
    for each in comparisons:
        found.setdefault(each.cell.task, []).extend(each.differences.tolist())
    return found


def estimate(
    metric: Metric,
    comparisons: Sequence[Comparison],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> tuple[Estimate, Bounds]:
    """The claim's number with its 95 % interval, and the bounds that a verdict goes by."""
    if metric == "share not worse":
        verdicts = verdicts_by_task((each.cell.task, each.verdicts) for each in comparisons)
        share = share_not_worse(verdicts, rng=rng, draws=draws)
        given: dict[str, list[CellVerdict]] = {
            task: [_given(one) for one in row] for task, row in verdicts.items()
        }
        possible = share_not_worse(given, rng=rng, draws=draws)
        found = Estimate(share.value, share.low, share.high)
        return found, Bounds(share.low, share.high, possible.high)
    cells = cells_of(metric, comparisons)
    found = hierarchical_bootstrap(cells, STATISTICS[metric], rng=rng, draws=draws)
    return found, Bounds(found.low, found.high, found.high)


def point(metric: Metric, comparisons: Sequence[Comparison]) -> float:
    """The claim's number alone."""
    cells = [cell for rows in cells_of(metric, comparisons).values() for cell in rows]
    # Cells of one suite have equally many seeds.
    return float(STATISTICS[metric](np.array(cells)))


def without_a_task(metric: Metric, comparisons: Sequence[Comparison]) -> Range | None:
    """Between what the number varies as one task is left out; None for a single task."""
    cells = cells_of(metric, comparisons)
    return leave_one_out(cells, STATISTICS[metric]) if len(cells) > 1 else None


def p_value(claim: Claim, comparisons: Sequence[Comparison]) -> float:
    """Two-sided, as the rules of the verdicts say."""
    statistic, threshold = STATISTICS[claim.metric], claim.threshold
    rows = cells_of(claim.metric, comparisons)
    of_task = [float(statistic(np.array(rows[task]))) for task in rows]
    if statistic is geometric_mean:
        of_task, threshold = [math.log(value) for value in of_task], math.log(threshold)
    upwards = p_above(of_task, threshold)
    downwards = p_above([-value for value in of_task], -threshold)
    if claim.metric == "share not worse":
        verdicts = verdicts_by_task((each.cell.task, each.verdicts) for each in comparisons)
        flat = [one for row in verdicts.values() for one in row]
        good, worse = sum(one in GOOD for one in flat), flat.count("worse")
        not_shown_worse = [1 - row.count("worse") / len(row) for row in verdicts.values()]
        upwards = max(upwards, p_share_above(good, len(flat), threshold))
        downwards = max(
            p_above([-share for share in not_shown_worse], -threshold),
            p_share_above(worse, len(flat), 1 - threshold),
        )
    return min(1.0, 2 * min(upwards, downwards))


def beside(metric: Metric, comparisons: Sequence[Comparison]) -> tuple[float, float, float]:
    """Mean, interquartile mean and probability of improvement over all comparisons.

    Means of ratios are geometric.
    """
    values = np.concatenate([each.differences for each in comparisons])
    means = np.array([geometric_mean(values), interquartile_mean(values)])
    if metric == "usable decades":
        means = np.log(means)
    return float(means[0]), float(means[1]), float(probability_of_improvement(values))


def strict(
    comparisons: Sequence[Comparison], rng: np.random.Generator
) -> tuple[float, float | None]:
    """The share by the 1 % yardstick on mean test losses, and that of a method that is equal.

    The null model is paired: the other's own losses, plus differences that scatter as those of the
    method do, and are 0 on average. None if no cell has two finished pairs.
    """
    ours = [_finals(row) for each in comparisons for row in each.mine.rows]
    theirs = [_finals(row) for each in comparisons for row in each.theirs.rows]
    differences = [
        [
            a - b if math.isfinite(a) and math.isfinite(b) else math.inf
            for a, b in zip(one, other, strict=True)
        ]
        for one, other in zip(ours, theirs, strict=True)
    ]
    finite = [sum(map(math.isfinite, row)) > 1 for row in differences]
    null = None
    if any(finite):
        null = null_strict_share(theirs, rng=rng, differences=differences, draws=NULL_DRAWS)
    return strict_share(ours, theirs), null


def verdicts_by_task(
    pairs: Iterable[tuple[str, Sequence[CellVerdict]]],
) -> dict[str, list[CellVerdict]]:
    """The verdicts of each task's comparisons in one list."""
    found: dict[str, list[CellVerdict]] = {}
    for task, verdicts in pairs:
        found.setdefault(task, []).extend(verdicts)
    return found


def share_of(verdicts: Iterable[CellVerdict]) -> float:
    """The share of them that are shown not worse."""
    return fmean(float(verdict in GOOD) for verdict in verdicts)


def _given(verdict: CellVerdict) -> CellVerdict:
    return "not worse" if verdict == "undecided" else verdict


def _finals(rows: Sequence[ResultRow]) -> list[float]:
    return [math.inf if row.test_loss is None else row.test_loss for row in rows]
