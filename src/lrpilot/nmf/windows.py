"""What the gradients in W, and W itself, tell of the rate, for a schedule that reads it."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from lrpilot.nmf.solver import Solver
from lrpilot.schedules.protocol import Signal, decisions_of
from lrpilot.torch.windows import MOST, Windows, apart


class SolverWindows:
    """Compares what a solver of one problem has just done with what it did before.

    It tells nothing of what nobody needs, and of minibatches of entries nothing of the gradients.
    needs: the fields of a `Signal` that a schedule reads.
    """

    def __init__(self, solver: Solver, needs: Collection[str]) -> None:
        """``solver``, before its first step."""
        self._windows = Windows.of(coordinates(solver.W), needs)

    def told(self, solver: Solver, signal: Signal) -> Signal:
        """``signal``, and what the step that the solver has just taken tells."""
        if self._windows is None:
            return signal
        W = coordinates(solver.W.clone())
        gradient = solver.gradient
        told = self._windows.take(
            W.new_full(W.shape, float("nan")) if gradient is None else coordinates(gradient), W
        )
        return signal._replace(**told._make(torch.stack(told).tolist())._asdict())

    def heed(self, before: object, after: object) -> None:
        """Compare with now from now on, if the schedule has decided between the two states."""
        if self._windows is not None and decisions_of(after) != decisions_of(before):
            self._windows.turn()


def coordinates(of_W: Tensor) -> Tensor:
    """Each entry of W or of its gradient (..., m, r), or every so many-th one: (..., some)."""
    m, rank = of_W.shape[-2:]
    return of_W.flatten(-2)[..., :: apart(-(-m * rank // MOST), (m, rank))]
