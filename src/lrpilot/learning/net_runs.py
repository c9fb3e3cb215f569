"""Runs of small networks side by side, each at a base rate of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.func import vmap

from lrpilot.bench.batched.program import UPDATES
from lrpilot.bench.batched.stacks import Stack, drawn, flattened, gradients, held_out, stacked
from lrpilot.learning.runs import Floats, Mask
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem
from lrpilot.torch.gradients import GradientWindows
from lrpilot.torch.weights import WeightWindows

AT_ONCE = 64  # runs evaluated together


class NetRuns:
    """Runs of ``problems``, one per seed, under one optimizer.

    seed_of: which problem each run has (runs,). base_lrs: (runs,).
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        *,
        optimizer: str,
        seed_of: Sequence[int],
        base_lrs: Floats,
        total_steps: int,
    ) -> None:
        self.total_steps = total_steps
        self.problems = problems
        self.seed_of = torch.tensor(seed_of)
        self.base_lrs = torch.from_numpy(base_lrs)
        self.values = stacked([problem.parameters for problem in problems], self.seed_of)
        self.optimizer = UPDATES[optimizer](self.values)
        self._windows: GradientWindows | None = None
        self._weights = WeightWindows(flattened(self.values))
        self._found: Stack = {}  # gradients of the last step
        self._loss = vmap(problems[0].loss)

    retreats = False

    @property
    def count(self) -> int:
        """How many runs there are."""
        return len(self.seed_of)

    def step(self, scales: Floats) -> Floats:
        """One step of each: the loss of its minibatch."""
        batch = drawn(self.problems, self.seed_of)
        losses, self._found = gradients(self._loss, self.values, {}, batch)
        with torch.no_grad():
            lrs = (self.base_lrs * torch.from_numpy(scales)).float()
            self.optimizer.update(self.values, self._found, lrs)
        return losses.double().numpy()

    def told(self) -> tuple[Floats, Floats]:
        """Of the gradients in all parameters together."""
        flat = flattened(self._found)
        self._windows = self._windows or GradientWindows(flat)
        alignment, persistence = (one.double().numpy() for one in self._windows.take(flat))
        return alignment, persistence

    def travelled(self) -> Floats:
        """Of all parameters together."""
        return torch.stack(self._weights.take(flattened(self.values))).double().numpy()

    def turn(self) -> None:
        """Compare with the gradients since the last call, and the weights now, from now on."""
        if self._windows is not None:
            self._windows.turn()
        self._weights.turn()

    def put_back(self, which: Mask) -> None:
        """Is never asked; `GuardedRuns` have snapshots."""

    def measure(self, split: Split = "validation") -> Floats:
        """The loss on a held-out split."""
        return held_out(self.problems[0], self.values, split, AT_ONCE).numpy()


def runs_at(
    problems: Sequence[Problem],
    lrs: Sequence[float],
    *,
    optimizer: str,
    total_steps: int,
    copies: int = 1,
) -> NetRuns:
    """Every problem at every rate, in the order of copies, then rates, then problems."""
    count = len(problems)
    return NetRuns(
        problems,
        optimizer=optimizer,
        seed_of=list(range(count)) * (len(lrs) * copies),
        base_lrs=np.tile(np.repeat(np.asarray(lrs, dtype=np.float64), count), copies),
        total_steps=total_steps,
    )
