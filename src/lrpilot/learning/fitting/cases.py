"""What a store has to fit settings to: tasks, optimizers, rates, and the best schedule there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot.bench.comparison.plan import NOMINAL_STEPS
from lrpilot.bench.stages import Method
from lrpilot.bench.store import Store
from lrpilot.bench.suite import TORCH_OPTIMIZERS
from lrpilot.bench.training_function import check_function, is_function
from lrpilot.bench.trial import RESULTS_VERSION, Trial
from lrpilot.schedules import named_schedule
from lrpilot.schedules.checks import check_known
from lrpilot.tasks import find_task

# Candidates are chosen on the first, and the choice is confirmed on the second; neither are seeds
# of a comparison or of a suite.
FITTING_SEEDS = (200, 201)
CONFIRMING_SEEDS = (300, 301, 302, 303, 304)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A task under an optimizer, over the budget that most of its stored trials have.

    lrs: the base rate at which the best stored schedule does best, and its stored neighbours.
    best: that schedule.
    """

    task: str
    task_version: str
    optimizer: str
    total_steps: int | None
    lrs: tuple[float, ...]
    best: str

    def trials(
        self, schedule: str, seeds: Sequence[int], lrs: Sequence[float] | None = None
    ) -> list[Trial]:
        """Trials of a schedule here, at every rate unless ``lrs`` says which."""
        return [self._trial(schedule, lr, seed) for lr in lrs or self.lrs for seed in seeds]

    def _trial(self, schedule: str, lr: float, seed: int) -> Trial:
        if not is_function(self.task):
            steps = self.total_steps or find_task(self.task).total_steps
            return Method(self.task, self.optimizer, schedule, steps).trial(lr, seed)
        return Trial(
            task=self.task,
            task_version=self.task_version,
            optimizer="",
            schedule=schedule,
            settings=repr(named_schedule(schedule, self.total_steps or NOMINAL_STEPS, lr)),
            lr=lr,
            seed=seed,
            total_steps=self.total_steps,
        )


class _Stored(NamedTuple):
    """What a store has of a schedule at a rate."""

    task: str
    task_version: str
    optimizer: str
    total_steps: int | None
    schedule: str
    lr: float
    trials: int
    lost: int
    mean: float | None
    lowest: float | None


def find_cases(store: Store, tasks: Iterable[str] = ()) -> tuple[list[Case], list[str]]:
    """The cases of ``tasks``, or of all there are, and why any were left out.

    Raises ValueError if there are none.
    """
    stored = _stored(store)
    known = dict.fromkeys(row.task for row in stored)
    if not known:
        raise ValueError(f"{store.path} has no trials to learn from; lrpilot compare makes some")
    for task in tasks:
        check_known("task", task, known)
    wanted = set(tasks) or set(known)
    groups: dict[tuple[str, str], list[_Stored]] = {}
    for row in stored:
        if row.task in wanted:
            groups.setdefault((row.task, row.optimizer), []).append(row)
    found: list[Case] = []
    notes: list[str] = []
    for (task, optimizer), rows in groups.items():
        case = _case(rows)
        if isinstance(case, Case):
            found.append(case)
        else:
            notes.append(f"{task}{f', {optimizer}' * bool(optimizer)}, is left out: {case}")
    if not found:
        raise ValueError(f"{store.path} has nothing to fit settings to: {'; '.join(notes)}")
    return found, notes


def _stored(store: Store) -> list[_Stored]:
    query = (
        "SELECT task, task_version, optimizer, total_steps, schedule, lr, count(*), "
        "sum(status <> 'done'), avg(validation_loss), min(validation_loss) FROM rows "
        "WHERE results = ? AND perturbation = '' "
        "AND seed NOT IN (SELECT value FROM json_each(?)) "
        "GROUP BY task, task_version, optimizer, total_steps, schedule, lr"
    )
    seeds = json.dumps([*FITTING_SEEDS, *CONFIRMING_SEEDS])
    return [_Stored(*row) for row in store.select(query, RESULTS_VERSION, seeds)]


def _case(rows: Sequence[_Stored]) -> Case | str:
    """The case that the rows of a task and an optimizer make, or why they make none."""
    first = rows[0]
    if first.optimizer and first.optimizer not in TORCH_OPTIMIZERS:
        return "its optimizer finds rates by itself"
    try:
        version = _version(first.task)
    except ValueError as error:
        return str(error)
    rows = [row for row in rows if row.task_version == version]
    if not rows:
        return "its trials are of another version of the task"
    counts: dict[int | None, int] = {}
    for row in rows:
        counts[row.total_steps] = counts.get(row.total_steps, 0) + row.trials
    steps = max(counts, key=lambda one: (counts[one], one or 0))
    rows = [row for row in rows if row.total_steps == steps and _is_made(row.schedule)]
    ended = [row for row in rows if row.mean is not None]
    if not ended:
        return "none of its trials ended"
    if any(row.lowest is not None and row.lowest <= 0 for row in rows):
        return "its losses are not all positive, so they have no ratio"
    best = min(ended, key=lambda row: (row.lost / row.trials, row.mean))
    lrs = sorted({row.lr for row in rows})
    at = lrs.index(best.lr)
    return Case(
        task=first.task,
        task_version=version,
        optimizer=first.optimizer,
        total_steps=steps,
        lrs=tuple(lrs[max(at - 1, 0) : at + 2]),
        best=best.schedule,
    )


def _version(task: str) -> str:
    return check_function(task) if is_function(task) else str(find_task(task).version)


def _is_made(schedule: str) -> bool:
    """Whether the schedule can still be made from its name."""
    try:
        named_schedule(schedule, NOMINAL_STEPS)
    except (ValueError, TypeError):
        return False
    return True
