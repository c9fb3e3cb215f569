"""What is done to the factors W and H, and nothing else: start, scale, balance, step.

Over tensors with any number of leading dimensions: W (..., m, r), H (..., r, n). Scales, rates and
norms then have the leading dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lrpilot.nmf.sparse import Matrix

OVERSAMPLING = 10  # further random directions that the leading singular vectors are sought among
POWERS = 4  # passes over V that sharpen these directions


class Factors(NamedTuple):
    """W (..., m, r) and H (..., r, n), both >= 0; V is to be close to WH."""

    W: Tensor
    H: Tensor


def stepped(x: Tensor, gradient: Tensor, lr: Tensor | float, cap: float | None = None) -> Tensor:
    """A projected step down ``gradient`` in which no entry moves by more than ``cap``.

    lr: a number, or a tensor with the leading dimensions of ``x``.

    With d the step, <gradient, d> <= −‖d‖² / lr (T0).
    """
    if isinstance(lr, Tensor):
        lr = lr[..., None, None]
    new = (x - lr * gradient).clamp(min=0)
    return new if cap is None else torch.minimum(torch.maximum(new, x - cap), x + cap)


def scaled(V: Matrix, W: Tensor, H: Tensor) -> Factors:
    """The multiples of W and H whose product is closest to ``V``, so that f <= ½‖V‖² (T5).

    V: dense, or sparse without leading dimensions.
    """
    fit = (V @ H.mT * W).sum((-2, -1))
    length = (W.mT @ W * (H @ H.mT)).sum((-2, -1))
    tiny = torch.finfo(length.dtype).tiny
    root = (fit / length.clamp_min(tiny)).sqrt()[..., None, None]
    return Factors(W * root, H * root)


def balanced(W: Tensor, H: Tensor) -> Factors:
    """Give column k of W and row k of H the same length; WH stays as it is.

    Among the factors of one product these have the least ‖W‖² + ‖H‖², which is what makes the rate
    of theorem T5 hold. Where one of the two is 0, both stay as they are.
    """
    w, h = torch.linalg.vector_norm(W, dim=-2), torch.linalg.vector_norm(H, dim=-1)  # (..., r)
    share = torch.where((w > 0) & (h > 0), h / w, 1.0).sqrt()
    return Factors(W * share[..., None, :], H / share[..., :, None])


def random_start(V: Matrix, rank: int, rng: np.random.Generator) -> Factors:
    """Uniform factors, scaled so that WH is as close to ``V`` as its scale allows, and balanced.

    V: (..., m, n) dense, or (m, n) sparse.
    """
    *leading, m, n = V.shape
    drawn = [rng.uniform(size=(*leading, *shape)) for shape in ((m, rank), (rank, n))]
    W, H = (torch.from_numpy(x).to(V.device, V.dtype) for x in drawn)
    return balanced(*scaled(V, W, H))


def nndsvd_start(V: Matrix, rank: int, rng: np.random.Generator) -> Factors:
    """Factors from the leading singular vectors, their zeros filled with small random numbers.

    V: (m, n), dense or sparse.
    rank: at most min(m, n).

    NNDSVD of Boutsidis and Gallopoulos (2008), with random fill as in scikit-learn's "nndsvdar":
    zeros would stay zeros wherever the gradient keeps pointing outwards.
    """
    U, S, Vh = leading_singular(V, rank, rng)
    positive = _larger_part(U, S, Vh)
    fill = (V.mean() / rank).sqrt() / 100  # a hundredth of a factor whose entries are all alike
    filled = [
        torch.where(x > 0, x, fill * torch.from_numpy(np.abs(rng.standard_normal(x.shape))).to(x))
        for x in positive
    ]
    return balanced(*scaled(V, *filled))


def leading_singular(
    V: Matrix, rank: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The ``rank`` leading singular vectors and values, found in a random subspace.

    Halko, Martinsson and Tropp (2011), algorithm 4.4; a sparse ``V`` is only multiplied with.
    """
    m, n = V.shape
    width = min(rank + OVERSAMPLING, m, n)
    Q = torch.from_numpy(rng.standard_normal((n, width))).to(V.device, V.dtype)
    for _ in range(POWERS):
        Q = torch.linalg.qr(V @ Q)[0]
        Q = torch.linalg.qr(V.mT @ Q)[0]
    Q = torch.linalg.qr(V @ Q)[0]  # (m, width)
    U, S, Vh = torch.linalg.svd((V.mT @ Q).mT, full_matrices=False)
    return (Q @ U)[:, :rank], S[:rank], Vh[:rank]


def _larger_part(U: Tensor, S: Tensor, Vh: Tensor) -> Factors:
    """Of each pair of singular vectors the part, positive or negative, that weighs more."""
    plus = U.clamp(min=0), Vh.clamp(min=0)
    minus = (-U).clamp(min=0), (-Vh).clamp(min=0)
    weights = [u.norm(dim=0) * v.norm(dim=1) for u, v in (plus, minus)]
    first = weights[0] >= weights[1]  # (r,)
    W = torch.where(first, plus[0], minus[0])
    H = torch.where(first[:, None], plus[1], minus[1])
    tiny = torch.finfo(S.dtype).tiny
    root = (S * torch.where(first, *weights)).sqrt()
    W = W / W.norm(dim=0).clamp_min(tiny) * root
    return Factors(W, H / H.norm(dim=1, keepdim=True).clamp_min(tiny) * root[:, None])
