"""What a robustness study shows, from its rows alone: bites, penalties, recovery, verdicts."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lrpilot.bench.perturbations import PERTURBATIONS
from lrpilot.bench.robustness.pairs import Place, Runs, by_place, estimate, with_twins
from lrpilot.bench.robustness.rows import RobustnessRow
from lrpilot.bench.robustness.verdicts import (
    Admitted,
    Cells,
    Standing,
    Verdict,
    comparisons,
    standing,
    verdicts_of,
)
from lrpilot.bench.statistics.paired import p_above
from lrpilot.bench.statistics.stats import CONFIDENCE
from lrpilot.bench.trial import evaluation_steps

# Without a perturbation there is one track, and no penalty.
UNPERTURBED = ("surprise", "loss")
BITES_FROM = 2.0  # standard deviations
REFERENCE = "linear"
# Schedules that do not read the loss cannot feel noise in it.
SIGNAL_REFERENCE = "transformers-greedy"


@dataclass(frozen=True, slots=True)
class Bite:
    """Whether a perturbation disturbs a task.

    changed: how many of the reference's trajectories differ in a bit from their unperturbed twins.
    changed_of_all, runs: the same of all schedules.
    effect, deviation: of ln(final loss / twin's) over the reference's seeds.
    admitted: every trajectory of the reference differs, and the effect is over 2 deviations.
    """

    task: str
    perturbation: str
    reference: str
    changed: int
    seeds: int
    changed_of_all: int
    runs: int
    effect: float
    deviation: float
    admitted: bool


@dataclass(frozen=True, slots=True)
class Penalty:
    """What a perturbation costs a schedule that was tuned without it.

    ratio, low, high: final loss over the twin's, geometric mean over admitted tasks and seeds, with
        a 95 % bootstrap interval over tasks, then seeds. NaN if no task is admitted.
    diverged, twins_diverged: runs, of ``runs``.
    """

    perturbation: str
    schedule: str
    ratio: float
    low: float
    high: float
    diverged: int
    twins_diverged: int
    runs: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a schedule suffers from a perturbation that ends, on admitted tasks.

    shares: by task, the share of the budget from the perturbation's end to the first evaluation
        from which on the runs are not shown to be worse than their unperturbed twins; None if they
        are at the end still.
    """

    perturbation: str
    schedule: str
    shares: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Summary:
    """All that the tables show.

    runs, further_runs: evaluation runs at rates tuned without the perturbation, and those at other
        rates, tuned under it.
    diverged: how many runs, by schedule and track.
    clipped: how many runs ended no better than they began, and count with their first loss.
    """

    runs: int
    further_runs: int
    bites: list[Bite]
    penalties: list[Penalty]
    recoveries: list[Recovery]
    verdicts: list[Verdict]
    standings: list[Standing]
    diverged: dict[str, dict[str, int]]
    clipped: int


def summarise(rows: Iterable[RobustnessRow]) -> Summary:
    """Compute all of it; nothing is trained.

    A run that diverged, or ended above where it began, counts as one that has not trained: with its
    loss before the first step. So every pair of runs has a finite ratio, and none is dropped.
    """
    rows = list(rows)
    surprise = by_place(rows, ("surprise", "both"))
    expected = by_place(rows, ("expected", "both"))
    perturbations = [name for name in dict.fromkeys(row.perturbation for row in rows) if name]
    schedules = list(dict.fromkeys(row.schedule for row in rows))
    tasks = list(dict.fromkeys(row.task for row in rows))
    bites = [bite(surprise, task, name) for name in perturbations for task in tasks]
    admitted = [(found.task, found.perturbation) for found in bites if found.admitted]
    verdicts: list[Verdict] = []
    standings: list[Standing] = []
    for cells, places in _cells(bites, tasks).items():
        for comparison in comparisons(schedules) if places else ():
            if cells == "unperturbed" and (comparison.track, comparison.measure) != UNPERTURBED:
                continue
            runs = surprise if comparison.track == "surprise" else expected
            of_comparison = verdicts_of(comparison, runs, places)
            verdicts += of_comparison if cells == "admitted" else []
            standings.append(standing(comparison, of_comparison, runs, cells))
    pairs = [(name, schedule) for name in perturbations for schedule in schedules]
    first = [row for row in rows if row.track != "expected"]
    return Summary(
        runs=len(first),
        further_runs=len(rows) - len(first),
        bites=bites,
        penalties=[_penalty(surprise, admitted, *pair) for pair in pairs],
        recoveries=[
            _recovery(surprise, admitted, *pair)
            for pair in pairs
            if PERTURBATIONS[pair[0]].ends is not None
        ],
        verdicts=verdicts,
        standings=standings,
        diverged=_diverged(rows, schedules),
        clipped=sum(row.loss >= row.start_loss for row in rows),
    )


def _cells(bites: Sequence[Bite], tasks: Sequence[str]) -> dict[Cells, list[tuple[str, str]]]:
    """Which (task, perturbation) each kind of standing is over; no bit changed, no cell."""
    return {
        "admitted": [(bite.task, bite.perturbation) for bite in bites if bite.admitted],
        "all": [(bite.task, bite.perturbation) for bite in bites if bite.changed_of_all],
        "unperturbed": [(task, "") for task in tasks],
    }


def bite(runs: Mapping[Place, Runs], task: str, perturbation: str) -> Bite:
    """The bite test of a perturbation on a task, under the reference schedule."""
    reference = SIGNAL_REFERENCE if PERTURBATIONS[perturbation].signal_only else REFERENCE
    pairs = with_twins(runs, (task, perturbation, reference))
    effects = [math.log(run.loss / twin.loss) for run, twin in pairs]
    effect, deviation = statistics.fmean(effects), statistics.stdev(effects)
    changed = sum(run.trajectory != twin.trajectory for run, twin in pairs)
    everyone = [
        pair
        for place in runs
        if place[:2] == (task, perturbation)
        for pair in with_twins(runs, place)
    ]
    return Bite(
        task,
        perturbation,
        reference,
        changed,
        len(pairs),
        sum(run.trajectory != twin.trajectory for run, twin in everyone),
        len(everyone),
        effect,
        deviation,
        changed == len(pairs) and abs(effect) > BITES_FROM * deviation,
    )


def _penalty(
    runs: Mapping[Place, Runs],
    admitted: Admitted,
    perturbation: str,
    schedule: str,
) -> Penalty:
    of_task = {
        task: with_twins(runs, (task, name, schedule))
        for task, name in admitted
        if name == perturbation
    }
    ratio, low, high = estimate(
        {
            task: [[math.log(run.loss / twin.loss) for run, twin in pairs]]
            for task, pairs in of_task.items()
        }
    )
    everyone = [pair for pairs in of_task.values() for pair in pairs]
    return Penalty(
        perturbation,
        schedule,
        ratio=ratio,
        low=low,
        high=high,
        diverged=sum(run.status != "done" for run, _ in everyone),
        twins_diverged=sum(twin.status != "done" for _, twin in everyone),
        runs=len(everyone),
    )


def _recovery(
    runs: Mapping[Place, Runs],
    admitted: Admitted,
    perturbation: str,
    schedule: str,
) -> Recovery:
    shares = {
        task: recovered_after(list(runs[task, name, schedule].values()))
        for task, name in admitted
        if name == perturbation
    }
    return Recovery(perturbation, schedule, shares)


def recovered_after(runs: Sequence[RobustnessRow]) -> float | None:
    """The share of the budget until runs, one per seed, are no longer shown to suffer.

    Worse than the twins is shown at an evaluation if the one-sided 95 % t bound of the mean excess
    over the seeds is above 0. A first crossing of single runs would be luck as often as recovery,
    and no run of a constant rate stays near its twin, once noise has parted them.
    """
    total_steps = runs[0].total_steps
    ends = PERTURBATIONS[runs[0].perturbation].ends
    end = ends(total_steps) if ends else total_steps
    steps = [step for step in sorted(evaluation_steps(total_steps)) if step > end]
    recovered = None
    for at in reversed(range(len(steps))):
        if p_above([run.excess[at] for run in runs], 0.0) < 1 - CONFIDENCE:
            break
        recovered = (steps[at] - end) / total_steps
    return recovered


def _diverged(rows: Sequence[RobustnessRow], schedules: Sequence[str]) -> dict[str, dict[str, int]]:
    tracks = {"surprise": ("surprise", "both"), "expected": ("expected", "both")}
    return {
        schedule: {
            track: sum(
                row.schedule == schedule and row.track in of and row.status != "done"
                for row in rows
            )
            for track, of in tracks.items()
        }
        for schedule in schedules
    }
