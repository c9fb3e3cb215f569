"""What cells say together: means of ratios, bootstrap over tasks and seeds, Holm's correction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrpilot.bench.statistics.stats import CONFIDENCE

Array = NDArray[np.float64]
Cells = Mapping[str, Sequence[Sequence[float]]]
"""For each task its cells (one per optimizer, say), each with one ln ratio per seed."""
Statistic = Callable[[Array], Array]
"""Of samples (..., cells, seeds) of ln ratios, along the last two axes. NaN is padding."""

DRAWS = 10_000
DRAWS_AT_ONCE = 1000  # bounds the memory: 36 cells of 10 seeds take 3 MB


class Estimate(NamedTuple):
    """A statistic with its 95 % interval."""

    value: float
    low: float
    high: float


class Range(NamedTuple):
    """Lowest and highest value of a statistic without one task, and which task that is."""

    low: float
    low_without: str
    high: float
    high_without: str


def geometric_mean(log_ratios: Array) -> Array:
    """Geometric mean over the cells of their geometric means over seeds: a ratio.

    >>> round(float(geometric_mean(np.log([[2.0, 2.0], [0.5, 0.5]]))), 6)
    1.0
    """
    return np.exp(_mean(_mean(log_ratios)))


def interquartile_mean(log_ratios: Array) -> Array:
    """Geometric mean of the middle half of the cells: a ratio that no single cell can carry.

    A quarter of the cells, rounded down, is cut off at either end.
    """
    ordered = np.sort(_mean(log_ratios), axis=-1)  # NaN last
    count = np.sum(~np.isnan(ordered), axis=-1, keepdims=True)
    cut, at = count // 4, np.arange(ordered.shape[-1])
    middle = (at >= cut) & (at < count - cut)
    return np.exp(_mean(np.where(middle, ordered, np.nan)))


def probability_of_improvement(log_ratios: Array) -> Array:
    """How probable it is that the method beats the reference: random cell, random paired seed.

    Ties count half, so a method that is the reference has 0.5.
    """
    wins = (np.sign(log_ratios) + 1) / 2
    return _mean(_mean(wins))


def hierarchical_bootstrap(
    cells: Cells,
    statistic: Statistic = geometric_mean,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Percentile interval of ``statistic``, resampling tasks, and within each of them seeds.

    The cells of a task stay together, and take the same seeds, since optimizers share a task's
    starts and data. Each copy of a task draws its own seeds. Resampling the tasks alone would
    already carry the noise of the seeds, so the interval errs on the wide side where seeds are
    noisy, and on the narrow side where tasks are few.

    The order of tasks in the mapping is irrelevant.

    Raises ValueError for no task, a task without cells, an empty cell or a value that is not
    finite.

    >>> cells = {"a": [[0.1, 0.2]], "b": [[0.0, 0.1]], "c": [[0.2, 0.0]]}
    >>> hierarchical_bootstrap(cells, rng=np.random.default_rng(0)).low > 1.0
    True
    """
    values, seeds = _padded(cells)
    tasks = len(values)
    drawn: list[Array] = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        shape = (min(DRAWS_AT_ONCE, draws - start), tasks)
        chosen = rng.integers(tasks, size=shape)
        # One uniform number per seed, scaled to each cell's own number of seeds.
        uniform = rng.random((*shape, 1, values.shape[-1]))
        count = seeds[chosen][..., None]
        sample = np.take_along_axis(values[chosen], (uniform * count).astype(np.intp), axis=-1)
        sample[np.arange(values.shape[-1]) >= count] = np.nan
        drawn.append(statistic(sample.reshape(len(sample), -1, values.shape[-1])))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    return Estimate(_of_all(cells, statistic), float(low), float(high))


def leave_one_out(cells: Cells, statistic: Statistic = geometric_mean) -> Range:
    """Between what the statistic varies as one task is left out, since one task can carry a mean.

    Raises ValueError for fewer than two tasks.
    """
    if len(cells) < 2:
        raise ValueError(f"leaving a task out takes two tasks or more, got {len(cells)}")
    without = {
        task: _of_all({name: cells[name] for name in cells if name != task}, statistic)
        for task in sorted(cells)
    }
    lowest = min(without, key=without.__getitem__)
    highest = max(without, key=without.__getitem__)
    return Range(without[lowest], lowest, without[highest], highest)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the order given: reject those at most alpha (Holm 1979).

    The chance of any false rejection is then at most alpha, however the tests depend.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p values must lie in [0, 1], got {p}")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, at in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = highest
    return adjusted


def _of_all(cells: Cells, statistic: Statistic) -> float:
    values, _ = _padded(cells)
    return float(statistic(values.reshape(-1, values.shape[-1])))


def _padded(cells: Cells) -> tuple[Array, NDArray[np.intp]]:
    """Values (tasks, cells, seeds) padded with NaN, and the number of seeds (tasks, cells)."""
    rows = [(task, cell) for task in sorted(cells) for cell in cells[task]]
    if not rows or not all(cells.values()) or not all(len(cell) for _, cell in rows):
        raise ValueError("every task needs a cell and every cell a seed; drop the task if it is so")
    shape = (len(cells), max(map(len, cells.values())), max(len(cell) for _, cell in rows))
    values, seeds = np.full(shape, np.nan), np.zeros(shape[:2], dtype=np.intp)
    for at, task, place, cell in _places(cells):
        if not np.all(np.isfinite(cell)):
            raise ValueError(
                f"ln ratios of {task} must be finite, got {list(cell)}; a lost run counts as the "
                f"lowest budget-equivalent"
            )
        values[at, place, : len(cell)] = cell
        seeds[at, place] = len(cell)
    return values, seeds


def _places(cells: Cells) -> Iterator[tuple[int, str, int, Sequence[float]]]:
    for at, task in enumerate(sorted(cells)):
        for place, cell in enumerate(cells[task]):
            yield at, task, place, cell


def _mean(values: Array) -> Array:
    """Over the last axis without the padding; NaN if there is nothing else."""
    present = ~np.isnan(values)
    if present.all():
        return values.mean(axis=-1)
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
