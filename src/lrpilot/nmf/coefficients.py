"""The best H >= 0 for a given W: non-negative least squares for many columns at once."""

from __future__ import annotations

import torch
from torch import Tensor

from lrpilot.nmf import curvature
from lrpilot.nmf.sparse import Matrix, Sparse

CHECK = 10  # iterations between two looks at how far there is to go


def coefficients(
    V: Matrix,
    W: Tensor,
    *,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    max_iter: int = 500,
    tol: float = 1e-6,
) -> Tensor:
    """The H >= 0 (..., r, n) that makes ‖V − WH‖ least, up to ``tol``.

    V: (..., m, n). W: (..., m, r).
    mask: (..., m, n) of bool; entries where it is False do not count. Only with a dense ``V``.
    start: (..., r, n); zeros if None.
    tol: when to stop: the largest change in an iteration, as a share of the largest coefficient.

    Projected gradient at rate 1 / λmax(WᵀW), accelerated (Beck and Teboulle 2009) and restarted
    where the momentum points uphill (O'Donoghue and Candès 2015), on columns of W of length 1,
    which makes a badly scaled W no harder than a well scaled one. A column of zeros gets zeros.
    """
    lengths = torch.linalg.vector_norm(W, dim=-2)[..., None]  # (..., r, 1)
    used = lengths > 0
    unit = W / torch.where(used, lengths, 1.0).mT
    A, B = unit.mT @ unit, _products(V, unit, mask)
    top = curvature.top_eigenvalue(A, iterations=8, terms=W.shape[-2])[0]
    lr = 1 / torch.where(top > 0, top, 1.0)[..., None, None]
    H = torch.zeros_like(B) if start is None else start * lengths
    ahead, momentum = H, torch.ones((), dtype=W.dtype, device=W.device)
    for k in range(max_iter):
        fit = A @ ahead if mask is None else unit.mT @ ((unit @ ahead) * mask)
        new = (ahead - lr * (fit - B)).clamp(min=0)
        moved = new - H
        uphill = ((ahead - new) * moved).sum((-2, -1), keepdim=True) > 0
        later = (1 + (1 + 4 * momentum.square()).sqrt()) / 2
        ahead = new + torch.where(uphill, 0.0, (momentum - 1) / later) * moved
        momentum = torch.where(uphill, torch.ones_like(later), later)
        H = new
        if (k + 1) % CHECK == 0 and bool((moved.abs().amax() <= tol * H.abs().amax()).item()):
            break
    return torch.where(used, H / torch.where(used, lengths, 1.0), 0.0)


def _products(V: Matrix, W: Tensor, mask: Tensor | None) -> Tensor:
    """WᵀV (..., r, n) over the entries that count."""
    if mask is None or isinstance(V, Sparse):
        return (V.mT @ W).mT
    return W.mT @ (V * mask)
