"""What a minibatch is and what it shows: gradients of its own loss, and how much it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lrpilot.nmf.sparse import Matrix, Sparse, squared_norm


def column_batches(n: int, batch: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Numbers of columns, ``batch`` at a time, each once per pass; the rest of a pass is small."""
    while True:
        yield from torch.from_numpy(rng.permutation(n)).split(batch)


@dataclass(slots=True)
class Columns:
    """Some columns of V (..., m, b) beside W (..., m, r), as far as W alone decides.

    mask: (..., m, b) of bool, or None; entries where it is False do not count.
    A: WᵀW. B: WᵀV over the entries that count.
    """

    V: Matrix
    W: Tensor
    mask: Tensor | None
    A: Tensor
    B: Tensor

    @classmethod
    def beside(cls, V: Matrix, W: Tensor, A: Tensor, mask: Tensor | None) -> Columns:
        """What ``V`` shows of ``W``, with ``A`` = WᵀW from elsewhere."""
        if mask is not None and isinstance(V, Tensor):
            V = V * mask
        return cls(V, W, mask, A, (V.mT @ W).mT)

    def gradient_in_H(self, H: Tensor) -> Tensor:
        """WᵀR (..., r, b)."""
        if self.mask is None:
            return self.A @ H - self.B
        return self.W.mT @ ((self.W @ H) * self.mask) - self.B

    def gradient_in_W(self, H: Tensor) -> Tensor:
        """RHᵀ (..., m, r)."""
        if self.mask is None:
            return self.W @ (H @ H.mT) - self.V @ H.mT
        return self._residual(H, self.mask) @ H.mT

    def left(self, H: Tensor) -> Tensor:
        """‖R‖² (...), never below 0."""
        if self.mask is None:
            fit = (self.A * (H @ H.mT)).sum((-2, -1)) - 2 * (self.B * H).sum((-2, -1))
            return (squared_norm(self.V) + fit).clamp(min=0)
        return self._residual(H, self.mask).square().sum((-2, -1))

    def _residual(self, H: Tensor, mask: Tensor) -> Tensor:
        return (self.W @ H) * mask - cast(Tensor, self.V)  # a sparse V has no mask


@dataclass(frozen=True, slots=True)
class Entries:
    """Places of V that are known, with the numbers that stand there.

    rows, columns: (N,). values: (..., N).
    """

    rows: Tensor
    columns: Tensor
    values: Tensor

    @classmethod
    def known(cls, V: Matrix, mask: Tensor | None) -> Entries:
        """All entries, or those where ``mask`` (m, n) is True; of a sparse ``V`` those stored."""
        if isinstance(V, Sparse):
            stored = V.matrix.tocoo()
            rows, columns = (
                torch.from_numpy(at.astype(np.int64)) for at in (stored.row, stored.col)
            )
            return cls(rows, columns, torch.from_numpy(stored.data))
        m, n = V.shape[-2:]
        where = torch.ones(m, n, dtype=torch.bool, device=V.device) if mask is None else mask
        rows, columns = where.nonzero(as_tuple=True)
        return cls(rows, columns, V[..., rows, columns])

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, at: Tensor) -> Entries:
        """The entries with the numbers ``at`` (b,)."""
        return Entries(self.rows[at], self.columns[at], self.values[..., at])

    def transposed(self) -> Entries:
        """The same entries of Vᵀ."""
        return Entries(self.columns, self.rows, self.values)

    def residual(self, W: Tensor, H: Tensor) -> Tensor:
        """WH − V at these places: (..., N)."""
        fit = (W[..., self.rows, :] * H.mT[..., self.columns, :]).sum(-1)
        return fit - self.values

    def gradient_in_H(self, W: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """The columns (u,) of H that these entries move, each once, and WᵀR there: (..., r, u)."""
        at, place = torch.unique(self.columns, return_inverse=True)
        parts = residual[..., None] * W[..., self.rows, :]  # (..., N, r)
        total = torch.zeros(
            *parts.shape[:-2], len(at), parts.shape[-1], dtype=parts.dtype, device=parts.device
        )
        return at, total.index_add(-2, place, parts).mT
