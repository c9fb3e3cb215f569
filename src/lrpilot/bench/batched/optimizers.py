"""The optimizers of the suite over a stack of runs, each with a rate of its own.

They equal torch's with the settings of `lrpilot.bench.suite.OPTIMIZERS`, which a test holds them
to. Values and gradients are (runs, *shape), rates (runs,); updates are in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
SMOOTHING = 0.99  # of RMSprop
EPS = 1e-8


class BatchedOptimizer(Protocol):
    """What updates a stack of runs."""

    def update(
        self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], lrs: Tensor
    ) -> None:
        """One step of every run."""
        ...

    def keep(self, kept: Tensor) -> None:
        """Forget all runs but these."""
        ...


@runtime_checkable
class Rewindable(BatchedOptimizer, Protocol):
    """One that single runs can be put back in."""

    def state(self) -> list[Tensor]:
        """All that a step depends on but values and gradients: each (runs, ...), to write into."""
        ...


class Momentum:
    """SGD, with heavy-ball momentum ``momentum`` if it is not 0."""

    def __init__(self, values: Mapping[str, Tensor], momentum: float) -> None:
        self.momentum = momentum
        self.buffers = zeros(values) if momentum else {}

    def update(
        self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], lrs: Tensor
    ) -> None:
        """One step of every run."""
        for name, value in values.items():
            direction = gradients[name]
            if self.momentum:
                direction = self.buffers[name].mul_(self.momentum).add_(direction)
            value.addcmul_(like(lrs, value), direction, value=-1)

    def keep(self, kept: Tensor) -> None:
        """Forget all runs but these."""
        self.buffers = rows(self.buffers, kept)

    def state(self) -> list[Tensor]:
        """The momentum."""
        return [*self.buffers.values()]


class Adam:
    """Adam, with weight decay apart from the gradient (AdamW) if it is not 0."""

    def __init__(self, values: Mapping[str, Tensor], weight_decay: float) -> None:
        self.weight_decay = weight_decay
        self.first, self.second = zeros(values), zeros(values)
        self.scratch = zeros(values)  # large new tensors at every step cost more than arithmetic
        self.steps = torch.zeros(len(next(iter(values.values()))), dtype=torch.float64)

    def update(
        self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], lrs: Tensor
    ) -> None:
        """One step of every run."""
        self.steps += 1
        first_correction = 1 - BETAS[0] ** self.steps
        correction = (1 - BETAS[1] ** self.steps) ** 0.5
        sizes = lrs * (correction / first_correction).to(lrs.dtype)
        eps = (EPS * correction).to(lrs.dtype)
        for name, value in values.items():
            gradient, lr = gradients[name], like(lrs, value)
            if self.weight_decay:
                value.mul_(1 - lr * self.weight_decay)
            mean = self.first[name].lerp_(gradient, 1 - BETAS[0])
            square = self.second[name].mul_(BETAS[1])
            square.addcmul_(gradient, gradient, value=1 - BETAS[1])
            # Torch corrects the root before eps is added; here the rate and eps take it over.
            direction = torch.sqrt(square, out=self.scratch[name]).add_(like(eps, value))
            torch.div(mean, direction, out=direction)
            value.addcmul_(like(sizes, value), direction, value=-1)

    def keep(self, kept: Tensor) -> None:
        """Forget all runs but these."""
        self.first, self.second = rows(self.first, kept), rows(self.second, kept)
        self.scratch, self.steps = rows(self.scratch, kept), self.steps[kept]

    def state(self) -> list[Tensor]:
        """Both moments, and how many steps are in them."""
        return [*self.first.values(), *self.second.values(), self.steps]


class RMSprop:
    """RMSprop without momentum or centring."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.second, self.scratch = zeros(values), zeros(values)

    def update(
        self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], lrs: Tensor
    ) -> None:
        """One step of every run."""
        for name, value in values.items():
            gradient = gradients[name]
            square = self.second[name].mul_(SMOOTHING)
            square.addcmul_(gradient, gradient, value=1 - SMOOTHING)
            direction = torch.sqrt(square, out=self.scratch[name]).add_(EPS)
            torch.div(gradient, direction, out=direction)
            value.addcmul_(like(lrs, value), direction, value=-1)

    def keep(self, kept: Tensor) -> None:
        """Forget all runs but these."""
        self.second, self.scratch = rows(self.second, kept), rows(self.scratch, kept)

    def state(self) -> list[Tensor]:
        """The second moment."""
        return [*self.second.values()]


def zeros(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A buffer for each stack."""
    return {name: torch.zeros_like(value) for name, value in values.items()}


def rows(tensors: Mapping[str, Tensor], kept: Tensor) -> dict[str, Tensor]:
    """The stacks of the runs that are kept."""
    return {name: tensor[kept] for name, tensor in tensors.items()}


def like(lrs: Tensor, value: Tensor) -> Tensor:
    """The rates (runs,) as (runs, 1, ...), to multiply a stack of values."""
    return lrs.reshape(-1, *[1] * (value.ndim - 1))
