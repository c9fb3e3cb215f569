"""A factorisation from beginning to end: NumPy or SciPy in, NumPy out, torch inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.sparse import issparse
from torch import Tensor

from lrpilot.nmf.checks import (
    as_numbers,
    check_count,
    check_device,
    check_entries,
    check_mask,
    check_non_negative,
)
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
        mean loss that the last step showed (NaN before the first); returns the scale. Below 0, or
        NaN, it counts as 0.
    init: "random", "nndsvd" (no leading dimensions), or W and H.
    mask: of bool and the shape of V; entries where it is False do not count, whatever they are.
    device: where torch computes.
    """
    matrix, known = as_matrix(V, mask, device)
    check_count("steps", steps, 0)
    if not isinstance(rng, np.random.Generator):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"rng must be a NumPy Generator, such as default_rng(0), got {rng!r}")
    settings = Settings() if settings is None else settings
    start = as_start(init, matrix, rank, rng)
    solver = Solver(matrix, start, settings, rng, mask=known)
    loss = float("nan")
    for step in range(steps):
        loss = float(solver.step(scale(step / steps, loss)).mean())
    found = (solver.W, solver.H, solver.loss(), *solver.history())
    return Factorisation(*(tensor.cpu().numpy() for tensor in found), repairs=solver.repairs)


def as_matrix(V: Any, mask: np.ndarray | None, device: str) -> Data:
    """``V`` and its mask as the solver takes them, if ``V`` is non-negative where it counts."""
    check_device(device)
    sparse = bool(issparse(V))
    if sparse and mask is not None:
        raise ValueError("a sparse V takes no mask; densify V, or draw its stored entries")
    V = as_numbers("V", V)
    if sparse:
        V = V.tocsc()  # Sums what is stored twice.
        check_entries("V", V.data)
        return (Sparse(V) if device == "cpu" else torch.from_numpy(V.toarray()).to(device)), None
    if mask is None:
        check_entries("V", V)
        return as_tensor(V).to(device), None
    known = np.asarray(mask)
    check_mask(known, "V", V.shape)
    V = np.where(known, V, 0)
    check_entries("V", V)
    return as_tensor(V).to(device), as_tensor(known).to(device)


def as_tensor(array: np.ndarray) -> Tensor:
    """The array as a tensor, copied only where torch could not share its memory."""
    shareable = array.flags.writeable and min(array.strides, default=0) >= 0
    return torch.from_numpy(array if shareable else array.copy())


def as_start(
    init: Init | tuple[np.ndarray, np.ndarray], V: Matrix, rank: int, rng: np.random.Generator
) -> Factors:
    """The factors that ``init`` names or is."""
    check_count("rank", rank)
    if not isinstance(init, str):
        if not isinstance(init, Sequence) or len(init) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f'init must be "random", "nndsvd" or (W, H), got {init!r}')
        W, H = (torch.from_numpy(np.array(x)).to(V.device, V.dtype) for x in init)
        if W.shape != (*V.shape[:-1], rank) or H.shape != (*V.shape[:-2], rank, V.shape[-1]):
            raise ValueError(
                f"init must be W {(*V.shape[:-1], rank)} and H {(*V.shape[:-2], rank, V.shape[-1])}"
                f", got {tuple(W.shape)} and {tuple(H.shape)}"
            )
        for x in (W, H):
            check_non_negative("init", x.numpy(force=True))
        return Factors(W, H)
    if init == "random":
        return random_start(V, rank, rng)
    if init != "nndsvd":
        raise ValueError(f'init must be "random", "nndsvd" or (W, H), got {init!r}')
    if len(V.shape) > 2:
        raise ValueError("init='nndsvd' takes one matrix at a time; use 'random' for many")
    if rank > min(V.shape):
        raise ValueError(
            f"init='nndsvd' needs rank <= min(m, n) = {min(V.shape)}, got {rank}; use 'random'"
        )
    return nndsvd_start(V, rank, rng)
