"""What a perturbation is: the stages of a step that it may change, and chance of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks import Batch

T = TypeVar("T")
Gradients = dict[str, Tensor]


class Moment(NamedTuple):
    """Where a stack of runs is: the step that is being taken, counted from 1, and whose rows."""

    step: int
    seed_of: Tensor
    """(runs,): the place of each row's seed among the seeds that the perturbation was made for."""


def _unchanged(value: T, moment: Moment) -> T:
    del moment
    return value


def _as_computed(
    losses: Tensor, gradients: Gradients, values: Mapping[str, Tensor], moment: Moment
) -> tuple[Tensor, Gradients]:
    del values, moment
    return losses, gradients


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """Changes what a stack of runs (runs, ...) sees or does, in stages; by default nothing.

    The stages of a step are called in this order. Chance comes from a generator per seed, so that
    runs of one seed are disturbed alike, whatever their schedule, rate and company.

    batch: the minibatch that is trained on.
    objective: the losses (runs,) that are differentiated; the schedules do not see them.
    gradients: the losses (runs,) that the schedules see, float64, and the gradients that the
        optimizer gets, from those that were computed and the parameters; it may change both, so
        that they remain of one function.
    rates: the learning rates (runs,) of the step.
    values: parameters after the step, changed in place.
    signal: what the schedules see in the losses' place, and nothing else does.
    keep: forget all rows but these, as runs that diverge are given up.
    """

    batch: Callable[[Batch, Moment], Batch] = _unchanged
    objective: Callable[[Tensor, Moment], Tensor] = _unchanged
    gradients: Callable[
        [Tensor, Gradients, Mapping[str, Tensor], Moment], tuple[Tensor, Gradients]
    ] = _as_computed
    rates: Callable[[Tensor, Moment], Tensor] = _unchanged
    values: Callable[[Mapping[str, Tensor], Moment], None] = _nothing
    signal: Callable[[Tensor, Moment], Tensor] = _unchanged
    keep: Callable[[Tensor], None] = _nothing


class Chance:
    """A generator per seed; each draw has a leading dimension of seeds."""

    def __init__(self, perturbation: str, seeds: Sequence[int]) -> None:
        key = tuple(perturbation.encode())
        self.generators = [
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key)) for seed in seeds
        ]

    def normal(self, shape: Sequence[int], wanted: Sequence[bool] | None = None) -> Tensor:
        """Standard normal numbers (seeds, *shape).

        wanted: the seeds that draw, by default all; zeros stand for the others, whose generators
            stay as they are, so that no seed's noise depends on another's.
        """
        drawn = np.zeros((len(self.generators), *shape), dtype=np.float32)
        for at, rng in enumerate(self.generators):
            if wanted is None or wanted[at]:
                drawn[at] = rng.standard_normal(tuple(shape), dtype=np.float32)
        return torch.from_numpy(drawn)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Numbers in [0, 1), (seeds, *shape)."""
        return _stacked([rng.random(tuple(shape), dtype=np.float32) for rng in self.generators])

    def integers(self, high: int, shape: Sequence[int]) -> Tensor:
        """Whole numbers from 0 to ``high`` - 1, (seeds, *shape)."""
        return _stacked([rng.integers(high, size=tuple(shape)) for rng in self.generators])


def like(numbers: Tensor, stack: Tensor) -> Tensor:
    """A number per run (runs,) as (runs, 1, ...), in the type of ``stack``, to multiply it."""
    return numbers.to(stack.dtype).reshape(-1, *[1] * (stack.ndim - 1))


def norms(stack: Tensor) -> Tensor:
    """The Euclidean norm (runs,) of each run's entries."""
    return stack.flatten(1).norm(dim=1)


def _stacked(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))
