"""Whether a factorisation goes wrong, and what mends it.

No projected run becomes infinite: too large a rate makes it oscillate above its start for ever, or
throws it into W = H = 0, where the gradient is 0 for ever. `isfinite` finds neither.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lrpilot.nmf.factors import Factors

WORSE = 4.0
"""A mean loss above this multiple of the first is an oscillation, not noise, if it is also above 1,
which is what W = H = 0 would leave."""

DEAD = 1e-12
"""A factor is dead if its largest entry is below this share of √(largest entry of V)."""

Failure = Literal["oscillation", "dead factors", "dead components"]


class Repair(NamedTuple):
    """What was found and mended after a step."""

    step: int
    failure: Failure
    affected: int
    """Problems, or components, that had it."""


def oscillates(loss: Tensor, first: Tensor) -> Tensor:
    """Whether the mean loss (...) of a while is far above the first, or no number."""
    return ~(loss <= (WORSE * first).clamp(min=1))


def dead(W: Tensor, H: Tensor, size: Tensor) -> Tensor:
    """Whether a factor has vanished (...): then no gradient brings it back.

    size: √(largest entry of V) (...); where it is 0, zero factors are right.
    """
    largest = torch.minimum(W.amax((-2, -1)), H.amax((-2, -1)))
    return (largest <= DEAD * size) & (size > 0)


def dead_components(W: Tensor, H: Tensor, size: Tensor) -> Tensor:
    """Which components (..., r) have a column of W or a row of H that has vanished."""
    largest = torch.minimum(W.amax(-2), H.amax(-1))
    return (largest <= DEAD * size[..., None]) & (size > 0)[..., None]


def reseeded(W: Tensor, H: Tensor, which: Tensor, fresh: Factors) -> Factors:
    """Small random values in the components ``which`` (..., r): a hundredth of a fresh start's."""
    return Factors(
        torch.where(which[..., None, :], fresh.W / 100, W),
        torch.where(which[..., :, None], fresh.H / 100, H),
    )


def chosen(which: Tensor, these: Factors, those: Factors) -> Factors:
    """``these`` where ``which`` (...) is True, ``those`` elsewhere."""
    return Factors(
        *(torch.where(which[..., None, None], a, b) for a, b in zip(these, those, strict=True))
    )
