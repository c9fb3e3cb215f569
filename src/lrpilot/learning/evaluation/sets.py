"""Problems that are held out, by what is new about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import torch

from lrpilot.bench.nmf.matrices import matrix
from lrpilot.learning.distributions import tuned_lr
from lrpilot.learning.guarded import GuardedRuns
from lrpilot.learning.net_cells import data_of, problem_of, random_cell
from lrpilot.learning.net_runs import NetRuns, runs_at
from lrpilot.learning.nmf_runs import NMFRuns, NMFSetting, random_matrices, runs_of
from lrpilot.learning.runs import Floats, Runs
from lrpilot.tasks import TrainingTask, find_task

Part = Literal["tuning", "judged"]
Stack = Callable[[Part, int, float], Runs]
"""Runs of a part: so many copies of its problems, at the untuned base rate times a factor."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Problems of one kind. group: what it is counted with. axis: what is new about it.

    guarded: the same runs, put back when they diverge; None where none does.
    """

    name: str
    group: str
    axis: str
    stack: Stack
    guarded: Stack | None = None

    @property
    def untuned(self) -> Stack:
        """What is for contenders at rates that may be wrong."""
        return self.guarded or self.stack


# Of factorisations.

MATRICES = 16  # in each part
MODERATE, STRONG = 0.2, 1.5
REFERENCE = NMFSetting(
    m=48,
    n=64,
    rank=6,
    true_rank=6,
    entries="gamma",
    data_noise=0.1,
    tail=0.0,
    noise=MODERATE,
    batch=16,
    total_steps=300,
)
STARTS = 8  # of a real matrix, in each part
REAL_STEPS = 380  # 20 passes over 600 columns, 32 at a time
REAL = ("digits", "docstrings", "photo", "flower", "measurements")


def nmf_sets() -> list[HeldOut]:
    """By noise, horizon, size and data, each but the first under moderate and strong noise."""
    found = [
        _made(f"noise {noise:g}", "noise", replace(REFERENCE, noise=noise))
        for noise in (0.0, 0.05, 0.2, 0.5, 1.0, 1.5, 3.0)
    ]
    for noise in (MODERATE, STRONG):
        reference = replace(REFERENCE, noise=noise)
        shifts = {
            ("horizon", "75 steps"): replace(reference, total_steps=75),
            ("horizon", "1200 steps"): replace(reference, total_steps=1200),
            ("size", "16 x 24"): replace(reference, m=16, n=24, rank=3, true_rank=3),
            ("size", "150 x 200"): replace(
                reference, m=150, n=200, rank=16, true_rank=16, batch=32
            ),
            ("rank", "too low"): replace(reference, true_rank=12),
            ("rank", "too high"): replace(reference, true_rank=3),
            ("data", "sparse"): replace(reference, entries="sparse"),
            ("data", "heavy tails"): replace(reference, entries="exponential", tail=1.0),
        }
        for (axis, name), setting in shifts.items():
            found.append(_made(f"{name}, noise {noise:g}", axis, setting))
    for noise in (0.0, MODERATE, STRONG):
        found += [_real(name, noise) for name in REAL]
    return found


def group_of(noise: float) -> str:
    """What the noise on the gradients, in gradients at the start, is called."""
    return "strong noise" if noise > 0.7 else "low or moderate noise"


def _made(name: str, axis: str, setting: NMFSetting) -> HeldOut:
    def stack(part: Part, copies: int, factor: float) -> Runs:
        rng = np.random.default_rng([*name.encode(), int(part == "judged")])
        V = random_matrices(setting, MATRICES, rng)
        return runs_of(setting, V, rng, wrong=factor, copies=copies)

    return HeldOut(name, group_of(setting.noise), axis, stack)


def _real(name: str, noise: float) -> HeldOut:
    def stack(part: Part, copies: int, factor: float) -> Runs:
        V, rank = matrix(name)
        rng = np.random.default_rng([*name.encode(), int(part == "judged")])
        several = V.float().expand(STARTS, *V.shape)
        return NMFRuns(
            several,
            rank,
            total_steps=REAL_STEPS,
            rng=rng,
            noise=noise,
            batch=32,
            wrong=factor,
            copies=copies,
        )

    return HeldOut(f"{name}, noise {noise:g}", group_of(noise), "real data", stack)


# Of networks.

SEEN_CELLS = (*range(80, 96), *range(608, 640))  # looked at before these policies were judged
FRESH_CELLS = range(688, 700)  # not looked at before
LARGER_CELLS = (706, 709, 710, 712, 713, 718, 724, 748)  # nor these: the first that train fast
STRETCHED = range(80, 96, 4)
SEEDS: Mapping[Part, range] = {"tuning": range(900, 903), "judged": range(0, 5)}
LONGER = 4  # times the horizon
TASKS = (  # of the bench, whose data no policy is trained on; with the optimizer and the steps
    ("digits-mlp", "momentum", 400),
    ("digits-mlp", "adamw", 400),
    ("cancer-logreg", "momentum", 150),
    ("cancer-logreg", "adamw", 150),
)


def net_sets() -> list[HeldOut]:
    """Cells that no policy was trained or chosen on, longer horizons, and tasks of the bench."""
    found = [_cell(number, 1, "fresh problems") for number in FRESH_CELLS]
    found += [_cell(number, 1, "larger networks") for number in LARGER_CELLS]
    found += [_cell(number, 1, "new problems") for number in SEEN_CELLS]
    found += [_cell(number, LONGER, f"{LONGER} times the steps") for number in STRETCHED]
    found += [_task(*one) for one in TASKS]
    return found


class Tested:
    """Runs of networks that are measured on the test split at the end, not on validation."""

    def __init__(self, runs: NetRuns | GuardedRuns) -> None:
        self.runs = runs
        self.count, self.total_steps = runs.count, runs.total_steps
        self.step, self.put_back, self.retreats = runs.step, runs.put_back, runs.retreats
        self.told, self.travelled, self.turn = runs.told, runs.travelled, runs.turn

    def measure(self) -> Floats:
        """The loss on the test split."""
        return self.runs.measure("test")


def _cell(number: int, longer: int, axis: str) -> HeldOut:
    cell = random_cell(number)
    total_steps = cell.total_steps * longer

    @cache
    def data() -> dict[str, tuple[torch.Tensor, ...]]:
        return data_of(cell)

    def runs(part: Part, copies: int, factor: float) -> NetRuns:
        return runs_at(
            [problem_of(cell, seed, data()) for seed in SEEDS[part]],
            [tuned_lr(cell) * factor],
            optimizer=cell.optimizer,
            total_steps=total_steps,
            copies=copies,
        )

    name = f"{number}: {cell.data}, {cell.optimizer}, {total_steps} steps"
    return _networks(name, axis, runs)


def _task(name: str, optimizer: str, total_steps: int) -> HeldOut:
    task = find_task(name)
    if not isinstance(task, TrainingTask):
        raise TypeError(f"{name} is no task that trains many runs at once")

    def runs(part: Part, copies: int, factor: float) -> NetRuns:
        return runs_at(
            [task.problem(seed) for seed in SEEDS[part]],
            [task.lrs[optimizer] * factor],
            optimizer=optimizer,
            total_steps=total_steps,
            copies=copies,
        )

    return _networks(f"{name}, {optimizer}, {total_steps} steps", "bench tasks", runs)


def _networks(name: str, axis: str, runs: Callable[[Part, int, float], NetRuns]) -> HeldOut:
    def stack(part: Part, copies: int, factor: float) -> Runs:
        found = runs(part, copies, factor)
        return Tested(found) if part == "judged" else found

    def guarded(part: Part, copies: int, factor: float) -> Runs:
        found = GuardedRuns(runs(part, copies, factor))
        return Tested(found) if part == "judged" else found

    return HeldOut(name, "networks", axis, stack, guarded)
