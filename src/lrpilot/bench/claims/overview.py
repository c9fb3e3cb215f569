"""Every entrant of a suite beside the tuned reference: what tables and pictures are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrpilot.bench.claims.comparisons import (
    decades,
    expected_log_best,
    steps_taken,
    verdicts_of,
)
from lrpilot.bench.claims.findings import (
    Array,
    Cell,
    Entrant,
    Findings,
    Scores,
    evaluations,
)
from lrpilot.bench.results import ResultRow
from lrpilot.bench.statistics.aggregates import (
    Estimate,
    geometric_mean,
    hierarchical_bootstrap,
    interquartile_mean,
    probability_of_improvement,
)
from lrpilot.bench.statistics.paired import CellVerdict
from lrpilot.bench.statistics.speed import anytime, area_under_log_loss, ratios_to_fastest
from lrpilot.bench.statistics.stats import MARGIN
from lrpilot.bench.suite import BUDGET_REFERENCE

SEED = 20261125
DRAWS = 2000
SHARES = (0.25, 0.5, 0.75)
TRIALS = tuple(range(1, 10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One entrant over all admissible cells, at its best rate, relative to the reference.

    ratio: of budget-equivalents, with its interval. verdicts: one per cell.
    anytime: budget-equivalents at `SHARES` of the budget, over these shares; geometric means.
    area: mean ln validation loss over the run, minus the reference's; None if a run was lost.
    decades: mean usable range; best_of: expected budget-equivalents after 1 to 9 random rates.
    lost, runs: of the runs at the best rate.
    """

    name: str
    cells: int
    ratio: Estimate
    interquartile: float
    improvement: float
    verdicts: tuple[CellVerdict, ...]
    anytime: tuple[float, ...]
    area: float | None
    decades: float | None
    best_of: tuple[float, ...]
    lost: int
    runs: int


def admissible_cells(findings: Findings) -> list[Cell]:
    """The cells that were run and can tell schedules apart."""
    return [cell for cell, reasons in findings.reasons.items() if not reasons]


def labels(findings: Findings) -> list[str]:
    """The names of all entrants, schedules first."""
    named = [
        (entrant.optimizer != family, entrant.label(family))
        for family in findings.suite.families
        for entrant in findings.entrants(family)
    ]
    ordered = sorted(dict.fromkeys(named), key=lambda pair: pair[0])
    return list(dict.fromkeys(name for _, name in ordered))


def entrant_called(findings: Findings, name: str, family: str) -> Entrant | None:
    """The entrant of a family that has this label."""
    found = (one for one in findings.entrants(family) if one.label(family) == name)
    return next(found, None)


def scores_of(findings: Findings, name: str, cell: Cell, *, response: bool) -> Scores | None:
    """At the best rate, or over the response; None if not run."""
    entrant = entrant_called(findings, name, cell.family)
    return None if entrant is None else findings.scores(cell, entrant, "T2" if response else "T1")


def standings(findings: Findings) -> list[Standing]:
    """All entrants that were run in an admissible cell, the best ratio first."""
    found = (_standing(findings, name, at) for at, name in enumerate(labels(findings)))
    present = [standing for standing in found if standing is not None]
    return sorted(present, key=lambda standing: -standing.ratio.value)


def log_ratios(findings: Findings, name: str, other: str) -> dict[Cell, Array]:
    """By admissible cell, ln budget-equivalents of one entrant minus another's, by seed."""
    found: dict[Cell, Array] = {}
    for cell in admissible_cells(findings):
        mine, theirs = (scores_of(findings, one, cell, response=False) for one in (name, other))
        if mine is not None and theirs is not None:
            found[cell] = np.log(mine.budget_equivalents / theirs.budget_equivalents)[0]
    return found


def profiles(findings: Findings, names: Iterable[str], target: float) -> dict[str, list[float]]:
    """For each entrant and cell, compute-adjusted steps to the target over the fewest there.

    Low median over seeds, one that never got there being infinite. The fewest of all entrants, also
    of those not in ``names``; each has the cells in which it was run.
    """
    taken = {name: _medians(findings, name, target) for name in labels(findings)}
    cells = admissible_cells(findings)
    table = {name: [row.get(cell) for cell in cells] for name, row in taken.items()}
    ratios = ratios_to_fastest(table) if cells else {}
    return {
        name: [ratio for ratio, cell in zip(ratios[name], cells, strict=True) if cell in row]
        for name, row in taken.items()
        if name in names and row
    }


def responses(findings: Findings, name: str, family: str) -> dict[int, list[float]]:
    """By half-decades from the reference's best rate, geometric mean budget-equivalents by cell."""
    found: dict[int, list[float]] = {}
    for cell in admissible_cells(findings):
        best = findings.tuned(cell.task, Entrant(family, BUDGET_REFERENCE))
        if cell.family != family or best is None:
            continue
        scores = scores_of(findings, name, cell, response=True)
        if scores is None:
            continue
        means = np.exp(np.log(scores.budget_equivalents).mean(axis=1)).tolist()
        for lr, value in zip(scores.lrs, means, strict=True):
            found.setdefault(round(2 * math.log10(lr / best.lr)), []).append(value)
    return dict(sorted(found.items()))


