"""Runs of small networks side by side, each at a base rate of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.func import vmap

from lrpilot.bench.batched.program import UPDATES
from lrpilot.learning.runs import Floats
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem

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
        self.values = {
            name: torch.stack([problem.parameters[name] for problem in problems])[self.seed_of]
            for name in problems[0].parameters
        }
        self.optimizer = UPDATES[optimizer](self.values)
        self._loss = vmap(problems[0].loss)

    @property
    def count(self) -> int:
        """How many runs there are."""
        return len(self.seed_of)

    def step(self, scales: Floats) -> Floats:
        """One step of each: the loss of its minibatch."""
        drawn = [problem.draw() for problem in self.problems]
        batch = tuple(torch.stack(parts)[self.seed_of] for parts in zip(*drawn, strict=True))
        leaves = {name: value.requires_grad_() for name, value in self.values.items()}
        losses = self._loss(leaves, batch)
        found = torch.autograd.grad(losses.sum(), list(leaves.values()))
        with torch.no_grad():
            for value in self.values.values():
                value.requires_grad_(False)
            gradients = dict(zip(self.values, found, strict=True))
            lrs = (self.base_lrs * torch.from_numpy(scales)).float()
            self.optimizer.update(self.values, gradients, lrs)
        return losses.detach().double().numpy()

    def alignment(self) -> None:
        """Not seen: policies for networks are to need the loss alone."""
        return

    def measure(self, split: Split = "validation") -> Floats:
        """The loss on a held-out split."""

        def loss(values: dict[str, Tensor]) -> Tensor:
            return self.problems[0].held_out_loss(values, split)

        with torch.no_grad():
            return vmap(loss, chunk_size=AT_ONCE)(self.values).double().numpy()


def stacked(
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
