"""The best rate of a grid, and where to look further while it is at the edge."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from lrpilot.bench.suite import neighbours

EXTENSIONS = 6  # half-decades beyond the edge of the first grid

KeyT = TypeVar("KeyT", bound=Hashable)
Losses = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best rate of a grid.

    loss: median final loss of the runs that ended at this rate; infinite if none did.
    lost: how many runs did not end at this rate.
    tried: how many rates the grid has by now.
    at_edge: the best rate is the lowest or the highest, so that a better one may lie outside.
    extension: rates to add to the grid before choosing again; empty if the choice is final. A
        final choice at the edge ran into the limit of extensions: say so where it is shown.
    """

    lr: float
    loss: float
    lost: int
    tried: int
    at_edge: bool
    extension: tuple[float, ...]


def tune(
    lrs: Sequence[float],
    losses_by_lr: Sequence[Losses],
    *,
    points: int | None = None,
    extensions: int = EXTENSIONS,
) -> Choice:
    """The rate at which most runs ended, and among these the one with the lowest median loss.

    lrs: the grid, rising, extensions included.
    losses_by_lr: for each rate the final validation loss of each tuning seed; None, NaN or
        infinite for a run that did not end.
    points: size of the grid before it was extended; None if ``lrs`` is that grid.
    extensions: how many half-decades may be added.

    Equally good rates: the one nearest to the middle of the grid, so that a method that does not
    use the rate is not followed to the edge. If no run ended anywhere, the lowest rate, since
    lower rates diverge less.

    Only one side is ever extended: a new rate either becomes the best or leaves its neighbour, now
    inside the grid, the best. So the limit holds for each side. The plain median is kept rather
    than the grid point nearest to a parabola through ln loss: a parabola through the cliff of
    divergence points too low.

    Raises ValueError for a grid that does not rise or does not match the losses.

    >>> tune([0.01, 0.03, 0.1], [[0.9, 1.0], [0.5, 0.6], [0.4, None]]).lr
    0.03
    >>> tune([0.01, 0.03, 0.1], [[0.9, 1.0], [0.5, 0.6], [0.4, 0.5]]).extension
    (0.3,)
    """
    if not lrs or any(low >= high for low, high in pairwise(lrs)):
        raise ValueError(f"lrs must rise and have at least one rate, got {list(lrs)}")
    if len(lrs) != len(losses_by_lr):
        raise ValueError(
            f"losses_by_lr must have one list per rate, got {len(losses_by_lr)} for {len(lrs)}"
        )
    ended = [_finite(losses) for losses in losses_by_lr]
    lost = [len(losses) - len(kept) for losses, kept in zip(losses_by_lr, ended, strict=True)]
    medians = [statistics.median(kept) if kept else math.inf for kept in ended]
    middle = (len(lrs) - 1) / 2
    ranks = [(lost[at], medians[at], abs(at - middle)) for at in range(len(lrs))]
    best = ranks.index(min(ranks)) if any(ended) else 0
    left = extensions - (len(lrs) - (points or len(lrs)))
    further: tuple[float, ...] = ()
    if best == 0:
        further += neighbours(lrs[0])[:1]
    if best == len(lrs) - 1 and any(ended):
        further += neighbours(lrs[-1])[2:]
    return Choice(
        lr=lrs[best],
        loss=medians[best],
        lost=lost[best],
        tried=len(lrs),
        at_edge=best in (0, len(lrs) - 1),
        extension=further if left > 0 else (),
    )


@dataclass(frozen=True, slots=True)
class Tuned:
    """A best rate and the grid, extensions included, that it is the best of."""

    lr: float
    grid: tuple[float, ...]


def tune_all(
    grids: Mapping[KeyT, tuple[float, ...]],
    run: Callable[[list[tuple[KeyT, float]]], Mapping[tuple[KeyT, float], Losses]],
) -> dict[KeyT, Tuned]:
    """`tune` for many grids at once, each extended until its best rate is not at its edge.

    run: trains what is named, at the rates that are asked for, and returns the losses by seed.
    """
    found = {key: Tuned(grid[0], grid) for key, grid in grids.items()}
    losses: dict[tuple[KeyT, float], Losses] = {}
    asked = dict(grids)
    while asked:
        losses |= run([(key, lr) for key, lrs in asked.items() for lr in lrs])
        further: dict[KeyT, tuple[float, ...]] = {}
        for key in asked:
            grid = found[key].grid
            choice = tune(grid, [losses[key, lr] for lr in grid], points=len(grids[key]))
            if choice.extension:
                further[key] = choice.extension
            found[key] = Tuned(choice.lr, tuple(sorted({*grid, *choice.extension})))
        asked = further
    return found


def _finite(losses: Sequence[float | None]) -> list[float]:
    return [loss for loss in losses if loss is not None and math.isfinite(loss)]
