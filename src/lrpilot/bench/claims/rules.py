"""When a claim is supported, refuted, mixed or undecided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Ruling = Literal["supported", "refuted", "mixed", "undecided", "not tested"]

LEVEL = 0.05
MIN_TASKS = 3


class Bounds(NamedTuple):
    """Where a claim's number lies.

    low, high: its 95 % interval. possible: upper end of the interval if every undecided cell is
    given to the claim, where the number is a share; otherwise ``high``.
    """

    low: float
    high: float
    possible: float


def rule(
    bounds: Bounds,
    threshold: float,
    direction: str,
    *,
    tasks: int,
    adjusted_p: float,
    parts: Sequence[Bounds] = (),
) -> Ruling:
    """The verdict on a claim that some task, at least, speaks to.

    A claim places a number above (or below) a threshold. It is *supported* if the whole 95 %
    interval lies on the claimed side, and *refuted* if it lies wholly on the other. A share of
    cells shown as good is refuted only if it lies below the threshold with every undecided cell
    given to the claim: lack of evidence refutes nothing.

    Either takes at least 3 tasks and, among the claims of the table, a p value of at most 0.05
    after Holm's correction. That is the p value of a two-sided t test with tasks as the units, and
    for a share not below that of the exact binomial test on its cells.

    Otherwise a claim is *mixed* if one family of optimizers or one comparator by itself supports it
    by its interval and another refutes it, and *undecided* if not. A claim without rows is *not
    tested*. Controls are no claims: they are judged by their interval alone, and one that places a
    number around a threshold holds if the interval has it within.
    """
    if tasks >= MIN_TASKS and adjusted_p <= LEVEL:
        side = _side(bounds, threshold, direction)
        if side is not None:
            return side
    sides = {_side(part, threshold, direction) for part in parts}
    return "mixed" if {"supported", "refuted"} <= sides else "undecided"


def _side(
    bounds: Bounds, threshold: float, direction: str
) -> Literal["supported", "refuted"] | None:
    above = bounds.low > threshold
    below = bounds.possible < threshold
    if direction == "around":
        return "refuted" if above or below else "supported"
    if direction == "above":
        return "supported" if above else "refuted" if below else None
    return "supported" if below else "refuted" if above else None
