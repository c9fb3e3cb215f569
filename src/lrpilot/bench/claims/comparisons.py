"""A method beside another in one cell, seed by seed, in whatever a claim measures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtr

from lrpilot.bench.claims.claim import Claim
from lrpilot.bench.claims.findings import (
    Array,
    Cell,
    Entrant,
    Findings,
    Mask,
    Scores,
    Track,
    evaluations,
)
from lrpilot.bench.results import ResultRow
from lrpilot.bench.statistics.paired import CellVerdict
from lrpilot.bench.statistics.reference import ReferenceCurve
from lrpilot.bench.statistics.response import USABLE, expected_best, robustness_range
from lrpilot.bench.statistics.speed import LONGEST, compute_adjusted, steps_to_target
from lrpilot.bench.statistics.stats import CONFIDENCE, t_quantile

# By level, so that -1 is the last.
LEVELS: tuple[CellVerdict, ...] = ("undecided", "not worse", "better", "worse")
FARTHEST = 30.0  # standard errors between equal and the margin: the power is 1 there
# Metrics of which no share of the budget is a margin: their cells are better, worse or undecided.
WITHOUT_MARGIN = ("faster", "faster per compute", "usable decades")
TRIALS = 3  # of the metric "expected best of 3"


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """An entrant beside another in one cell.

    differences: (rates, seeds), larger is better for the entrant; one rate but on track T2.
    uninformative: where the difference is a convention, since both ran out of the scale at once.
    mine, theirs: what was judged.
    """

    cell: Cell
    comparator: str
    differences: Array
    uninformative: Mask
    verdicts: tuple[CellVerdict, ...]
    mine: Scores
    theirs: Scores


def compared(
    claim: Claim, findings: Findings, cell: Cell, entrant: Entrant, other: Entrant
) -> Comparison | None:
    """The comparison by the claim's metric; None if either was not run, or not in full.

    An entrant beside itself is the first half of its seeds beside the second, which share no run.
    """
    track: Track = "T0" if claim.track == "T0" else "T1" if claim.track == "T1" else "T2"
    mine, theirs = (findings.scores(cell, one, track) for one in (entrant, other))
    if mine is None or theirs is None:
        return None
    if mine is theirs:
        if len(findings.suite.evaluation_seeds) < 2:
            return None
        mine, theirs = _halves(mine)
    measured = MEASURES[claim.metric](claim, findings, cell, mine, theirs)
    if measured is None:
        return None
    differences, uninformative = measured
    margin = 0.0 if claim.metric in WITHOUT_MARGIN else claim.margin
    return Comparison(
        cell=cell,
        comparator=other.label(cell.family),
        differences=differences,
        uninformative=uninformative,
        verdicts=verdicts_of(differences, uninformative, margin),
        mine=mine,
        theirs=theirs,
    )


def verdicts_of(differences: Array, uninformative: Mask, margin: float) -> tuple[CellVerdict, ...]:
    """`cell_verdict` of each row of (rates, seeds): the same, in one go."""
    bound = math.log1p(-margin)
    everything = _levels(differences, np.ones_like(uninformative), bound)
    if not uninformative.any():
        return tuple(LEVELS[level] for level in everything.tolist())
    informative = _levels(differences, ~uninformative, bound)
    pairs = zip(everything.tolist(), informative.tolist(), strict=True)
    return tuple(LEVELS[_weaker(one, other)] for one, other in pairs)


def shares_if_equal(comparison: Comparison, margin: float) -> Array:
    """By rate, how probably a method that equals the other in truth would be shown not worse.

    That is the power of the verdict's own one-sided t test against the margin, at the standard
    error that the seeds have. Where pairs are uninformative, it is the lesser of the power on all
    pairs and that on the informative ones.
    """
    bound = math.log1p(-margin)
    differences, without = comparison.differences, comparison.uninformative
    everything = _powers(differences, np.ones_like(without), bound)
    return np.minimum(everything, _powers(differences, ~without, bound))


def steps_taken(
    curve: ReferenceCurve, row: ResultRow, target: float, *, compute: bool
) -> float | None:
    """Steps until the validation loss stays at R(target) or below; None if it never does.

    compute: charge forward passes beyond one per step, in proportion to the steps.
    """
    if not row.evaluations:
        return None
    diverged = row.status != "done"
    steps = steps_to_target(evaluations(row), curve.loss_at(target), diverged=diverged)
    if steps is None or not compute:
        return steps
    return compute_adjusted(steps, row.extra_forwards * steps / row.total_steps)


def decades(scores: Scores, seed: int) -> float:
    """The robustness range of one seed: how many decades of rates are usable.

    Usable by the budget, never by the entrant's own best: a budget-equivalent cannot fall below the
    end of the reference curve, so an entrant that is bad everywhere would never be far from it.
    """
    return robustness_range(scores.lrs, scores.budget_equivalents[:, seed].tolist()).decades


def without_usable(scores: Scores) -> float:
    """In which share of the seeds not one rate is usable, so that the range is none."""
    return float((scores.budget_equivalents < USABLE).all(axis=0).mean())


def expected_log_best(scores: Scores, seed: int, trials: int) -> float:
    """Expected ln budget-equivalent after so many random rates, the best chosen on validation."""
    losses = [rows[seed].validation_loss for rows in scores.rows]
    chosen_by = [-math.inf if loss is None else -loss for loss in losses]
    reported = np.log(scores.budget_equivalents[:, seed]).tolist()
    return expected_best(chosen_by, trials, reported)


def _levels(differences: Array, counted: Mask, bound: float) -> NDArray[np.intp]:
    """Of each row, the level of the verdict on the differences that are counted."""
    count, means, errors, quantiles = _moments(differences, counted)
    halves = quantiles * errors
    level = np.where(means - halves > 0, 2, np.where(means - halves > bound, 1, 0))
    level = np.where((level == 0) & (means + halves < bound), -1, level)
    return np.where(count < 2, 0, level)


def _powers(differences: Array, counted: Mask, bound: float) -> Array:
    """Of each row, the probability that its lower bound is above ``bound`` if its mean is 0."""
    count, _, errors, quantiles = _moments(differences, counted)
    # Without an error the mean is its own lower bound, and infinitely many errors above.
    distances = np.divide(-bound, errors, out=np.full_like(errors, np.inf), where=errors > 0)
    shown = 1 - nctdtr(np.maximum(count - 1, 1), np.minimum(distances, FARTHEST), quantiles)
    return np.where(count < 2, 0.0, shown)


def _moments(differences: Array, counted: Mask) -> tuple[NDArray[np.intp], Array, Array, Array]:
    """Of each row's counted ones: how many, mean, standard error, Student's t at `CONFIDENCE`."""
    count = counted.sum(axis=1)
    some = np.maximum(count, 1)
    means = np.where(counted, differences, 0.0).sum(axis=1) / some
    squares = np.where(counted, differences - means[:, None], 0.0) ** 2
    errors = np.sqrt(squares.sum(axis=1) / np.maximum(count - 1, 1) / some)
    quantiles = np.array([t_quantile(CONFIDENCE, max(n, 2)) for n in count.tolist()])
    return count, means, errors, quantiles


def _weaker(one: int, other: int) -> int:
    """Of two levels; those of opposite sides leave it undecided."""
    if one == other:
        return one
    return min(one, other) if min(one, other) > 0 else 0


Measured = tuple[Array, Mask]


def _budget(
    claim: Claim, findings: Findings, cell: Cell, mine: Scores, theirs: Scores
) -> Measured | None:
    """ln ratio of budget-equivalents."""
    del claim, findings, cell
    equal = mine.budget_equivalents == theirs.budget_equivalents
    differences = np.log(mine.budget_equivalents / theirs.budget_equivalents)
    return differences, mine.clipped & theirs.clipped & equal


def _speed(
    claim: Claim, findings: Findings, cell: Cell, mine: Scores, theirs: Scores
) -> Measured | None:
    """ln ratio of steps to the target, theirs over mine; never there is `LONGEST` times as long."""
    curve = findings.curve(cell, "validation")
    if curve is None:
        return None
    compute = claim.metric == "faster per compute"
    ours, others = (
        [steps_taken(curve, row, claim.target, compute=compute) for row in scores.rows[0]]
        for scores in (mine, theirs)
    )
    pairs = list(zip(ours, others, strict=True))
    differences = np.array([[_log_speed(one, other) for one, other in pairs]])
    return differences, np.array([[one is None and other is None for one, other in pairs]])


def _decades(
    claim: Claim, findings: Findings, cell: Cell, mine: Scores, theirs: Scores
) -> Measured | None:
    """How many decades more are usable."""
    del claim, findings, cell
    ranges = [
        [decades(scores, seed) for seed in range(scores.budget_equivalents.shape[1])]
        for scores in (mine, theirs)
    ]
    differences = np.array([ranges[0]]) - np.array([ranges[1]])
    return differences, np.zeros_like(differences, dtype=np.bool_)


def _expected(
    claim: Claim, findings: Findings, cell: Cell, mine: Scores, theirs: Scores
) -> Measured | None:
    """ln ratio of the budget-equivalents to expect after `TRIALS` random rates."""
    del claim, findings, cell
    seeds = range(mine.budget_equivalents.shape[1])
    expected = [
        [expected_log_best(scores, seed, TRIALS) for seed in seeds] for scores in (mine, theirs)
    ]
    differences = np.array([expected[0]]) - np.array([expected[1]])
    return differences, np.zeros_like(differences, dtype=np.bool_)


MEASURES: dict[str, Callable[[Claim, Findings, Cell, Scores, Scores], Measured | None]] = {
    "share not worse": _budget,
    "budget-equivalent": _budget,
    "faster": _speed,
    "faster per compute": _speed,
    "usable decades": _decades,
    "expected best of 3": _expected,
}


def _log_speed(mine: float | None, theirs: float | None) -> float:
    longest = math.log(LONGEST)
    if mine is None or theirs is None:
        return 0.0 if mine is theirs else longest if theirs is None else -longest
    if mine == theirs:
        return 0.0
    if min(mine, theirs) <= 0:  # there before the first step
        return longest if mine < theirs else -longest
    return min(max(math.log(theirs / mine), -longest), longest)


def _halves(scores: Scores) -> tuple[Scores, Scores]:
    """The first half of the seeds and the second; the last of an odd number is in neither."""
    half = len(scores.rows[0]) // 2
    first, second = slice(half), slice(half, 2 * half)
    return _of_seeds(scores, first), _of_seeds(scores, second)


def _of_seeds(scores: Scores, seeds: slice) -> Scores:
    return Scores(
        lrs=scores.lrs,
        rows=tuple(rows[seeds] for rows in scores.rows),
        budget_equivalents=scores.budget_equivalents[:, seeds],
        clipped=scores.clipped[:, seeds],
        lost=scores.lost[:, seeds],
    )