def _standing(findings: Findings, name: str, at: int) -> Standing | None:
    ratios = log_ratios(findings, name, BUDGET_REFERENCE)
    if not ratios:
        return None
    by_task: dict[str, list[list[float]]] = {}
    for cell, row in ratios.items():
        by_task.setdefault(cell.task, []).append(row.tolist())
    rng = np.random.default_rng([SEED, at])
    values = np.array(list(ratios.values()))
    tuned = {cell: scores_of(findings, name, cell, response=False) for cell in ratios}
    scores = {cell: one for cell, one in tuned.items() if one is not None}
    return Standing(
        name=name,
        cells=len(ratios),
        ratio=hierarchical_bootstrap(by_task, rng=rng, draws=DRAWS),
        interquartile=float(interquartile_mean(values)),
        improvement=float(probability_of_improvement(values)),
        verdicts=tuple(_verdict(findings, cell, scores[cell], row) for cell, row in ratios.items()),
        anytime=_anytime(findings, scores),
        area=_area(findings, scores),
        decades=_decades(findings, name, list(ratios)),
        best_of=_best_of(findings, name, list(ratios)),
        lost=sum(int(one.lost.sum()) for one in scores.values()),
        runs=sum(one.lost.size for one in scores.values()),
    )


def _verdict(findings: Findings, cell: Cell, scores: Scores, row: Array) -> CellVerdict:
    reference = scores_of(findings, BUDGET_REFERENCE, cell, response=False)
    clipped = np.zeros_like(row, dtype=np.bool_)
    if reference is not None:
        clipped = (scores.clipped & reference.clipped)[0] & (row == 0)
    return verdicts_of(row[None], clipped[None], MARGIN)[0]


def _anytime(findings: Findings, scores: Mapping[Cell, Scores]) -> tuple[float, ...]:
    logs: list[list[float]] = []
    for cell, one in scores.items():
        curve = findings.curve(cell, "validation")
        for row in one.rows[0]:
            if curve is not None and row.evaluations:
                losses = anytime(evaluations(row), row.total_steps, SHARES)
                logs.append([math.log(curve.budget_equivalent(loss)) for loss in losses])
    if not logs:
        return ()
    columns = zip(*logs, strict=True)
    return tuple(
        math.exp(statistics.fmean(column)) / share
        for column, share in zip(columns, SHARES, strict=True)
    )


def _area(findings: Findings, scores: Mapping[Cell, Scores]) -> float | None:
    differences: list[float] = []
    for cell, one in scores.items():
        reference = scores_of(findings, BUDGET_REFERENCE, cell, response=False)
        if reference is None:
            continue
        for mine, theirs in zip(one.rows[0], reference.rows[0], strict=True):
            if mine.evaluations and theirs.evaluations:
                differences.append(_area_of(mine) - _area_of(theirs))
    mean = statistics.fmean(differences) if differences else math.nan
    return mean if math.isfinite(mean) else None


def _area_of(row: ResultRow) -> float:
    try:
        return area_under_log_loss(evaluations(row), diverged=row.status != "done")
    except ValueError:  # a loss that is not positive, or a run that ended at once
        return math.inf


def _responses(findings: Findings, name: str, cells: Sequence[Cell]) -> list[Scores]:
    found = (scores_of(findings, name, cell, response=True) for cell in cells)
    return [scores for scores in found if scores is not None]


def _decades(findings: Findings, name: str, cells: Sequence[Cell]) -> float | None:
    ranges = [
        decades(scores, seed)
        for scores in _responses(findings, name, cells)
        for seed in range(scores.budget_equivalents.shape[1])
    ]
    return statistics.fmean(ranges) if ranges else None


def _best_of(findings: Findings, name: str, cells: Sequence[Cell]) -> tuple[float, ...]:
    found = _responses(findings, name, cells)
    seeds = range(len(findings.suite.evaluation_seeds))
    if not found:
        return ()
    return tuple(
        float(
            geometric_mean(
                np.array([[expected_log_best(one, seed, k) for seed in seeds] for one in found])
            )
        )
        for k in TRIALS
    )


def _medians(findings: Findings, name: str, target: float) -> dict[Cell, float | None]:
    found: dict[Cell, float | None] = {}
    for cell in admissible_cells(findings):
        scores = scores_of(findings, name, cell, response=False)
        curve = findings.curve(cell, "validation")
        if scores is None or curve is None:
            continue
        taken = [steps_taken(curve, row, target, compute=True) for row in scores.rows[0]]
        # The low one: half of the seeds reach the reference's own median.
        median = statistics.median_low([math.inf if one is None else one for one in taken])
        found[cell] = median if math.isfinite(median) else None
    return found
