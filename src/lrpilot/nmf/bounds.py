"""The largest learning rate that is sure to be stable, theorem by theorem.

V ~ WH with V (m, n), W (m, r), H (r, n), all >= 0; f = ½‖V − WH‖². Every function returns a rate
for plain or projected gradient descent on f, in units of 1 / V; infinity where any rate will do.
docs/nmf.md has the proofs of the theorems T1 to T8 that are cited here.

Bounds on a W step take ``H``. For an H step hand over ``W.T``, and ``V.T`` where V is asked for.

>>> H = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
>>> largest = np.linalg.eigvalsh(H @ H.T)[-1]
>>> bool(0.95 * 2 / largest <= block(H) <= 2 / largest)
True
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lrpilot.nmf import curvature
from lrpilot.nmf.checks import check_non_negative
from lrpilot.nmf.curvature import Units

Matrix = np.ndarray | Tensor

ITERATIONS = 20  # within 1 % of the eigenvalue on every factor tried, wildly scaled ones included


def block(H: Matrix, *, moved: float = 0.0) -> float:
    """2 / λmax(HHᵀ): an exact-gradient step of W alone never raises f up to this rate.

    H: (r, n), entries >= 0.
    moved: the bound is stale: entries of H may have moved by up to this since; it then holds for
        all of these H, since ‖H + D‖₂ <= ‖H‖₂ + moved √(rn) (T6).

    Theorem T1: f(W + D) <= f − (1/η − λmax/2)‖D‖². It is sharp: without projection any larger rate
    multiplies the leading error by more than 1 in each step; with it, W oscillates for ever. The
    value returned is below the true quotient by 1 % at most in practice, and never above it.

    Rows of V drawn at random leave each row of W an exact gradient: take this rate, unscaled.
    """
    H = factor("H", H)
    largest = math.sqrt(curvature.block(H, iterations=ITERATIONS).item())
    return rate((largest + moved * math.sqrt(H.numel())) ** 2)


def minibatch(
    H: Matrix,
    batch: int,
    *,
    units: Units = "columns",
    replace: bool = False,
    rows: int | None = None,
    moved: float = 0.0,
) -> float:
    """2 / calL: steps of W with minibatch gradients are stable in mean square up to this rate.

    H: (r, n), entries >= 0.
    batch: units in a minibatch.
    units: what is drawn: columns of V, entries of V, or rows of V.
    replace: whether a unit may be drawn twice into one minibatch.
    rows: m; asked for with entries and rows.
    moved: as for ``block``.

    The gradient is that of f's estimate from the minibatch, scaled by the number of units over
    ``batch`` so that it is unbiased. For the mean over columns instead, multiply the rate by n.

    Theorem T3: E[Â²] <= calL HHᵀ, so that E‖W − W*‖² contracts to a noise floor. ``block`` is not
    enough here: with columns of unequal length and small batches it diverges. At worst this rate is
    about half of the largest stable one.
    """
    H = factor("H", H)
    size = count_units(H.shape[-1], rows, units)
    if batch < 1 or (batch > size and not replace):
        raise ValueError(
            f"batch must lie between 1 and the {size} {units} that there are, got {batch}"
        )
    top = curvature.block(H, iterations=ITERATIONS)
    unit = top if units == "rows" else curvature.longest(H)
    calL = curvature.minibatch(top, unit, size=size, batch=batch, replace=replace)
    # √calL is a norm of H, and among the matrices with entries up to ``moved`` it is largest where
    # all of them are: there λmax = moved² rn, and each column has ‖h‖² = moved² r.
    all_ones = torch.tensor(float(H.numel()))
    one_unit = all_ones if units == "rows" else torch.tensor(float(H.shape[-2]))
    spread = curvature.minibatch(all_ones, one_unit, size=size, batch=batch, replace=replace)
    return rate((math.sqrt(calL.item()) + moved * math.sqrt(spread.item())) ** 2)


def joint(V: Matrix, W: Matrix, H: Matrix, *, cap: float) -> float:
    """2 / L~: a step of both factors at once never raises f up to this rate.

    V: (m, n). W: (m, r). H: (r, n). All entries >= 0.
    cap: no entry moves by more than this in the step, which the solver sees to by clipping; in the
        units of W and H, √V.

    Theorem T4: L~ = (s + δ/2)² + ‖WH − V‖ with s² = ‖W‖₂² + ‖H‖₂² and δ = cap √((m + n) r), for
    exact gradients. With unbiased noise of variance σ², E f rises by ησ² at most.
    """
    V, W, H = non_negative("V", V), factor("W", W), factor("H", H)
    m, rank = W.shape
    n = H.shape[-1]
    if V.shape != (m, n) or len(H) != rank:
        raise ValueError(
            f"V, W and H must be (m, n), (m, r) and (r, n), got {tuple(V.shape)}, "
            f"{tuple(W.shape)} and {tuple(H.shape)}"
        )
    if not cap >= 0:
        raise ValueError(f"cap must be at least 0, got {cap}; it bounds how far an entry moves")
    residual = torch.linalg.norm(W @ H - V)
    delta = curvature.reach(m, n, rank, cap)
    return rate(curvature.joint(W, H, residual, reach=delta, iterations=ITERATIONS).item())


def constant(V: Matrix, rank: int, *, cap: float | None = None) -> float:
    """A rate for both factors at once that is stable for ever, from V alone.

    V: (m, n), entries >= 0.
    cap: as for ``joint``; None if steps are not clipped.

    Theorem T5: start scaled (`lrpilot.nmf.scaled`), so that f <= ½‖V‖²; balance the columns of W
    against the rows of H after every step (`lrpilot.nmf.balanced`); take exact gradients. Then no
    step raises f. With s² = 4 √r ‖V‖ the rate is 2 / ((s + δ/2)² + ‖V‖), where δ = cap √((m + n) r)
    or, without a cap, 2s / (4 √r + 1). It is 5 to 8 times below the local bound of ``joint``:
    a first rate, not the one to stay with.
    """
    V = non_negative("V", V)
    m, n = V.shape
    check_rank(rank)
    norm = torch.linalg.norm(V).item()
    s = math.sqrt(4 * math.sqrt(rank) * norm)
    delta = 2 * s / (4 * math.sqrt(rank) + 1)
    if cap is not None:
        delta = min(delta, curvature.reach(m, n, rank, cap))
    return rate((s + delta / 2) ** 2 + norm)


def boxed(V: Matrix, rank: int, *, limit: float) -> float:
    """A rate for both factors at once that is stable for ever, however noisy the gradients.

    V: (m, n), entries >= 0.
    limit: every step is projected onto W, H <= limit as well as onto W, H >= 0; in units of √V.

    Theorem T5 in a box: L~ = r limit² (m + n) + ‖V‖ + r limit² √(mn), whatever the noise has made
    of the factors, so that E f rises by ησ² at most in any step. Low, since boxes are large.
    """
    V = non_negative("V", V)
    m, n = V.shape
    check_rank(rank)
    if not limit > 0:
        raise ValueError(f"limit must be positive, got {limit}; entries of W and H lie below it")
    norm = torch.linalg.norm(V).item()
    return rate(rank * limit**2 * (m + n) + norm + rank * limit**2 * math.sqrt(m * n))


def top_eigenvalue(A: Matrix, *, iterations: int = ITERATIONS) -> float:
    """An upper bound on the largest eigenvalue of a symmetric matrix with entries >= 0.

    A: (r, r).
    iterations: products of ``A`` with a vector, at least 0. The bound holds for every count, where
        the power method's own estimate only holds from below.

    Theorem T8: λmax <= max_i (Ax)_i / x_i for any x > 0 (Collatz, Wielandt).
    """
    A = non_negative("A", A)
    return curvature.top_eigenvalue(A, iterations=iterations)[0].item()


def rate(sharpness: float) -> float:
    """2 / sharpness, rounded down; infinite where nothing curves."""
    return math.nextafter(2 / sharpness, 0.0) if sharpness > 0 else math.inf


def non_negative(name: str, matrix: Matrix) -> Tensor:
    """The matrix as a tensor of float32 or better, if its entries are finite and >= 0."""
    tensor = torch.as_tensor(matrix)
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float() if tensor.dtype.itemsize < 4 else tensor.double()
    if tensor.ndim != 2:
        raise ValueError(f"{name} must be a matrix, got shape {tuple(tensor.shape)}")
    check_non_negative(name, tensor.numpy(force=True))
    return tensor


def factor(name: str, matrix: Matrix) -> Tensor:
    """A factor: a matrix with at least one row and column."""
    tensor = non_negative(name, matrix)
    if not tensor.numel():
        raise ValueError(f"{name} must not be empty, got shape {tuple(tensor.shape)}")
    return tensor


def check_rank(rank: int) -> None:
    """A rank is at least 1."""
    if not rank >= 1:
        raise ValueError(f"rank must be at least 1, got {rank}")


def count_units(columns: int, rows: int | None, units: Units) -> int:
    """How many units a minibatch is drawn from."""
    if units == "columns":
        return columns
    if units not in ("entries", "rows"):
        raise ValueError(f"units must be columns, entries or rows, got {units!r}")
    if rows is None or rows < 1:
        raise ValueError(f"rows must be the number of rows of V with {units}, got {rows}")
    return rows if units == "rows" else rows * columns
