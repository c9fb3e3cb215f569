"""In what share of the cells a method is as good as the reference, and what chance makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv

from lrpilot.bench.statistics.aggregates import DRAWS, Array
from lrpilot.bench.statistics.paired import CellVerdict
from lrpilot.bench.statistics.stats import CONFIDENCE

STRICT = 0.01  # of the other's mean loss
GOOD: tuple[CellVerdict, ...] = ("better", "not worse")


class Share(NamedTuple):
    """Share of all cells in which the method is shown not worse, better included.

    low, high: 95 % interval. better, worse, undecided: the other shares of the same cells.
    """

    value: float
    low: float
    high: float
    better: float
    worse: float
    undecided: float
    cells: int
    tasks: int


def share_not_worse(
    verdicts: Mapping[str, Sequence[CellVerdict]],
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
) -> Share:
    """In how many of all cells the method is *shown* as good as the reference.

    verdicts: for each task those of its cells. The denominator is all of them: an undecided cell
        is no success.

    The interval resamples tasks with their cells; what chance does within a cell is in its verdict
    already. It is never narrower than Clopper and Pearson's exact interval for as many independent
    cells, since a bootstrap of unanimous tasks has no width at all.

    Raises ValueError if there is no cell.
    """
    tasks = [[verdict in GOOD for verdict in verdicts[task]] for task in sorted(verdicts)]
    flat = [verdict for row in verdicts.values() for verdict in row]
    count = len(flat)
    if not count:
        raise ValueError("verdicts has no cell; a share needs at least one")
    good = sum(map(sum, tasks))
    low, high = _over_tasks(tasks, rng, draws, confidence)
    exact_low, exact_high = exact_interval(good, count, confidence)
    return Share(
        value=good / count,
        low=min(low, exact_low),
        high=max(high, exact_high),
        better=flat.count("better") / count,
        worse=flat.count("worse") / count,
        undecided=flat.count("undecided") / count,
        cells=count,
        tasks=len(tasks),
    )


def exact_interval(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Two-sided interval of a binomial share (Clopper and Pearson 1934).

    >>> [round(end, 4) for end in exact_interval(12, 12)]
    [0.7354, 1.0]
    """
    tail, failures = (1 - confidence) / 2, trials - successes
    low = betaincinv(successes, failures + 1, tail) if successes else 0.0
    high = betaincinv(successes + 1, failures, 1 - tail) if failures else 1.0
    return float(low), float(high)


def p_share_above(successes: int, trials: int, share: float) -> float:
    """One-sided exact p value that the true share is above ``share``: P(X >= successes).

    Of independent cells; the optimizers of one task are not quite that, so it is a lower bound.

    >>> round(p_share_above(36, 36, share=0.9), 4)
    0.0225
    """
    return float(betainc(successes, trials - successes + 1, share)) if successes else 1.0


def strict_share(
    losses: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]],
    margin: float = STRICT,
) -> float:
    """Share of the cells in which the mean loss exceeds the other's by at most ``margin`` of it.

    losses, reference: for each cell the final losses of its seeds, infinite for a run that did not
        end. A cell in which both lost a run is no success.

    A comparison of two means knows nothing of noise: print `null_strict_share` beside it.
    """
    if not losses:
        raise ValueError("losses has no cell; a share needs at least one")
    pairs = [
        (float(np.mean(ours)), float(np.mean(theirs)))
        for ours, theirs in zip(losses, reference, strict=True)
    ]
    passed = [np.isfinite(ours) and ours <= theirs + margin * abs(theirs) for ours, theirs in pairs]
    return sum(passed) / len(pairs)


def null_strict_share(
    reference: Sequence[Sequence[float]],
    *,
    rng: np.random.Generator,
    differences: Sequence[Sequence[float]] | None = None,
    seeds: int | None = None,
    margin: float = STRICT,
    draws: int = 2000,
) -> float:
    """What `strict_share` would be, on average, of a method that equals the reference.

    reference: for each cell its final losses, one per seed.
    differences: for each cell loss minus reference's loss, of the same seeds in the same order.
    seeds: how many seeds either method would have; None for as many as the cell has.

    Without ``differences``, two independent methods: both means are of losses drawn with
    replacement from the reference's. With them, a paired one: seeds are drawn with replacement, the
    reference has its losses there, and the method these plus the differences less their mean. So it
    is equal on average, and scatters around the reference as the method does. Either way deviations
    from a cell's mean are stretched by sqrt(n / (n - 1)), without which n resampled values have too
    small a variance. A cell with fewer than two seeds has no noise to draw from and is left out.

    Raises ValueError if no cell is left.
    """
    shares: list[float] = []
    for at, cell in enumerate(reference):
        losses = np.asarray(cell, dtype=np.float64)
        noise = losses if differences is None else np.asarray(differences[at], dtype=np.float64)
        if losses.shape != noise.shape:
            raise ValueError(
                f"differences must have one value per seed of the reference, got {len(noise)} for "
                f"{len(losses)} in cell {at}"
            )
        kept = np.isfinite(losses) & np.isfinite(noise)
        losses, noise = losses[kept], noise[kept]
        if len(losses) < 2:
            continue
        theirs, chosen = _resampled(losses, (draws, seeds or len(losses)), rng)
        theirs += losses.mean()
        if differences is None:
            ours = losses.mean() + _resampled(losses, chosen.shape, rng)[0]
        else:
            ours = theirs + _deviations(noise)[chosen].mean(axis=-1)
        shares.append(float(np.mean(ours <= theirs + margin * np.abs(theirs))))
    if not shares:
        raise ValueError("no cell has two finished seeds, so there is no noise to draw from")
    return sum(shares) / len(shares)


def _over_tasks(
    tasks: Sequence[Sequence[bool]], rng: np.random.Generator, draws: int, confidence: float
) -> tuple[float, float]:
    good = np.array([sum(task) for task in tasks])
    cells = np.array([len(task) for task in tasks])
    chosen = rng.integers(len(tasks), size=(draws, len(tasks)))
    shares = good[chosen].sum(axis=-1) / np.maximum(cells[chosen].sum(axis=-1), 1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(shares, (tail, 1 - tail))
    return float(low), float(high)


def _resampled(
    values: Array, size: tuple[int, ...], rng: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Deviations of resampled means from the mean, and which values were drawn."""
    chosen = rng.integers(len(values), size=size)
    return _deviations(values)[chosen].mean(axis=-1), chosen


def _deviations(values: Array) -> Array:
    """From the mean, so large that resampling them has the unbiased variance."""
    return (values - values.mean()) * np.sqrt(len(values) / (len(values) - 1))
