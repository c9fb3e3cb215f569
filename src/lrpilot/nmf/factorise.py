"""A factorisation from beginning to end: NumPy or SciPy in, NumPy out, torch inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from lrpilot.nmf.factors import Factors, nndsvd_start, random_start
from lrpilot.nmf.health import Repair
from lrpilot.nmf.rates import Settings
from lrpilot.nmf.solver import Solver
from lrpilot.nmf.sparse import Matrix, Sparse

Init = Literal["random", "nndsvd"]
Scale = Callable[[float, float], float]
Data = tuple[Matrix, Tensor | None]
"""A matrix and what of it is known; all of it if None."""


class Factorisation(NamedTuple):
    """What a run found and did."""

    W: np.ndarray
    """(..., m, r)"""
    H: np.ndarray
    """(..., r, n)"""
    loss: np.ndarray
    """The share of ‖V‖² that WH leaves: (...)."""
    losses: np.ndarray
    """What each minibatch left, as `Record.loss` has it: (steps, ...)."""
    lrs: np.ndarray
    """The rate of each step of W: (steps, ...)."""
    bounds: np.ndarray
    """The largest stable rate at each of them: (steps, ...)."""
    repairs: list[Repair]


def linear(progress: float, loss: float) -> float:
    """From 1 to 0, whatever the loss."""
    del loss
    return 1 - progress


def factorise(
    V: Any,
    rank: int,
    *,
    steps: int,
    rng: np.random.Generator,
    settings: Settings | None = None,
    scale: Scale = linear,
    init: Init | tuple[np.ndarray, np.ndarray] = "random",
    mask: np.ndarray | None = None,
    device: str = "cpu",
) -> Factorisation:
    """Approximate V by WH with W, H >= 0.

    V: (..., m, n), a NumPy array, or (m, n), a SciPy matrix; finite entries >= 0. Float32 and
        float64 are kept, anything else becomes the narrowest of these that holds it.
    settings: how a step is taken; to draw rows of V hand over its transpose.
    scale: called before each step with the share of the steps that are over, in [0, 1), and the
        mean loss that the last step showed (NaN before the first); returns the scale.
    init: "random", "nndsvd" (no leading dimensions), or W and H.
    mask: of bool and the shape of V; entries where it is False do not count, whatever they are.
    device: where torch computes.
    """
    matrix, known = as_matrix(V, mask, device)
    settings = settings or Settings()
    start = as_start(init, matrix, rank, rng)
    solver = Solver(matrix, start, settings, rng, mask=known)
    loss = float("nan")
    for step in range(steps):
        loss = float(solver.step(scale(step / steps, loss)).mean())
    found = (solver.W, solver.H, solver.loss(), *solver.history())
    return Factorisation(*(tensor.cpu().numpy() for tensor in found), repairs=solver.repairs)


def as_matrix(V: Any, mask: np.ndarray | None, device: str) -> Data:
    """``V`` and its mask as the solver takes them, if ``V`` is non-negative where it counts."""
    known = None if mask is None else np.asarray(mask)
    if known is not None and (known.dtype != bool or known.shape != V.shape):
        raise ValueError(
            f"mask must be of bool and of V's shape {V.shape}, got {known.dtype} {known.shape}"
        )
    sparse = bool(issparse(V))
    if sparse and known is not None:
        raise ValueError("a sparse V takes no mask; densify V, or draw its stored entries")
    if not sparse:
        V = np.asarray(V) if known is None else np.where(known, V, 0)
    if V.ndim < 2:
        raise ValueError(f"V must be a matrix, got shape {V.shape}")
    V = V.astype(np.result_type(V.dtype, np.float32), copy=False)
    entries = V.data if sparse else V
    if not np.all((entries >= 0) & (entries < np.inf)):
        raise ValueError("V must have finite entries that are not negative")
    if not sparse:
        return as_tensor(V).to(device), None if known is None else as_tensor(known).to(device)
    if device == "cpu":
        return Sparse(V.tocsc()), None
    return torch.from_numpy(V.toarray()).to(device), None


def as_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor, copied only where torch could not share its memory."""
    shareable = array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if shareable else array.copy())


def as_start(
    init: Init | tuple[np.ndarray, np.ndarray], V: Matrix, rank: int, rng: np.random.Generator
) -> Factors:
    """The factors that ``init`` names or is."""
    if rank < 1:
        raise ValueError(f"rank must be at least 1, got {rank}")
    if not isinstance(init, str):
        W, H = (torch.from_numpy(np.array(x)).to(V.device, V.dtype) for x in init)
        if W.shape != (*V.shape[:-1], rank) or H.shape != (*V.shape[:-2], rank, V.shape[-1]):
            raise ValueError(
                f"init must be W {(*V.shape[:-1], rank)} and H {(*V.shape[:-2], rank, V.shape[-1])}"
                f", got {tuple(W.shape)} and {tuple(H.shape)}"
            )
        if not bool((W >= 0).all() & (H >= 0).all()):
            raise ValueError("init must have entries that are not negative")
        return Factors(W, H)
    if init == "random":
        return random_start(V, rank, rng)
    if init != "nndsvd":
        raise ValueError(f'init must be "random", "nndsvd" or W and H, got {init!r}')
    if rank > min(V.shape):
        raise ValueError(
            f"init='nndsvd' needs rank <= min(m, n) = {min(V.shape)}, got {rank}; use 'random'"
        )
    return nndsvd_start(V, rank, rng)
