"""Many training runs side by side, whose rates somebody else decides."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

FLOOR = 1e-30  # of a measure whose logarithm is taken


class Runs(Protocol):
    """A stack of runs of one length, as one tensor program.

    A run that has diverged goes on, with losses that are not finite unless it is put back.
    """

    @property
    def count(self) -> int:
        """How many runs there are."""
        ...

    @property
    def total_steps(self) -> int:
        """Optimizer steps of each."""
        ...

    @property
    def retreats(self) -> bool:
        """Whether they have weights to go back to."""
        ...

    def step(self, scales: Floats) -> Floats:
        """One optimizer step of each at its base rate times its scale: the losses before it."""
        ...

    def told(self) -> tuple[Floats, Floats] | None:
        """Alignment and persistence of the last step's gradients, as `Signal` has them.

        Each (runs,), NaN where it is not known; None if neither ever is. Asked once after each
        step, or never.
        """
        ...

    def travelled(self) -> Floats | None:
        """Movement, travel and evenness of the weights after the last step, as `Signal` has them.

        (3, runs), NaN where they are not known; None if they never are. Asked at each decision.
        """
        ...

    def turn(self) -> None:
        """A decision has been made: gradients are compared with those since the one before."""
        ...

    def put_back(self, which: Mask) -> None:
        """Go back to weights known to be good; asked after a decision, of runs that `retreats`."""
        ...

    def measure(self) -> Floats:
        """What is to become small, without the noise of minibatches: (runs,); draws nothing."""
        ...


def log_measure(runs: Runs) -> Floats:
    """ln of what is measured, or of `FLOOR` if it is less: (runs,); infinite where it is NaN."""
    measured = runs.measure()
    return np.log(np.maximum(np.where(np.isnan(measured), np.inf, measured), FLOOR))
