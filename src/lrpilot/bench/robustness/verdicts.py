"""Each schedule against constant and cosine: cell by cell, and over all admitted cells."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lrpilot.bench.robustness.pairs import Place, Runs, estimate
from lrpilot.bench.statistics.stats import interval

Measure = Literal["loss", "penalty"]
RunTrack = Literal["surprise", "expected"]
Decision = Literal["better", "worse", "undecided", "identical"]
Cells = Literal["admitted", "all", "unperturbed"]
Admitted = Sequence[tuple[str, str]]  # task, perturbation

RIVALS = ("constant", "cosine")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A schedule against a rival in one cell, over paired seeds.

    measure: "loss" compares final losses; "penalty" compares how many times the perturbation
        multiplies each one's own unperturbed loss.
    ratio, low, high: the schedule's over the rival's, below 1 is better; 95 % t interval.
    decision: "identical" if both have the same trajectories, bit for bit; otherwise by whether the
        interval leaves out 1.
    """

    task: str
    perturbation: str
    schedule: str
    rival: str
    track: RunTrack
    measure: Measure
    ratio: float
    low: float
    high: float
    decision: Decision


@dataclass(frozen=True, slots=True)
class Standing:
    """A schedule against a rival over many cells; counts of decisions, and the mean ratio.

    cells: the "admitted" ones; "all" but the placebo's, whether they bite or not; or the tasks as
        they are, "unperturbed". Admission favours cells in which its reference suffers, so
        standings on the admitted alone are tilted against that and what is like it.
    ratio, low, high: geometric mean, with a 95 % bootstrap interval over tasks, then seeds.
    """

    schedule: str
    rival: str
    track: RunTrack
    measure: Measure
    cells: Cells
    better: int
    identical: int
    undecided: int
    worse: int
    ratio: float
    low: float
    high: float


class Comparison(NamedTuple):
    """A schedule against a rival in one respect."""

    schedule: str
    rival: str
    track: RunTrack
    measure: Measure


def comparisons(schedules: Sequence[str]) -> Iterator[Comparison]:
    """All of them; a penalty needs a twin of the same rate, which "expected" has not."""
    respects: tuple[tuple[RunTrack, Measure], ...] = (
        ("surprise", "loss"),
        ("surprise", "penalty"),
        ("expected", "loss"),
    )
    for track, measure in respects:
        for schedule in schedules:
            for rival in RIVALS:
                if schedule != rival and rival in schedules:
                    yield Comparison(schedule, rival, track, measure)


def verdicts_of(
    comparison: Comparison, runs: Mapping[Place, Runs], admitted: Admitted
) -> list[Verdict]:
    """One for each admitted cell."""
    schedule, rival, track, measure = comparison
    found: list[Verdict] = []
    for task, perturbation in admitted:
        mine, others = (runs[task, perturbation, name] for name in (schedule, rival))
        identical = all(run.trajectory == others[seed].trajectory for seed, run in mine.items())
        differences = _differences(comparison, runs, task, perturbation)
        decided = decide(differences, identical)
        found.append(Verdict(task, perturbation, schedule, rival, track, measure, *decided))
    return found


def standing(
    comparison: Comparison, verdicts: Sequence[Verdict], runs: Mapping[Place, Runs], cells: Cells
) -> Standing:
    """The cells of `verdicts_of` together; ``cells`` says which these are."""
    ratios: dict[str, list[list[float]]] = {}
    for cell in verdicts:
        differences = _differences(comparison, runs, cell.task, cell.perturbation)
        ratios.setdefault(cell.task, []).append(differences)
    decisions = [verdict.decision for verdict in verdicts]
    ratio, low, high = estimate(ratios)
    return Standing(
        *comparison,
        cells=cells,
        better=decisions.count("better"),
        identical=decisions.count("identical"),
        undecided=decisions.count("undecided"),
        worse=decisions.count("worse"),
        ratio=ratio,
        low=low,
        high=high,
    )


def decide(differences: Sequence[float], identical: bool) -> tuple[float, float, float, Decision]:
    """Ratio, its interval and the decision, from ln ratios by seed; below 1 is better."""
    if identical:
        return 1.0, 1.0, 1.0, "identical"
    mean = statistics.fmean(differences)
    low, high = interval(differences) or (-math.inf, math.inf)
    decision: Decision = "better" if high < 0 else "worse" if low > 0 else "undecided"
    return math.exp(mean), math.exp(low), math.exp(high), decision


def _differences(
    comparison: Comparison, runs: Mapping[Place, Runs], task: str, perturbation: str
) -> list[float]:
    """ln of the schedule's loss, or penalty, over the rival's, seed by seed."""

    def size(schedule: str) -> Callable[[int], float]:
        disturbed = runs[task, perturbation, schedule]
        if comparison.measure == "loss":
            return lambda seed: math.log(disturbed[seed].loss)
        twins = runs[task, "", schedule]
        return lambda seed: math.log(disturbed[seed].loss / twins[seed].loss)

    mine, others = size(comparison.schedule), size(comparison.rival)
    return [mine(seed) - others(seed) for seed in runs[task, perturbation, comparison.schedule]]
