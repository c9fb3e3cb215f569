"""Many trials of one task as one tensor program: seeds, rates and schedules at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from torch.func import vmap

from lrpilot.bench.batched.hypergradient import Hypergradient, Per
from lrpilot.bench.batched.optimizers import Adam, BatchedOptimizer, Momentum, RMSprop
from lrpilot.bench.batched.schedules import Scales
from lrpilot.bench.batched.stacks import Stack, drawn, flattened, gradients, held_out, stacked
from lrpilot.bench.perturbations import PERTURBATIONS, Moment
from lrpilot.bench.trial import Outcome, Progress, Trial, evaluation_steps
from lrpilot.optimizers.packaged import HYPER_LRS, MOMENTUM, WEIGHT_DECAY
from lrpilot.schedules import named_schedule
from lrpilot.schedules.checks import check_known
from lrpilot.tasks import Problem, TrainingTask, find_task
from lrpilot.tasks.protocol import Split
from lrpilot.torch.windows import Told, Windows

# Parameters of all runs of a program together: their moments then stay near the processor.
ROOM = 600_000
MOST_RUNS = 1024

# Runs evaluated at a time: a held-out set is many minibatches.
EVALUATED_AT_ONCE = 32


def _hypergradient(name: str) -> Callable[[Stack], BatchedOptimizer]:
    _, direction, per = name.split("-")
    return lambda values: Hypergradient(
        values,
        cast("Per", per),
        adam=direction == "adam",
        hyper_lr=HYPER_LRS[name],
    )


UPDATES: Mapping[str, Callable[[Stack], BatchedOptimizer]] = {
    "sgd": lambda values: Momentum(values, 0.0),
    "momentum": lambda values: Momentum(values, MOMENTUM),
    "adam": lambda values: Adam(values, 0.0),
    "adamw": lambda values: Adam(values, WEIGHT_DECAY),
    "rmsprop": RMSprop,
    **{name: _hypergradient(name) for name in HYPER_LRS},
}


def runs_per_batch(task: TrainingTask) -> int:
    """How many runs of ``task`` make a good tensor program."""
    numbers = sum(value.numel() for value in task.problem(0).parameters.values())
    return max(8, min(MOST_RUNS, ROOM // numbers))


def run_batch(trials: Sequence[Trial], progress: Progress | None = None) -> list[Outcome]:
    """Train ``trials``, which differ in schedule, rate and seed only, together.

    Each outcome is that of the trial alone, up to rounding, without the curves of losses and rates.
    Minibatches, initial values and noise are drawn once per seed. A run that diverges ends, and its
    place is given up. ``seconds`` is an equal share of the time that all took.
    """
    started = time.perf_counter()
    program = _Program(trials)
    program.evaluate(0)
    for step in range(1, program.total_steps + 1):
        program.step(step)
        if not program.at:
            break
        if progress is not None:
            progress(step / program.total_steps)
    program.finish()
    seconds = (time.perf_counter() - started) / len(trials)
    for outcome in program.outcomes:
        outcome.seconds = seconds
    return program.outcomes


class _Program:
    """The runs under way: stacked values, one row per run that has not diverged."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        first = trials[0]
        task = cast("TrainingTask", find_task(first.task))
        _check(trials, task)
        self.total_steps = first.total_steps or task.total_steps
        self.outcomes = [Outcome() for _ in trials]
        self.at = list(range(len(trials)))  # the outcome of each row
        seeds = sorted({trial.seed for trial in trials})
        self.problems = [task.problem(seed) for seed in seeds]
        self.problem: Problem = self.problems[0]
        self.seed_of = torch.tensor([seeds.index(trial.seed) for trial in trials])
        self.values = stacked([problem.parameters for problem in self.problems], self.seed_of)
        self.fixed = stacked([problem.fixed for problem in self.problems], self.seed_of)
        self.optimizer = UPDATES[first.optimizer](self.values)
        self.base_lrs = torch.tensor([trial.lr for trial in trials], dtype=torch.float64)
        self.scales = Scales(
            [named_schedule(trial.schedule, self.total_steps, trial.lr) for trial in trials],
            self.total_steps,
        )
        self.windows = Windows.of(flattened(self.values), self.scales.needs)
        self.perturbation = PERTURBATIONS[first.perturbation].make(seeds, self.total_steps)
        self.evaluate_at = evaluation_steps(self.total_steps)
        self.loss = vmap(self.problem.loss)

    def step(self, step: int) -> None:
        """One optimizer step of every run, its evaluation if one is due, and its decision."""
        moment = Moment(step, self.seed_of)
        batch = self.perturbation.batch(drawn(self.problems, self.seed_of), moment)
        losses, found = gradients(
            self.loss,
            self.values,
            self.fixed,
            batch,
            lambda losses: self.perturbation.objective(losses, moment),
        )
        shown = losses.double()
        with torch.no_grad():
            shown, found = self.perturbation.gradients(shown, found, self.values, moment)
            lrs = self.perturbation.rates(self.base_lrs * self.scales.current(), moment)
            self.optimizer.update(self.values, found, lrs.float())
            told = self.windows and self.windows.take(flattened(found), flattened(self.values))
            self.perturbation.values(self.values, moment)
            if self.problem.project is not None:
                self.problem.project(self.values)
        shown = self.perturbation.signal(shown, moment)
        evaluations = self.evaluate(step) if step in self.evaluate_at else None
        healthy = losses.isfinite()
        if evaluations is not None:
            healthy &= evaluations.isfinite()
        if not bool(healthy.all()):
            for row in (~healthy).nonzero().flatten().tolist():
                self.outcomes[self.at[row]].status = "diverged"
            rows = healthy.nonzero().flatten()
            shown, evaluations = self._keep(rows, shown, evaluations)
            told = told and Told(*(one[rows] for one in told))
        self.scales.update(shown, evaluations, told)
        if self.windows is not None:
            self.windows.turn(self.scales.decided)

    def evaluate(self, step: int) -> Tensor:
        """Validation losses (runs,) after ``step``, which every outcome records."""
        evaluations = self._held_out("validation")
        for row, loss in enumerate(evaluations.tolist()):
            self.outcomes[self.at[row]].evaluations.append((step, loss))
        return evaluations

    def finish(self) -> None:
        """Final losses of the runs that got to the end."""
        if not self.at:
            return
        for row, loss in enumerate(self._held_out("test").tolist()):
            outcome = self.outcomes[self.at[row]]
            outcome.validation_loss, outcome.test_loss = outcome.evaluations[-1][1], loss

    def _held_out(self, split: Split) -> Tensor:
        return held_out(self.problem, {**self.values, **self.fixed}, split, EVALUATED_AT_ONCE)

    def _keep(
        self, rows: Tensor, shown: Tensor, evaluations: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Give up all rows but these."""
        self.at = [self.at[row] for row in rows.tolist()]
        self.seed_of, self.base_lrs = self.seed_of[rows], self.base_lrs[rows]
        self.values = {name: value[rows] for name, value in self.values.items()}
        self.fixed = {name: value[rows] for name, value in self.fixed.items()}
        self.optimizer.keep(rows)
        self.scales.keep(rows)
        self.perturbation.keep(rows)
        if self.windows is not None:
            self.windows.keep(rows)
        return shown[rows], None if evaluations is None else evaluations[rows]


def _check(trials: Sequence[Trial], task: TrainingTask) -> None:
    kinds = {(t.task, t.optimizer, t.total_steps, t.perturbation) for t in trials}
    if len(kinds) > 1:
        raise ValueError(
            f"a batch has one task, optimizer, budget and perturbation, got {sorted(kinds)}; "
            f"make a batch of each"
        )
    if not task.batchable:
        raise ValueError(
            f"task {task.name} cannot be batched, since its losses are not pure functions that "
            f"torch.func.vmap knows; use the single engine"
        )
    optimizer = trials[0].optimizer
    if optimizer not in UPDATES:
        raise ValueError(
            f"optimizer {optimizer} has no batched form (those that do: {', '.join(UPDATES)}); "
            f"use the single engine"
        )
    check_known("perturbation", trials[0].perturbation, PERTURBATIONS)
    if any(trial.engine != "batched" for trial in trials):
        raise ValueError("a trial of a batch has engine 'batched', so that its key says so")
