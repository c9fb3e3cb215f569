"""Carry the study out: every schedule at every rate, inside the bound and without it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from lrpilot.bench.batched.schedules import Scales
from lrpilot.bench.nmf.matrices import SOURCES, attainable, matrix
from lrpilot.bench.results import ResultRow
from lrpilot.bench.suite import BUDGET_REFERENCE, TUNING_SEEDS, Suite, grid
from lrpilot.nmf import Factors, Settings, Solver, curvature, random_start
from lrpilot.schedules import named_schedule

BATCH = 32  # columns
RISEN = 1.01  # times ‖V‖², which the scaled start leaves at most: a run that ends above it is lost
NOISES = {"minibatch": 0.0, "noise-0.5": 0.5, "noise-2": 2.0}
"""The families: norm of the noise on each gradient beside the minibatch's own, in gradients at the
start."""
ARMS = ("bound", "absolute", "unclipped")
"""What becomes of a rate a. Inside the bound it is a / L at the run's own start, and clipped: the
solver's default, with its anchor for a. Absolute rates are a / L of one start for all runs: clipped
by the bound alike, or taken as they are. L is the curvature of theorem T3. Nothing is mended in any
arm, so that the clip alone makes the difference."""
SCHEDULES = ("constant", "step", "exponential", "cosine", "linear", "greedy", "greedy-cooldown")


def optimizer_name(arm: str, family: str) -> str:
    """An arm's name in the rows of a family: the family's own inside the bound."""
    return family if arm == "bound" else f"{arm}-{family}"


SUITE = Suite(
    name="nmf",
    tasks=tuple(SOURCES),
    families=tuple(NOISES),
    schedules=SCHEDULES,
    baselines={
        family: tuple((optimizer_name(arm, family), name) for arm in ARMS[1:] for name in SCHEDULES)
        for family in NOISES
    },
    responses=tuple(SOURCES),
    baselines_respond=True,
    horizons=(0.25, 0.5, 1.0, 2.0),
    total_steps=240,
    centre=Settings().anchor,
)


class Run(NamedTuple):
    """One run: its schedule, its base rate in units of 1 / L, and its length."""

    schedule: str
    lr: float
    steps: int


class Job(NamedTuple):
    """All runs from one start: they see the same minibatches."""

    task: str
    family: str
    seed: int


def run_study(
    workers: int, console: Console, *, suite: Suite = SUITE, seeds: Sequence[int] | None = None
) -> list[ResultRow]:
    """Rows of all runs, tuning seeds included.

    A row's loss is the share of ‖V‖² that the run leaves beyond what is attainable; None for a run
    that ends above where any start is, or not at all. It is the objective itself: nothing is held
    out, so that validation and test loss are one number.
    """
    seeds = (*TUNING_SEEDS, *suite.evaluation_seeds) if seeds is None else seeds
    jobs = [Job(*at, seed) for at in _cells(suite) for seed in seeds]
    pool = ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    )
    with pool, Progress(console=console) as progress:
        bar = progress.add_task("factorising", total=len(jobs) + len(suite.tasks))
        floors = {name: pool.submit(attainable, name) for name in suite.tasks}
        found = {job: pool.submit(run_job, job, suite) for job in jobs}
        for _ in as_completed([*floors.values(), *found.values()]):
            progress.advance(bar)
    return [
        row(job, arm, run, left - floors[job.task].result(), lost=not left <= RISEN)
        for job in jobs
        for arm, run, left in found[job].result()
    ]


def row(job: Job, arm: str, run: Run, excess: float, *, lost: bool) -> ResultRow:
    """A run as the claims read it; its time is that of a tensor program and is not kept."""
    loss = None if lost else excess
    status = "diverged" if lost else "done"
    name = optimizer_name(arm, job.family)
    return ResultRow(job.task, name, *run[:2], job.seed, run.steps, status, loss, loss, 0, 0.0, ())


def run_job(job: Job, suite: Suite) -> list[tuple[str, Run, float]]:
    """Arm, run and what it leaves of ‖V‖², of all runs of a job."""
    return [
        (arm, run, left)
        for arm in ARMS
        for runs in _programs(arm, suite)
        for run, left in zip(runs, shares_left(job, arm, runs), strict=True)
    ]


def shares_left(job: Job, arm: str, runs: Sequence[Run]) -> list[float]:
    """What each of ``runs`` leaves of ‖V‖² at its end, all of them as one tensor program."""
    V, solver = matrix(job.task)[0], started(job, arm, len(runs))
    longest = max(run.steps for run in runs)
    scales = Scales([named_schedule(run.schedule, run.steps) for run in runs], longest)
    lrs = torch.tensor([run.lr for run in runs], dtype=torch.float64)
    ends = torch.tensor([run.steps for run in runs])
    left = torch.full((len(runs),), math.nan, dtype=torch.float64)
    for step in range(1, longest + 1):
        losses = solver.step(lrs * scales.current())
        scales.update(losses.double(), None)
        ending = ends == step
        if bool(ending.any()):
            left[ending] = share_left(V, solver.W[ending], solver.H[ending])
    return left.tolist()


def started(job: Job, arm: str, runs: int) -> Solver:
    """So many runs of a job before their first step, all alike."""
    V, rank = matrix(job.task)
    rng = np.random.default_rng(job.seed)
    start = random_start(V, rank, rng)
    copies = Factors(*(x.expand(runs, *x.shape).clone() for x in start))
    return Solver(V, copies, settings(job, arm), rng)


def settings(job: Job, arm: str) -> Settings:
    """How the runs of an arm step, at a scale of 1: at the rate 1 / L."""
    rate = "anchored" if arm == "bound" else 1 / curvature_at_start(job.task)
    ceiling = math.inf if arm == "unclipped" else Settings().ceiling
    return Settings(
        batch=BATCH, rate=rate, anchor=1.0, ceiling=ceiling, noise=NOISES[job.family], mends=False
    )


def curvature_at_start(task: str) -> float:
    """L of W at the start of the first tuning seed: the unit of absolute rates."""
    V, rank = matrix(task)
    H = random_start(V, rank, np.random.default_rng(TUNING_SEEDS[0])).H
    top, longest = curvature.block(H, iterations=20), curvature.longest(H)
    return curvature.minibatch(top, longest, size=V.shape[1], batch=BATCH, replace=False).item()


def share_left(V: Tensor, W: Tensor, H: Tensor) -> Tensor:
    """‖V − WH‖² / ‖V‖², in float64 and without cancellation: (...)."""
    V = V.double()
    return (V - W.double() @ H.double()).square().sum((-2, -1)) / V.square().sum()


def _cells(suite: Suite) -> Iterator[tuple[str, str]]:
    for task in suite.tasks:
        for family in suite.families:
            yield task, family


def _programs(arm: str, suite: Suite) -> Iterator[list[Run]]:
    """Runs that go well together: the longer ones of the reference apart."""
    budget = suite.total_steps or 0
    lrs = grid(suite.centre or 1.0, suite.response_points)
    own = [Run(schedule, lr, budget) for schedule in suite.schedules for lr in lrs]
    if arm != "bound":
        yield own
        return
    steps = [round(horizon * budget) for horizon in suite.horizons if horizon != 1]
    reference = [Run(BUDGET_REFERENCE, lr, length) for length in steps for lr in lrs]
    yield [*own, *(run for run in reference if run.steps < budget)]
    yield [run for run in reference if run.steps > budget]
