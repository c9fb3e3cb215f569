"""Carry the study out: every schedule at every rate, inside the bound and without it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from lrpilot.bench.batched.schedules import Scales
from lrpilot.bench.nmf.jobs import numbers_of
from lrpilot.bench.nmf.matrices import COLUMNS, PASSES, SOURCES, STARTS, attainable, matrix
from lrpilot.bench.results import ResultRow
from lrpilot.bench.store import Store
from lrpilot.bench.suite import BUDGET_REFERENCE, TUNING_SEEDS, Suite, grid
from lrpilot.bench.trial import RESULTS_VERSION
from lrpilot.bench.versions import versions
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
    store: Store,
    workers: int,
    console: Console,
    *,
    suite: Suite = SUITE,
    seeds: Sequence[int] | None = None,
) -> list[ResultRow]:
    """Rows of all runs, tuning seeds included. Runs the jobs that the store lacks.

    A row's loss is the share of ‖V‖² that the run leaves beyond what is attainable; None for a run
    that ends above where any start is, or not at all. It is the objective itself: nothing is held
    out, so that validation and test loss are one number.

    A job's numbers are stored as it ends. Those of another plan, or made with other versions of
    the packages or of Python, whose docstrings are a matrix, are left alone and not used.

    Raises StoreError; ChildProcessError if a worker dies.
    """
    seeds = (*TUNING_SEEDS, *suite.evaluation_seeds) if seeds is None else seeds
    jobs = [Job(*at, seed) for at in _cells(suite) for seed in seeds]
    floors = {name: floor_key(name) for name in suite.tasks}
    keys = {job: job_key(job, suite) for job in jobs}
    wanted = {key: partial(floor, name) for name, key in floors.items()}
    wanted |= {key: partial(run_job, job, suite) for job, key in keys.items()}
    found = numbers_of(wanted, store, workers, console)
    return [
        row(job, arm, run, left - found[floors[job.task]][0], lost=not left <= RISEN)
        for job in jobs
        for (arm, run), left in zip(runs_of_a_job(suite), found[keys[job]], strict=True)
    ]


def job_key(job: Job, suite: Suite) -> str:
    """All that the numbers of a job depend on, as JSON."""
    budget = suite.total_steps or 0
    schedules = [repr(named_schedule(name, budget)) for name in suite.schedules]
    plan = [schedules, suite.horizons, budget, suite.response_points, suite.centre]
    return _key(job=job, plan=plan, noise=NOISES[job.family], batch=BATCH, solver=repr(Settings()))


def floor_key(task: str) -> str:
    """All that `attainable` depends on, as JSON."""
    return _key(attainable=task, starts=STARTS, passes=PASSES)


def _key(**parts: object) -> str:
    made_with = {"results": RESULTS_VERSION, "columns": COLUMNS, "versions": json.loads(versions())}
    return json.dumps({**parts, **made_with}, sort_keys=True)


def floor(task: str) -> list[float]:
    """`attainable`, as a job's numbers."""
    return [attainable(task)]


def row(job: Job, arm: str, run: Run, excess: float, *, lost: bool) -> ResultRow:
    """A run as the claims read it; its time is that of a tensor program and is not kept."""
    loss = None if lost else excess
    status = "diverged" if lost else "done"
    name = optimizer_name(arm, job.family)
    return ResultRow(job.task, name, *run[:2], job.seed, run.steps, status, loss, loss, 0, 0.0, ())


def run_job(job: Job, suite: Suite) -> list[float]:
    """What each of `runs_of_a_job` leaves of ‖V‖²."""
    return [
        left
        for arm in ARMS
        for runs in _programs(arm, suite)
        for left in shares_left(job, arm, runs)
    ]


def runs_of_a_job(suite: Suite) -> list[tuple[str, Run]]:
    """Arm and run, in the order in which a job runs them."""
    return [(arm, run) for arm in ARMS for runs in _programs(arm, suite) for run in runs]


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
