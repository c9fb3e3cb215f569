"""What gradients tell of the rate: whether they point where they pointed a window of steps ago."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Pointed(NamedTuple):
    """What a step's gradients show, as `Signal` has it: each (...); NaN where it is not known."""

    alignment: Tensor
    persistence: Tensor


class GradientWindows:
    """Compares the gradients of one run, or of many (...), with those of their windows.

    Two buffers of the gradients' size: their sum in the window under way, and the direction of the
    window before. Nothing is read on the host.
    """

    def __init__(self, gradients: Tensor) -> None:
        """``gradients``: of the shape of those to come, (..., coordinates)."""
        runs = gradients[..., 0]
        self.gathered = torch.zeros_like(gradients)
        self.lengths, self.count = torch.zeros_like(runs), torch.zeros_like(runs)
        self.anchor = torch.full_like(gradients, math.nan)  # unknown

    def take(self, gradients: Tensor) -> Pointed:
        """Take in the gradients of a step (..., coordinates); infinite ones count for nothing."""
        length = torch.linalg.vector_norm(gradients, dim=-1)
        known = length.isfinite() & (length > 0)
        gradients = torch.where(known[..., None], gradients, 0.0)
        within = (gradients * self.gathered).sum(-1) / (length * self.lengths)
        since = (gradients * self.anchor).sum(-1)
        self.gathered += gradients
        self.lengths += torch.where(known, length, 0.0)
        self.count += known
        return Pointed(*(torch.where(known, one, math.nan) for one in (within, since)))

    def turn(self, rows: Tensor | None = None) -> None:
        """Begin a window, of the runs in ``rows`` (...), true or false, or of all."""
        squared = self.gathered.square().sum(-1, keepdim=True)
        # Of the sum G of k gradients: ⟨g, G / k⟩ / ‖G / k‖² = ⟨g, k G / ‖G‖²⟩.
        anchor = self.gathered * (self.count[..., None] / squared)
        over = torch.ones_like(self.count) > 0 if rows is None else rows
        self.anchor = torch.where(over[..., None], anchor, self.anchor)
        self.gathered = torch.where(over[..., None], 0.0, self.gathered)
        self.lengths, self.count = (
            torch.where(over, 0.0, one) for one in (self.lengths, self.count)
        )

    def keep(self, rows: Tensor) -> None:
        """Forget all runs but these."""
        for name, value in vars(self).items():
            setattr(self, name, value[rows])
