"""The Gram matrix of a factor, kept up to date as some of its columns move: what bounds need."""

from __future__ import annotations

from torch import Tensor

from lrpilot.nmf import curvature

WARM = 2  # products per step; the vector is that of the step before
COLD = 8  # in the first call


class Spread:
    """HHᵀ and the lengths of the columns of H, at a cost per step that n does not enter much.

    H: (..., r, n). For W hand over its transpose.
    """

    def __init__(self, H: Tensor) -> None:
        self._vector: Tensor | None = None
        self.refresh(H)

    def refresh(self, H: Tensor) -> None:
        """Take the whole factor in again, which also ends the drift of rounding."""
        self.gram = curvature.gram(H)
        self.squares = H.square().sum(-2)  # (..., n)
        self._terms = H.shape[-1]

    def move(self, at: Tensor, old: Tensor, new: Tensor) -> None:
        """The columns ``at`` (b,), each named once, went from ``old`` to ``new`` (..., r, b)."""
        change = curvature.gram(new) - curvature.gram(old)
        self.gram = (self.gram + change).clamp(min=0)
        self.squares[..., at] = new.square().sum(-2)

    def top(self) -> Tensor:
        """An upper bound on λmax(HHᵀ): (...)."""
        top, self._vector = curvature.top_eigenvalue(
            self.gram,
            iterations=COLD if self._vector is None else WARM,
            start=self._vector,
            terms=self._terms,
        )
        return top

    def longest(self) -> Tensor:
        """The largest ‖h_j‖²: (...)."""
        return self.squares.amax(-1)

    def sampled(self, *, size: int, batch: int, replace: bool) -> Tensor:
        """calL of theorem T3 for minibatches of columns (``size`` n) or entries (``size`` mn)."""
        top = self.top()
        return curvature.minibatch(top, self.longest(), size=size, batch=batch, replace=replace)
