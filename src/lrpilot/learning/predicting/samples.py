"""What a store teaches: how runs began, and which rate and anneal turned out best there."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot.bench.store import Store
from lrpilot.bench.trial import Outcome, Trial
from lrpilot.learning.predicting.beginnings import Beginning, first_losses
from lrpilot.schedules import OpenLoop, named_schedule
from lrpilot.schedules.checks import check_known

WORST = math.log(10)  # that a schedule counts for at most, against the best
NEAR = 1.3  # factor by which the rate may leave the base rate in the beginning


class Cell(NamedTuple):
    """Runs that are judged against each other."""

    task: str
    optimizer: str
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A run's beginning, and what turned out best in its cell.

    shift: log10 of the best rate over the run's. excess: by anneal, ln of the lowest final loss
    with it over the lowest with any, `WORST` at most.
    """

    cell: Cell
    beginning: Beginning
    shift: float
    excess: Mapping[str, float]


def samples(store: Store, tasks: Sequence[str] = ()) -> list[Sample]:
    """A sample of each cell, rate and seed that has its losses, of ``tasks`` or of all.

    Anneals are the open-loop schedules that every cell has; the best rate is that at which the
    best of them ends lowest, by the mean ln of the validation loss over seeds. Runs of other
    schedules, and those that began away from their base rate, are not used.

    Raises ValueError if there are fewer than three tasks, since none could be left out.
    """
    trials = [trial for trial in store.trials() if trial.total_steps and not trial.perturbation]
    known = dict.fromkeys(trial.task for trial in trials)
    for task in tasks:
        check_known("task", task, known)
    wanted = set(tasks) or set(known)
    cells: dict[Cell, list[tuple[Trial, Outcome]]] = {}
    open_loop = {name for name in {trial.schedule for trial in trials} if _is_open_loop(name)}
    chosen = [t for t in trials if t.task in wanted and t.schedule in open_loop]
    for trial, outcome in store.outcomes(chosen):
        if outcome.status != "failed":
            cell = Cell(trial.task, trial.optimizer, trial.total_steps or 0)
            cells.setdefault(cell, []).append((trial, outcome))
    finals = {cell: found for cell, runs in cells.items() if (found := _finals(runs))}
    common = [name for name in sorted(open_loop) if all(name in found for found in finals.values())]
    made = [s for cell in finals for s in _of_cell(cell, cells[cell], finals[cell], common)]
    count = len({sample.cell.task for sample in made})
    if count < 3:
        raise ValueError(
            f"{store.path} has {count} tasks to learn from, and 3 are needed: `lrpilot compare` at "
            f"several --lr, with --schedule constant and linear, makes them"
        )
    return made


Finals = Mapping[str, Mapping[float, float]]
"""Mean ln of the final validation loss, by schedule and rate; infinite if a run was lost."""


def _finals(runs: Sequence[tuple[Trial, Outcome]]) -> Finals:
    """Empty if there is nothing to choose: one rate, no run that ended, or losses not positive."""
    logs: dict[str, dict[float, list[float]]] = {}
    for trial, outcome in runs:
        loss = outcome.validation_loss if outcome.status == "done" else math.inf
        if loss is None or loss <= 0:
            return {}
        logs.setdefault(trial.schedule, {}).setdefault(trial.lr, []).append(math.log(loss))
    found = {
        name: {lr: statistics.fmean(of_lr) for lr, of_lr in by_lr.items()}
        for name, by_lr in logs.items()
    }
    ends = any(map(math.isfinite, itertools.chain(*(by_lr.values() for by_lr in found.values()))))
    return found if ends and max(map(len, found.values())) > 1 else {}


def _of_cell(
    cell: Cell, runs: Sequence[tuple[Trial, Outcome]], finals: Finals, anneals: Sequence[str]
) -> Iterator[Sample]:
    if not anneals:
        return
    lowest = {name: min(finals[name].values()) for name in anneals}
    best = min(lowest, key=lambda name: lowest[name])
    if not math.isfinite(lowest[best]):
        return
    best_lr = min(finals[best], key=lambda lr: finals[best][lr])
    excess = {name: min(value - lowest[best], WORST) for name, value in lowest.items()}
    used: set[tuple[float, int]] = set()
    for trial, outcome in runs:
        count = len(outcome.losses)
        if not count or (trial.lr, trial.seed) in used:
            continue
        try:
            losses = first_losses(list(enumerate(outcome.losses, 1)), cell.steps)
        except ValueError:
            continue
        rates = outcome.rates[: len(losses)]
        if all(trial.lr / NEAR <= rate <= trial.lr * NEAR for rate in rates):
            used.add((trial.lr, trial.seed))
            beginning = Beginning(
                optimizer=cell.optimizer, lr=trial.lr, steps=cell.steps, losses=losses
            )
            shift = math.log10(best_lr / trial.lr)
            yield Sample(cell=cell, beginning=beginning, shift=shift, excess=excess)


def _is_open_loop(name: str) -> bool:
    try:
        return isinstance(named_schedule(name, 1000), OpenLoop)
    except (ValueError, TypeError):
        return False
