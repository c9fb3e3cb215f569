"""A training run that any task can be: parameters, a minibatch loss and a held-out loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.tasks.protocol import OptimizerFactory, Split

# Optimizers want a rate when they are made; the first step overwrites it.
PLACEHOLDER_LR = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What there is to train, with everything that the seed decides already decided or queued.

    ``minibatch_loss`` draws the next minibatch; calling it is the only way to use up chance.
    ``held_out_loss`` draws nothing, and leaves the model as it was.
    ``project`` puts the parameters back into their domain after each optimizer step.
    """

    parameters: Sequence[Tensor]
    minibatch_loss: Callable[[], Tensor]
    held_out_loss: Callable[[Split], Tensor]
    project: Callable[[], None] | None = None


class TrainingRun:
    """One problem under one optimizer; satisfies ``Run``.

    A diverged run goes on and returns losses that are not finite; it never raises.
    """

    def __init__(self, problem: Problem, optimizer: OptimizerFactory) -> None:
        self.problem = problem
        self.optimizer = optimizer(problem.parameters, PLACEHOLDER_LR)

    def step(self, lr: float) -> float:
        """Take one optimizer step, then project; return the minibatch's loss before the step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        loss = self.problem.minibatch_loss()
        loss.backward()
        self.optimizer.step()
        if self.problem.project is not None:
            self.problem.project()
        return loss.item()

    def evaluate(self, split: Split = "validation") -> float:
        """Loss on the whole held-out split; the steps that follow are the same without it."""
        with torch.no_grad():
            return self.problem.held_out_loss(split).item()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingTask:
    """A named problem with its budget and rates; satisfies ``Task``.

    ``build`` gets a generator that depends on the name and the seed alone. So optimizers and
    schedules are compared on the same start and the same data order. Equal bit for bit means: on
    one machine, with one version of each library and one number of threads.
    """

    name: str
    summary: str
    metric: str
    total_steps: int
    lrs: Mapping[str, float]
    build: Callable[[np.random.Generator], Problem]
    version: int = 1

    def start(self, seed: int, optimizer: OptimizerFactory) -> TrainingRun:
        """Begin a run; the optimizer's own rate is a placeholder until the first step."""
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        chance = np.random.SeedSequence(seed, spawn_key=tuple(self.name.encode()))
        return TrainingRun(self.build(np.random.default_rng(chance)), optimizer)


def initialise(make: Callable[[], nn.Module], rng: np.random.Generator) -> nn.Module:
    """Make a model whose initial weights come from ``rng``."""
    # Layers draw their weights from torch's global generator and take no other. The fork puts its
    # state back. Not torch.manual_seed, which would reseed accelerators as well, for good.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return make()
