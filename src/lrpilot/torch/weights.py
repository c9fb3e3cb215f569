"""How far the weights have come since the last decision, and since the start."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Moved(NamedTuple):
    """Where weights are after a step, as `Signal` has it: each (...); not finite if unknown."""

    movement: Tensor
    travel: Tensor
    evenness: Tensor


class WeightWindows:
    """Compares the weights of one run, or of many (...), with those of before.

    Rows of their size: those before the first step, those at the last decision, and the latest
    ones, of which `turn` needs as many as decisions are late, and one. Nothing is read on the host.
    """

    def __init__(self, weights: Tensor, *, is_start: bool = True) -> None:
        """``weights`` before the first step (..., coordinates), or, if not, before any other."""
        self.start = weights.clone() if is_start else torch.full_like(weights, math.nan)
        self.before = weights.clone()
        self.latest = [weights.clone()]
        self.late = 0

    def take(self, weights: Tensor) -> Moved:
        """Take in the weights after a step (..., coordinates), which nobody writes to any more."""
        norm = torch.linalg.vector_norm
        self.latest = [*self.latest, weights][-1 - self.late :]
        since = weights - self.before
        length, sizes = norm(since, dim=-1), since.abs().sum(-1)
        return Moved(
            length / norm(weights, dim=-1),
            norm(weights - self.start, dim=-1) / norm(self.start, dim=-1),
            sizes / (length * weights.shape[-1] ** 0.5),
        )

    def turn(self, rows: Tensor | None = None) -> None:
        """Measure from the step that decided on, in the runs in ``rows`` (...), or in all."""
        decided = self.latest[-1 - self.late :][0]
        self.before = (
            decided if rows is None else torch.where(rows[..., None], decided, self.before)
        )

    def keep(self, rows: Tensor) -> None:
        """Forget all runs but these."""
        self.start, self.before = self.start[rows], self.before[rows]
        self.latest = [one[rows] for one in self.latest]
