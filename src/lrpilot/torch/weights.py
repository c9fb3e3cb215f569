"""How far the weights have come since the last decision, and since the start."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Moved(NamedTuple):
    """Where weights are after a step, as `Signal` has it: each (...); 0 / 0 is NaN."""

    movement: Tensor
    travel: Tensor
    evenness: Tensor


class WeightWindows:
    """Compares the weights of one run, or of many (...), with those of before.

    Three buffers of their size: those before the first step, at the last decision, and now. Nothing
    is read on the host.
    """

    def __init__(self, weights: Tensor) -> None:
        """``weights`` before the first step (..., coordinates)."""
        self.start, self.before, self.now = (weights.clone() for _ in range(3))

    def take(self, weights: Tensor) -> Moved:
        """Take in the weights after a step (..., coordinates), which nobody writes to any more."""
        norm = torch.linalg.vector_norm
        self.now = weights
        since = weights - self.before
        length, sizes = norm(since, dim=-1), since.abs().sum(-1)
        return Moved(
            length / norm(weights, dim=-1),
            norm(weights - self.start, dim=-1) / norm(self.start, dim=-1),
            sizes / (length * weights.shape[-1] ** 0.5),
        )

    def turn(self, rows: Tensor | None = None) -> None:
        """Measure from here on, in the runs in ``rows`` (...), true or false, or in all."""
        if rows is None:
            self.before = self.now
        else:
            self.before = torch.where(rows[..., None], self.now, self.before)

    def keep(self, rows: Tensor) -> None:
        """Forget all runs but these."""
        for name, value in vars(self).items():
            setattr(self, name, value[rows])
