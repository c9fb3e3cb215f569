"""How sharply the loss may curve along a step: what every stability bound is 2 divided by.

Over tensors with any number of leading dimensions, so that one call serves a problem or hundreds of
them. `lrpilot.nmf.bounds` has the statements and checks its input; here nothing is checked.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Units = Literal["columns", "entries", "rows"]

FLOOR = 1e-9
"""Least component of an iterate whose largest is 1: it must stay positive where a factor is 0."""


def top_eigenvalue(
    A: Tensor, *, iterations: int, start: Tensor | None = None, terms: int = 0
) -> tuple[Tensor, Tensor]:
    """An upper bound on the largest eigenvalue of ``A``, and a vector to start the next call with.

    A: (..., r, r), symmetric with entries >= 0.
    iterations: products with ``A`` that bring the vector closer to the eigenvector, at least 0.
    start: (..., r), positive; ones if None.
    terms: how many products each entry of ``A`` is a rounded sum of; the bound then allows for
        the rounding.

    For any x > 0 the largest quotient (Ax)_i / x_i is an upper bound (theorem T8), and the power
    iteration makes it a sharp one.
    """
    x = torch.ones_like(A[..., 0]) if start is None else start
    # Far below any number that matters, far above those where a sum of products underflows.
    tiny = torch.finfo(A.dtype).tiny ** 0.5
    for _ in range(iterations):
        x = (A @ x[..., None])[..., 0]
        x = x / x.amax(-1, keepdim=True).clamp_min(tiny) + FLOOR
    quotients = (A @ x[..., None])[..., 0] / x
    # All terms are non-negative, so that a sum errs by less than its length times eps, relatively.
    allowance = (terms + A.shape[-1] + 4) * torch.finfo(A.dtype).eps
    return quotients.amax(-1) * (1 + allowance), x


def gram(factor: Tensor) -> Tensor:
    """``HHᵀ`` (..., r, r) of ``H`` (..., r, n)."""
    return factor @ factor.mT


def block(H: Tensor, *, iterations: int) -> Tensor:
    """An upper bound on λmax(HHᵀ), which curves the loss along W (theorem T1): (...).

    It never exceeds the trace, all eigenvalues together.
    """
    A, terms = gram(H), H.shape[-1]
    allowance = (terms + A.shape[-1] + 4) * torch.finfo(A.dtype).eps
    trace = A.diagonal(dim1=-2, dim2=-1).sum(-1) * (1 + allowance)
    return torch.minimum(top_eigenvalue(A, iterations=iterations, terms=terms)[0], trace)


def longest(H: Tensor) -> Tensor:
    """The largest ‖h_j‖² over the columns of ``H`` (..., r, n): (...)."""
    return H.square().sum(-2).amax(-1) * (1 + (H.shape[-2] + 2) * torch.finfo(H.dtype).eps)


def minibatch(top: Tensor, unit: Tensor, *, size: int, batch: int, replace: bool) -> Tensor:
    """The constant calL of theorem T3: E[Â²] <= calL A.

    top: λmax(HHᵀ), or an upper bound.
    unit: the largest curvature that a single unit adds: ``longest(H)`` for columns and entries,
        ``top`` for rows.
    size: units that there are: n columns, mn entries or m rows.
    batch: units in a minibatch, at most ``size`` unless with replacement.
    """
    if replace:
        return size / batch * unit + (1 - 1 / batch) * top
    if size == 1:
        return top
    pairs = size * (batch - 1) / (batch * (size - 1))
    singles = (size - batch) / (batch * (size - 1)) * size
    return pairs * top + singles * unit


def joint(W: Tensor, H: Tensor, residual: Tensor, *, reach: float, iterations: int) -> Tensor:
    """L~ of theorem T4, for a step of both factors at once: (...).

    residual: ‖WH − V‖ (...), or any upper bound of its spectral norm.
    reach: δ, which the norm of the step does not exceed.
    """
    s = (block(W.mT, iterations=iterations) + block(H, iterations=iterations)).sqrt()
    return (s + reach / 2).square() + residual


def reach(m: int, n: int, rank: int, cap: float) -> float:
    """The largest norm of a step in which no entry of W or H moves by more than ``cap``."""
    return cap * math.sqrt((m + n) * rank)
