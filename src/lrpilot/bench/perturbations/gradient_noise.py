"""Disturbed gradients, and the losses that go with them: noise of eight kinds, relative in size.

Noise n in a gradient is that of a minibatch whose loss has one more term, nᵀ(x − x₀), with x₀ where
the run began. So the schedule sees f(x) + nᵀ(x − x₀), and gradient and loss are of one function. A
scalar added to the loss, as the published study of GreedyLR has it, has the gradient zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lrpilot.bench.perturbations.stages import (
    Chance,
    Gradients,
    Moment,
    Perturbation,
    like,
    norms,
)

SPIKE = 10.0  # a spike's size; all sizes are shares of the gradient's own norm
PERIODS = 20  # of periodic spikes in a run
SPIKE_SHARE = 0.05  # of the steps, where spikes are random
BURST = 5.0
BURST_STRETCH = (0.5, 0.6)  # shares of the budget
DRIFT = (
    0.5  # at the end; it begins at 0. From 1 on it outweighs the gradient, and all runs run away.
)
OSCILLATION = 2.0
OSCILLATIONS = 10  # in a run
FLAT_STRETCH = (0.3, 0.5)
FLATNESS = 0.01  # what is left of the slope
ADVERSARIAL_SHARE = 0.25  # of the steps, at which the gradient is turned round
ADVERSARIAL = 2.0

Sizes = Callable[[int, np.random.Generator], np.ndarray]
Direction = Literal["fresh", "fixed", "against"]


def steady(size: float) -> Sizes:
    """The same size at every step."""
    return lambda total_steps, rng: np.full(total_steps, size)


def periodic(total_steps: int, rng: np.random.Generator) -> np.ndarray:
    """A spike at even intervals."""
    del rng
    every = max(total_steps // PERIODS, 1)
    return np.where(np.arange(1, total_steps + 1) % every == 0, SPIKE, 0.0)


def at_random(size: float, share: float) -> Sizes:
    """A size at a share of the steps, which are drawn; never at none."""

    def sizes(total_steps: int, rng: np.random.Generator) -> np.ndarray:
        count = max(round(share * total_steps), 1)
        found = np.zeros(total_steps)
        found[rng.choice(total_steps, size=count, replace=False)] = size
        return found

    return sizes


def burst(total_steps: int, rng: np.random.Generator) -> np.ndarray:
    """Strong noise over one stretch."""
    del rng
    return np.where(within(BURST_STRETCH, total_steps), BURST, 0.0)


def drift(total_steps: int, rng: np.random.Generator) -> np.ndarray:
    """A bias that grows in proportion to the steps."""
    del rng
    return DRIFT * np.arange(1, total_steps + 1) / total_steps


def oscillation(total_steps: int, rng: np.random.Generator) -> np.ndarray:
    """A bias to and fro."""
    del rng
    phase = 2 * math.pi * OSCILLATIONS / total_steps
    return OSCILLATION * np.sin(phase * np.arange(1, total_steps + 1))


def within(stretch: tuple[float, float], total_steps: int) -> np.ndarray:
    """Which of the steps 1 ... ``total_steps`` lie in a stretch of the budget."""
    first, last = (round(share * total_steps) for share in stretch)
    steps = np.arange(1, total_steps + 1)
    return (first < steps) & (steps <= last)


def gradient_noise(
    name: str, seeds: Sequence[int], total_steps: int, sizes: Sizes, direction: Direction
) -> Perturbation:
    """Noise of these sizes; each is multiplied by the norm of the run's gradient at that step.

    direction: "fresh", drawn at every step, or "fixed", drawn once, both isotropic; or "against",
        opposite to the gradient, so that a size of 2 turns it round.
    """
    noise = _Noise(Chance(name, seeds), total_steps, sizes, direction)
    return Perturbation(gradients=noise.gradients)


class _Noise:
    def __init__(
        self, chance: Chance, total_steps: int, sizes: Sizes, direction: Direction
    ) -> None:
        self.chance = chance
        self.direction = direction
        table = np.stack([sizes(total_steps, rng) for rng in chance.generators])
        self.sizes = torch.from_numpy(table)  # (seeds, steps)
        self.start: Gradients = {}
        self.drawn: Gradients = {}

    def gradients(
        self, losses: Tensor, gradients: Gradients, values: Mapping[str, Tensor], moment: Moment
    ) -> tuple[Tensor, Gradients]:
        if moment.step == 1:
            self.start = _of_seeds(values, moment.seed_of, len(self.sizes))
        of_seeds = self.sizes[:, moment.step - 1]
        if not bool(of_seeds.any()):
            return losses, gradients
        norm = torch.stack([norms(gradient) for gradient in gradients.values()]).norm(dim=0)
        size = of_seeds[moment.seed_of] * norm
        noisy: Gradients = {}
        if self.direction != "against" and (self.direction == "fresh" or not self.drawn):
            self._draw(gradients, of_seeds)
        for name, gradient in gradients.items():
            direction = self._unit(name, gradient, norm, moment.seed_of)
            noise = like(size, direction) * direction
            travelled = values[name] - self.start[name][moment.seed_of]
            losses = losses + (noise * travelled).flatten(1).sum(dim=1)
            noisy[name] = gradient + noise
        return losses, noisy

    def _draw(self, gradients: Gradients, of_seeds: Tensor) -> None:
        """Directions (seeds, ...) of length about 1, for the seeds that have noise now."""
        length = sum(gradient[0].numel() for gradient in gradients.values()) ** 0.5
        wanted = None if self.direction == "fixed" else of_seeds.bool().tolist()
        self.drawn = {
            name: self.chance.normal(gradient.shape[1:], wanted) / length
            for name, gradient in gradients.items()
        }

    def _unit(self, name: str, gradient: Tensor, norm: Tensor, seed_of: Tensor) -> Tensor:
        if self.direction != "against":
            return self.drawn[name][seed_of]
        return like(-1 / norm.clamp(min=torch.finfo(norm.dtype).tiny), gradient) * gradient


def plateau(total_steps: int) -> Perturbation:
    """A flat stretch: there the function is c + ``FLATNESS`` (f − c), c the loss at its edge."""
    flat = _Flat(within(FLAT_STRETCH, total_steps))
    return Perturbation(gradients=flat.gradients, keep=flat.keep)


class _Flat:
    def __init__(self, flat: np.ndarray) -> None:
        self.flat = flat
        self.edge: Tensor | None = None

    def gradients(
        self, losses: Tensor, gradients: Gradients, values: Mapping[str, Tensor], moment: Moment
    ) -> tuple[Tensor, Gradients]:
        del values
        if not self.flat[moment.step - 1]:
            return losses, gradients
        if self.edge is None:
            self.edge = losses
        flat = self.edge + FLATNESS * (losses - self.edge)
        return flat, {name: FLATNESS * gradient for name, gradient in gradients.items()}

    def keep(self, rows: Tensor) -> None:
        if self.edge is not None:
            self.edge = self.edge[rows]


def _of_seeds(values: Mapping[str, Tensor], seed_of: Tensor, seeds: int) -> Gradients:
    """Values (seeds, ...) that all runs of a seed share, from a stack of runs."""
    first = [int((seed_of == seed).nonzero()[0]) for seed in range(seeds)]
    return {name: value[first].clone() for name, value in values.items()}
