"""How a method responds to its base rate: usable decades, expected best of a few trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

USABLE = 0.5  # of the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A method's budget-equivalents over a grid of rates.

    decades: width of the contiguous range around the best rate in which they are usable.
    low, high: that range; None if no rate is usable.
    usable: how many rates of the grid are usable, contiguous with the best or not.
    open_below, open_above: the range reaches the edge of the grid, so that it may be wider.
    mean: geometric mean over the grid. worst: lowest of the grid.
    """

    decades: float
    low: float | None
    high: float | None
    usable: int
    rates: int
    open_below: bool
    open_above: bool
    mean: float
    worst: float


def robustness_range(
    lrs: Sequence[float], budget_equivalents: Sequence[float], level: float = USABLE
) -> Response:
    """How far the rate may be off: where the budget-equivalent is at least ``level``.

    lrs: rising. budget_equivalents: one per rate, the geometric mean over seeds.

    The ends of the range lie where the line through ln budget-equivalent over ln rate crosses the
    level between a usable rate and its unusable neighbour. Of equally good rates the lowest counts
    as the best.

    >>> response = robustness_range([0.01, 0.1, 1.0, 10.0], [0.25, 1.0, 1.0, 0.25])
    >>> response.decades, response.usable
    (2.0, 2)
    """
    if not lrs or any(low >= high for low, high in pairwise(lrs)):
        raise ValueError(f"lrs must rise and have at least one rate, got {list(lrs)}")
    if len(lrs) != len(budget_equivalents):
        raise ValueError(
            f"budget_equivalents must have one value per rate ({len(lrs)}), "
            f"got {len(budget_equivalents)}"
        )
    if not all(value > 0 and math.isfinite(value) for value in (*budget_equivalents, level)):
        raise ValueError(
            f"budget_equivalents and level must be positive and finite, got "
            f"{list(budget_equivalents)} and {level:g}"
        )
    points = [(math.log10(lr), math.log(x)) for lr, x in zip(lrs, budget_equivalents, strict=True)]
    wanted = math.log(level)
    best = max(range(len(points)), key=lambda at: points[at][1])
    low, high, found = points[best][0], points[best][0], points[best][1] >= wanted
    if found:
        low, open_below = _end(points[best::-1], wanted)
        high, open_above = _end(points[best:], wanted)
    else:
        open_below = open_above = False
    return Response(
        decades=high - low,
        low=10**low if found else None,
        high=10**high if found else None,
        usable=sum(value >= level for value in budget_equivalents),
        rates=len(lrs),
        open_below=open_below,
        open_above=open_above,
        mean=math.exp(sum(value for _, value in points) / len(points)),
        worst=min(budget_equivalents),
    )


def expected_best(
    values: Sequence[float], k: int, reported: Sequence[float] | None = None
) -> float:
    """Expected outcome of keeping the best of ``k`` random trials; exact, without simulation.

    values: what the choice is made by, one per possible trial, higher is better (the
        budget-equivalent on validation); trials are drawn from them with replacement.
    reported: what is reported of the chosen trial (its test value), if that is not ``values``.
        Trials tied in ``values`` are equally likely to be chosen.

    Of n values the i-th smallest is the best of k draws with probability (i/n)^k - ((i-1)/n)^k
    (Dodge et al. 2019, "Show Your Work", eq. 7).

    >>> round(expected_best([0.0, 1.0], k=2), 6)
    0.75
    """
    if not values:
        raise ValueError("values is empty; give one value per possible trial")
    if k < 1:
        raise ValueError(f"k is a number of trials and must be at least 1, got {k}")
    pairs = sorted(zip(values, values if reported is None else reported, strict=True))
    expected, below = 0.0, 0
    for _, tied in groupby(pairs, key=lambda pair: pair[0]):
        group = [value for _, value in tied]
        share = ((below + len(group)) / len(pairs)) ** k - (below / len(pairs)) ** k
        expected += share * sum(group) / len(group)
        below += len(group)
    return expected


def _end(points: Sequence[tuple[float, float]], wanted: float) -> tuple[float, bool]:
    """Where a walk from the best rate falls below the level, and whether it never does."""
    for (at, value), (further, next_value) in pairwise(points):
        if next_value < wanted:
            return at + (further - at) * (value - wanted) / (value - next_value), False
    return points[-1][0], True
