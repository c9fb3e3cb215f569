"""A training run that any task can be: parameters, minibatches, a loss and a held-out loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lrpilot.tasks.protocol import OptimizerFactory, Split

# Optimizers want a rate when they are made; the first step overwrites it.
PLACEHOLDER_LR = 1e-3

Values = Mapping[str, Tensor]
Batch = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What there is to train, with everything that the seed decides already decided or queued.

    parameters: by name, as they begin.
    fixed: what else the losses read and the seed decides, such as the optimum of a quadratic.
    draw: the next minibatch; calling it is the only way to use up chance.
    loss: of a minibatch, at the parameters and ``fixed`` in one mapping; a pure function.
    held_out_loss: of a split, at the same mapping; draws nothing, and changes nothing.
    project: puts parameters back into their domain in place, entry by entry or over the last
        dimensions, so that a stack of many runs' parameters is projected as one is.

    ``loss`` and ``held_out_loss`` read what depends on the seed from their arguments alone, so that
    those of one seed serve the values and minibatches of another, and `torch.func.vmap` serves
    many runs at once.
    """

    parameters: Values
    draw: Callable[[], Batch]
    loss: Callable[[Values, Batch], Tensor]
    held_out_loss: Callable[[Values, Split], Tensor]
    fixed: Values = field(default_factory=dict[str, Tensor])
    project: Callable[[Values], None] | None = None


class TrainingRun:
    """One problem under one optimizer; satisfies ``Run``.

    A diverged run goes on and returns losses that are not finite; it never raises.
    """

    def __init__(self, problem: Problem, optimizer: OptimizerFactory) -> None:
        self.problem = problem
        self.parameters = [value.clone().requires_grad_() for value in problem.parameters.values()]
        self.values = dict(zip(problem.parameters, self.parameters, strict=True)) | dict(
            problem.fixed
        )
        self.optimizer = optimizer(self.parameters, PLACEHOLDER_LR)

    def step(self, lr: float) -> float:
        """Take one optimizer step, then project; return the minibatch's loss before the step.

        The optimizer gets a closure of this minibatch: with gradients enabled it computes the loss
        and its gradients, otherwise the loss alone.
        """
        batch = self.problem.draw()

        def closure() -> Tensor:
            loss = self.problem.loss(self.values, batch)
            if torch.is_grad_enabled():
                self.optimizer.zero_grad()
                loss.backward()
            return loss

        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # Optimizers return what the closure does, though torch's annotation has a float for both.
        loss = self.optimizer.step(closure)  # pyright: ignore[reportArgumentType, reportCallIssue]
        if self.problem.project is not None:
            with torch.no_grad():
                self.problem.project(self.values)
        return float(loss.detach() if isinstance(loss, Tensor) else loss)

    def evaluate(self, split: Split = "validation") -> float:
        """Loss on the whole held-out split; the steps that follow are the same without it.

        An optimizer that evaluates elsewhere than it trains, as schedule-free ones do, has ``eval``
        and ``train``.
        """
        switch = getattr(self.optimizer, "eval", None)
        if switch is not None:
            switch()
        with torch.no_grad():
            loss = self.problem.held_out_loss(self.values, split).item()
        if switch is not None:
            self.optimizer.train()  # pyright: ignore[reportAttributeAccessIssue]
        return loss

    @property
    def extra_forwards(self) -> int:
        """Forward passes beyond one per step, as a line search makes."""
        return getattr(self.optimizer, "extra_forwards", 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingTask:
    """A named problem with its budget and rates; satisfies ``Task``.

    ``build`` gets a generator that depends on the name and the seed alone. So optimizers and
    schedules are compared on the same start and the same data order. Equal bit for bit means: on
    one machine, with one version of each library and one number of threads.

    batchable: whether many runs of the problem may be one tensor program: its losses are pure, and
        `torch.func.vmap` knows each of their operations.
    """

    name: str
    summary: str
    metric: str
    total_steps: int
    lrs: Mapping[str, float]
    build: Callable[[np.random.Generator], Problem]
    version: int = 1
    batchable: bool = True

    def problem(self, seed: int) -> Problem:
        """What ``seed`` trains."""
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        chance = np.random.SeedSequence(seed, spawn_key=tuple(self.name.encode()))
        return self.build(np.random.default_rng(chance))

    def start(self, seed: int, optimizer: OptimizerFactory) -> TrainingRun:
        """Begin a run; the optimizer's own rate is a placeholder until the first step."""
        return TrainingRun(self.problem(seed), optimizer)


def initialise(make: Callable[[], nn.Module], rng: np.random.Generator) -> nn.Module:
    """Make a model whose initial weights come from ``rng``."""
    # Layers draw their weights from torch's global generator and take no other. The fork puts its
    # state back. Not torch.manual_seed, which would reseed accelerators as well, for good.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        return make()


def predicting(
    model: nn.Module,
    criterion: Callable[[Tensor, Tensor], Tensor],
    *,
    draw: Callable[[], Batch],
    held_out: Callable[[Split], Batch],
) -> Problem:
    """Train ``model`` to predict the second part of a batch from the first.

    criterion: the loss of predictions and targets.
    held_out: the fixed batch of a split, which is judged as a minibatch is.
    """

    def loss(values: Values, batch: Batch) -> Tensor:
        inputs, targets = batch
        return criterion(apply(model, values, inputs), targets)

    def held_out_loss(values: Values, split: Split) -> Tensor:
        return loss(values, held_out(split))

    return Problem(parameters=weights_of(model), draw=draw, loss=loss, held_out_loss=held_out_loss)


def mean_squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Over all numbers."""
    return (predictions - targets).square().mean()


def weights_of(model: nn.Module) -> Values:
    """The parameters of ``model`` by name, detached, as a `Problem` begins with them."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def apply(model: nn.Module, values: Values, inputs: Tensor) -> Tensor:
    """The output of ``model`` for ``inputs`` with ``values`` in place of its parameters."""
    return functional_call(model, dict(values), (inputs,))
