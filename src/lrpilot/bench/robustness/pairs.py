"""Runs of a robustness study side by side: by place and seed, and with their twins."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lrpilot.bench.robustness.rows import RobustnessRow
from lrpilot.bench.statistics.aggregates import Estimate, hierarchical_bootstrap

DRAWS = 2000
DRAWS_SEED = 0

Place = tuple[str, str, str]  # task, perturbation, schedule
Runs = Mapping[int, RobustnessRow]  # by seed


def by_place(rows: Iterable[RobustnessRow], tracks: tuple[str, ...]) -> dict[Place, Runs]:
    """The runs that serve one of the ``tracks``; seeds rise."""
    found: dict[Place, dict[int, RobustnessRow]] = {}
    for row in rows:
        if row.track in tracks:
            place = (row.task, row.perturbation, row.schedule)
            found.setdefault(place, {})[row.seed] = row
    return {place: dict(sorted(runs.items())) for place, runs in found.items()}


def with_twins(
    runs: Mapping[Place, Runs], place: Place
) -> list[tuple[RobustnessRow, RobustnessRow]]:
    """(run, unperturbed run of the same seed and rate), seed by seed."""
    twins = runs[place[0], "", place[2]]
    return [(run, twins[seed]) for seed, run in runs[place].items()]


def estimate(cells: Mapping[str, Sequence[Sequence[float]]]) -> Estimate:
    """Geometric mean of ln ratios by task, cell and seed, with its interval; NaN of nothing."""
    if not cells:
        return Estimate(math.nan, math.nan, math.nan)
    rng = np.random.default_rng(DRAWS_SEED)
    return hierarchical_bootstrap(cells, rng=rng, draws=DRAWS)
