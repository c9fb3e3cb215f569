"""What to compare with what, and which trials that takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lrpilot.bench.suite import (
    DEFAULT_OPTIMIZERS,
    DEFAULT_SCHEDULES,
    DEFAULT_SEEDS,
    DEFAULT_TASKS,
    FUNCTION_LR,
    OPTIMIZERS,
    neighbours,
    nominal_lr,
)
from lrpilot.bench.training_function import check_function, is_function
from lrpilot.bench.trial import Trial
from lrpilot.schedules import named_schedule
from lrpilot.schedules.checks import check_known
from lrpilot.tasks import find_task

# A training function fixes its horizon itself; its trials are keyed by the settings at this one.
NOMINAL_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to compare with what.

    tasks: names of built-in tasks, or training functions such as "train.py:train".
    optimizers: names; None means adamw. A training function makes its own.
    lrs: the grid of base rates for every schedule; None means the task's own rate and its
        neighbours on the half-decade grid, or 0.001 for a training function.
    seeds: how many paired seeds, from 0 on.
    steps: optimizer steps per trial; None means the task's own budget.

    Raises ValueError, with the nearest known name or the rule, for whatever cannot be compared.
    """

    tasks: Sequence[str] = DEFAULT_TASKS
    schedules: Sequence[str] = DEFAULT_SCHEDULES
    optimizers: Sequence[str] | None = None
    lrs: Sequence[float] | None = None
    seeds: int = DEFAULT_SEEDS
    steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("tasks", "schedules", "optimizers", "lrs"):
            values: Sequence[object] | None = getattr(self, name)
            if values is not None and not values:
                raise ValueError(
                    f"{name} is empty, so there is nothing to compare; name at least one"
                )
        if self.optimizers is not None and all(is_function(task) for task in self.tasks):
            raise ValueError(
                f"an optimizer ({', '.join(self.optimizers)}) does not apply to "
                f"{', '.join(self.tasks)}, which makes its own; leave it out"
            )
        for optimizer in self.optimizers or ():
            check_known("optimizer", optimizer, OPTIMIZERS)
        for schedule in self.schedules:
            _ = named_schedule(schedule, NOMINAL_STEPS)  # an unknown name is told here
        for lr in self.lrs or ():
            if not 0 < lr < math.inf:
                raise ValueError(f"lr must be positive and finite, got {lr}; 0.001 is a start")
        if self.seeds < 1:
            raise ValueError(
                f"seeds must be at least 1, got {self.seeds}; 5 or more tell something"
            )
        if self.steps is not None and self.steps < 1:
            raise ValueError(
                f"steps must be at least 1, got {self.steps}; leave it out for the task's budget"
            )
        _ = self.trials  # names and files are looked up, once

    @cached_property
    def trials(self) -> list[Trial]:
        """Every trial of the comparison, one seed of all tasks after another."""
        of_seed_0 = [
            trial
            for task in dict.fromkeys(self.tasks)
            for optimizer in self._optimizers(task)
            for trial in self._trials(task, optimizer)
        ]
        return [replace(trial, seed=seed) for seed in range(self.seeds) for trial in of_seed_0]

    def _optimizers(self, task: str) -> Iterable[str]:
        return [""] if is_function(task) else dict.fromkeys(self.optimizers or DEFAULT_OPTIMIZERS)

    def _trials(self, task: str, optimizer: str) -> Iterable[Trial]:
        lrs = self.lrs
        if is_function(task):
            task_version, total_steps = check_function(task), self.steps
            lrs = lrs or (FUNCTION_LR,)
        else:
            found = find_task(task)
            task_version, total_steps = str(found.version), self.steps or found.total_steps
            lrs = lrs or neighbours(nominal_lr(found, optimizer))
        for schedule in dict.fromkeys(self.schedules):
            for lr in sorted(set(lrs)):
                found = named_schedule(schedule, total_steps or NOMINAL_STEPS, lr)
                if is_function(task) and "evaluation" in found.needs:
                    raise ValueError(
                        f"schedule {schedule} is driven by validation losses, which a training "
                        f"function's scheduler is not shown; leave it out for {task}"
                    )
                yield Trial(
                    task=task,
                    task_version=task_version,
                    optimizer=optimizer,
                    schedule=schedule,
                    settings=repr(found),
                    lr=lr,
                    seed=0,
                    total_steps=total_steps,
                )
