"""A SciPy matrix that multiplies tensors, so that a sparse V needs no code of its own elsewhere.

Torch's own sparse tensors are slower at this on a CPU (transposed products ten times, measured) and
warn that they are unfinished.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse matrix (m, n) with entries >= 0, on the CPU.

    matrix: a SciPy array or matrix of any compressed format; columns are drawn fastest from CSC,
        the transpose of CSR.
    """

    matrix: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        return self.matrix.shape

    @property
    def dtype(self) -> torch.dtype:
        """Torch's name of the type of its entries."""
        return torch.from_numpy(np.empty(0, self.matrix.dtype)).dtype

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    @property
    def mT(self) -> Sparse:
        """Its transpose, without a copy."""
        return Sparse(self.matrix.T)

    def __matmul__(self, other: Tensor) -> Tensor:
        return torch.from_numpy(self.matrix @ other.numpy())

    def columns(self, at: Tensor) -> Sparse:
        """The columns with the numbers ``at`` (b,)."""
        return Sparse(self.matrix[:, at.numpy()])

    def squared_norm(self) -> Tensor:
        """‖V‖²."""
        return torch.tensor(float(np.square(self.matrix.data).sum()), dtype=self.dtype)

    def largest(self) -> Tensor:
        """The largest entry."""
        return torch.tensor(float(self.matrix.max()), dtype=self.dtype)

    def mean(self) -> Tensor:
        """Mean of all entries, zeros included."""
        return torch.tensor(float(self.matrix.mean()), dtype=self.dtype)


Matrix = Tensor | Sparse


def columns_of(V: Matrix, at: Tensor) -> Matrix:
    """The columns ``at`` (b,) of ``V`` (..., m, n)."""
    return V.columns(at) if isinstance(V, Sparse) else V[..., at]


def squared_norm(V: Matrix) -> Tensor:
    """‖V‖² (...)."""
    return V.squared_norm() if isinstance(V, Sparse) else V.square().sum((-2, -1))
