"""The best base rate of a cell for cosine annealing: what a wrong rate is wrong against."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lrpilot.learning.net_cells import NetCell, data_of, problem_of
from lrpilot.learning.net_runs import runs_at
from lrpilot.learning.runs import Floats
from lrpilot.schedules import Cosine

GRID = tuple(10 ** (k / 2) for k in range(-9, 3))  # half-decades
TUNING_SEEDS = (900, 901)


class Tuned(NamedTuple):
    """lr: the best rate of the grid. left: ln of the loss that it ends with."""

    lr: float
    left: float


def tune(cell: NetCell, grid: tuple[float, ...] = GRID) -> Tuned:
    """Cosine at every rate of the grid, on two seeds, judged on the validation split."""
    finals = cosine_finals(cell, grid, TUNING_SEEDS)
    found = np.where(np.isfinite(finals), finals, np.inf).mean(axis=1)
    best = int(found.argmin())
    return Tuned(grid[best], float(found[best]))


def cosine_finals(cell: NetCell, lrs: tuple[float, ...], seeds: tuple[int, ...]) -> Floats:
    """ln of the validation loss (rates, seeds) that cosine ends with."""
    data = data_of(cell)
    problems = [problem_of(cell, seed, data) for seed in seeds]
    runs = runs_at(problems, lrs, optimizer=cell.optimizer, total_steps=cell.total_steps)
    cosine, ones = Cosine(), np.ones(runs.count)
    for step in range(cell.total_steps):
        runs.step(cosine(step / cell.total_steps) * ones)
    return np.log(np.maximum(runs.measure(), math.exp(-60))).reshape(len(lrs), len(seeds))
