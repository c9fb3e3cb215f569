"""What the gradients in W, and W itself, tell of its rate, as those of a network do."""

from __future__ import annotations

from torch import Tensor

from lrpilot.nmf.solver import Solver
from lrpilot.torch.windows import MOST, Told, Windows, apart


def coordinates(of_W: Tensor) -> Tensor:
    """Each entry of W or of its gradient (..., m, r), or every so many-th one: (..., some)."""
    m, rank = of_W.shape[-2:]
    return of_W.flatten(-2)[..., :: apart(-(-m * rank // MOST), (m, rank))]


def told(windows: Windows, solver: Solver) -> Told:
    """Of the step that the solver has just taken; with entries nothing of the gradients."""
    W = coordinates(solver.W)
    if solver.gradient is None:  # entries, which are written to W in place
        return windows.take(W.new_full(W.shape, float("nan")), W.clone())
    return windows.take(coordinates(solver.gradient), W)
