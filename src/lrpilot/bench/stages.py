"""Carry a suite out, stage by stage: tune, evaluate, respond, refer; every trial goes to the store.

What is stored is not run again, so an interrupted suite goes on where it stopped. A stage's trials
follow from the outcomes of the one before, which are read back from the store: the plan needs no
state of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache

from lrpilot.bench.batched.program import UPDATES
from lrpilot.bench.engines.engine import Engine, in_lots
from lrpilot.bench.store import Store
from lrpilot.bench.suite import (
    BUDGET_REFERENCE,
    TUNING_SEEDS,
    Suite,
    grid,
    nominal_lr,
)
from lrpilot.bench.trial import Trial
from lrpilot.bench.tuning import Losses, Tuned, tune_all
from lrpilot.schedules import named_schedule
from lrpilot.tasks import TrainingTask, find_task


@dataclass(frozen=True, slots=True)
class Method:
    """What competes on a task: a schedule under an optimizer, over a budget."""

    task: str
    optimizer: str
    schedule: str
    total_steps: int

    def trial(self, lr: float, seed: int) -> Trial:
        """The method's trial at a base rate, on the batched engine where there is one for it."""
        task = find_task(self.task)
        batchable = isinstance(task, TrainingTask) and task.batchable
        return Trial(
            task=self.task,
            task_version=str(task.version),
            optimizer=self.optimizer,
            schedule=self.schedule,
            settings=_settings(self.schedule, self.total_steps, lr),
            lr=lr,
            seed=seed,
            total_steps=self.total_steps,
            engine="batched" if batchable and self.optimizer in UPDATES else "single",
        )

    def grid(self, points: int) -> tuple[float, ...]:
        """Half-decade rates around what the task gives for the optimizer."""
        return grid(nominal_lr(find_task(self.task), self.optimizer), points)


@cache
def _settings(schedule: str, total_steps: int, lr: float) -> str:
    return repr(named_schedule(schedule, total_steps, lr))


Advance = Callable[[str, int, int], None]


class Stages:
    """A suite on a store and an engine.

    advance: told what is run, how many of the stage's trials are done, and how many there are.
    """

    def __init__(self, suite: Suite, store: Store, engine: Engine, advance: Advance) -> None:
        self.suite = suite
        self.store = store
        self.engine = engine
        self.advance = advance

    def run(self) -> list[Trial]:
        """Run all that the store lacks; return every trial of the suite.

        All tasks are tuned and evaluated before the first response, which takes most of the time.
        """
        ran: dict[Trial, None] = {}
        for task in self.suite.tasks:
            choices = self.tuned([*self.methods(task), *self.references(task)])
            ran |= dict.fromkeys(
                trial
                for method, choice in choices.items()
                for lr in choice.grid
                for trial in _tuning_trials(method, lr)
            )
            ran |= dict.fromkeys(self._do(f"{task}: evaluation", self.evaluation(choices)))
        for task in self.suite.responses:
            ran |= dict.fromkeys(self._do(f"{task}: response", self.response(task)))
        return list(ran)

    def methods(self, task: str) -> list[Method]:
        """All that compete on ``task``, the schedules of every family first."""
        steps = self.steps(task)
        scheduled = [
            Method(task, family, schedule, steps)
            for family in self.suite.families
            for schedule in self.suite.schedules
        ]
        baselines = [
            Method(task, optimizer, schedule, steps)
            for family in self.suite.families
            for optimizer, schedule in self.suite.baselines.get(family, ())
        ]
        return scheduled + baselines

    def references(self, task: str) -> list[Method]:
        """What budgets are measured in, at each horizon of the reference curve."""
        return [
            Method(task, family, BUDGET_REFERENCE, round(horizon * self.steps(task)))
            for family in self.suite.families
            for horizon in self.suite.horizons
        ]

    def steps(self, task: str) -> int:
        """The budget of ``task`` in the suite."""
        return round(find_task(task).total_steps * self.suite.steps)

    def tuned(self, methods: Sequence[Method]) -> dict[Method, Tuned]:
        """Each method's best rate: its grid is extended until the best is not on the edge."""

        def run(asked: list[tuple[Method, float]]) -> dict[tuple[Method, float], Losses]:
            trials = {at: _tuning_trials(*at) for at in asked}
            wanted = [trial for of_rate in trials.values() for trial in of_rate]
            self._do(f"{methods[0].task}: tuning", wanted)
            ended = dict(self.store.outcomes(wanted, curves=False))
            return {
                at: [ended[trial].validation_loss for trial in of_rate]
                for at, of_rate in trials.items()
            }

        return tune_all({method: method.grid(self.suite.tuning_points) for method in methods}, run)

    def evaluation(self, choices: dict[Method, Tuned]) -> list[Trial]:
        """Every method at its best rate, on the evaluation seeds."""
        return [
            method.trial(choice.lr, seed)
            for method, choice in choices.items()
            for seed in self.suite.evaluation_seeds
        ]

    def response(self, task: str) -> list[Trial]:
        """Every schedule at every rate of five decades, on the evaluation seeds."""
        return [
            method.trial(lr, seed)
            for method in self.methods(task)
            if method.optimizer in self.suite.families
            for lr in method.grid(self.suite.response_points)
            for seed in self.suite.evaluation_seeds
        ]

    def _do(self, what: str, trials: Iterable[Trial]) -> list[Trial]:
        """Run those of ``trials`` that the store lacks, and return all."""
        trials = list(dict.fromkeys(trials))
        missing = self.store.missing(trials)
        done = len(trials) - len(missing)
        self.advance(what, done, len(trials))
        with closing(self.engine.run(missing)) as events:
            for pairs in in_lots(events):
                self.store.add_many(pairs, keep_curves=False)
                done += len(pairs)
                self.advance(what, done, len(trials))
        return trials


def _tuning_trials(method: Method, lr: float) -> list[Trial]:
    return [method.trial(lr, seed) for seed in TUNING_SEEDS]
