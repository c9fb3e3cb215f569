"""One trial: one task, optimizer, schedule, base rate and seed, trained to the end."""

from __future__ import annotations

import hashlib
import json
import math
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.bench.training_function import TrainingTrial, is_function, train
from lrpilot.schedules import Signal, named_schedule
from lrpilot.tasks import find_task
from lrpilot.torch.windows import OptimizerWindows

Status = Literal["done", "diverged", "failed"]
Loop = Literal["single", "batched"]
Progress = Callable[[float], None]

# Rises with every change, here or in a schedule, that alters the numbers a trial yields.
RESULTS_VERSION = 2

EVALUATIONS = 20

MEMORY_CURE = "run fewer trials at once, or a smaller model or batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is trained; equal trials yield equal numbers.

    task: the name of a built-in task, or "train.py:train" for a training function.
    task_version: the task's version, or the hash of the training function's file and settings.
    optimizer: empty for a training function, which makes its own.
    settings: the schedule with its settings, as its repr.
    total_steps: None leaves the horizon to the training function.
    perturbation: what disturbs the run, by name; empty for nothing.
    engine: "single" for a loop over steps of one run, "batched" for many runs as one tensor
        program, whose numbers differ by rounding.
    """

    task: str
    task_version: str
    optimizer: str
    schedule: str
    settings: str
    lr: float
    seed: int
    total_steps: int | None
    perturbation: str = ""
    engine: Loop = "single"

    @property
    def key(self) -> str:
        """The trial's name in the store: a hash of all the above."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        text = json.dumps({"results": RESULTS_VERSION, **settings}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a trial showed.

    validation_loss, test_loss: at the end; None if the trial has none, or diverged.
    losses, rates: training loss and learning rate (of the first group) at each step taken.
    evaluations: (steps taken, validation loss), in order.
    error: of a failed trial, the exception in one line, then the traceback.
    extra_forwards: forward passes beyond one per step, as a line search makes.
    """

    status: Status = "done"
    validation_loss: float | None = None
    test_loss: float | None = None
    losses: list[float] = field(default_factory=list[float])
    rates: list[float] = field(default_factory=list[float])
    evaluations: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    seconds: float = 0.0
    error: str | None = None
    extra_forwards: int = 0


def run_trial(trial: Trial, progress: Progress) -> Outcome:
    """Train; an exception makes a failed outcome, a non-finite loss a diverged one.

    progress: told, now and then, which share of the trial is done.
    """
    started = time.perf_counter()
    outcome = Outcome()
    try:
        if is_function(trial.task):
            _run_function(trial, outcome, progress)
        else:
            _run_task(trial, outcome, progress)
    except (Exception, SystemExit) as error:  # whatever a training function raises is its outcome
        outcome.status = "failed"
        outcome.error = error_text(error)
        outcome.validation_loss = outcome.test_loss = None
    outcome.seconds = time.perf_counter() - started
    return outcome


def error_text(error: BaseException) -> str:
    """The exception in one line, with a cure where memory ran out, then its traceback."""
    summary = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
    # On a CPU torch has no kind of its own for it.
    of_torch = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
    if of_torch or isinstance(error, MemoryError):
        summary += f"; {MEMORY_CURE}"
    return f"{summary}\n\n{''.join(traceback.format_exception(error))}"


def trial_count(count: int) -> str:
    """So many trials, in words.

    >>> trial_count(1), trial_count(1234)
    ('1 trial', '1,234 trials')
    """
    return f"{count:,} trial{'' if count == 1 else 's'}"


def evaluation_steps(total_steps: int) -> set[int]:
    """The steps after which a run is evaluated: ``EVALUATIONS`` of them, evenly spread."""
    return {round(total_steps * k / EVALUATIONS) for k in range(1, EVALUATIONS + 1)}


def _run_task(trial: Trial, outcome: Outcome, progress: Progress) -> None:
    if trial.perturbation:
        raise ValueError(
            f"perturbation {trial.perturbation!r} is known to batches alone; run the trial with "
            f"engine='batched'"
        )
    task = find_task(trial.task)
    total_steps = trial.total_steps or task.total_steps
    schedule = named_schedule(trial.schedule, total_steps, trial.lr)
    windows = OptimizerWindows()
    windows.follow(schedule.needs)

    def optimizer(parameters: Iterable[Tensor], lr: float) -> Optimizer:
        made = OPTIMIZERS[trial.optimizer](parameters, lr)
        windows.watch(made)
        return made

    run = task.start(trial.seed, optimizer)
    evaluate_at = evaluation_steps(total_steps)
    state = schedule.init()
    outcome.evaluations.append((0, run.evaluate()))
    for step in range(1, total_steps + 1):
        lr = trial.lr * state.scale
        signal = Signal(run.step(lr))
        told = windows.take()
        if told:
            signal = signal._replace(**told._asdict())
        outcome.losses.append(signal.loss)
        outcome.rates.append(lr)
        if step in evaluate_at:
            signal = signal._replace(evaluation=run.evaluate())
            outcome.evaluations.append((step, signal.evaluation))
        if not math.isfinite(signal.loss) or not math.isfinite(outcome.evaluations[-1][1]):
            outcome.status = "diverged"
            return
        state = schedule.update(state, signal)
        windows.heed(state)
        progress(step / total_steps)
    outcome.extra_forwards = run.extra_forwards
    outcome.validation_loss = outcome.evaluations[-1][1]
    outcome.test_loss = run.evaluate("test")


def _run_function(trial: Trial, outcome: Outcome, progress: Progress) -> None:
    handed = TrainingTrial(
        seed=trial.seed,
        lr=trial.lr,
        steps=trial.total_steps,
        schedule=trial.schedule,
        on_share=progress,
    )
    outcome.losses, outcome.rates = handed.losses, handed.rates
    outcome.evaluations = handed.evaluations
    train(trial.task, handed)
    if math.isfinite(handed.evaluations[-1][1]):
        outcome.validation_loss, outcome.test_loss = handed.evaluations[-1][1], handed.test_loss
    else:
        outcome.status = "diverged"
