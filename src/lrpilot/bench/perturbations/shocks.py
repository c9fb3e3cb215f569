"""Disturbances outside of the gradient: weights, rate, signal; and the placebo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from lrpilot.bench.perturbations.stages import Chance, Moment, Perturbation, like, norms

SHOCK_AT = 0.6  # of the budget, for kick and shock
KICK = 0.05  # of each tensor's norm
SHOCK = 10.0  # times the rate
SHOCK_STEPS = 20
SIGNAL_NOISE = 0.5  # of the loss's size
PLACEBO = 0.5  # deviation of the scalar


def weight_kick(name: str, seeds: Sequence[int], total_steps: int) -> Perturbation:
    """Once, each tensor is moved by a share of its norm, in a random direction."""
    chance = Chance(name, seeds)
    kicked = round(SHOCK_AT * total_steps)

    def values(values: Mapping[str, Tensor], moment: Moment) -> None:
        if moment.step != kicked:
            return
        for value in values.values():
            direction = chance.normal(value.shape[1:]) / value[0].numel() ** 0.5
            value += like(KICK * norms(value), value) * direction[moment.seed_of]

    return Perturbation(values=values)


def kick_step(total_steps: int) -> int:
    """The step after which `weight_kick` moves the weights."""
    return round(SHOCK_AT * total_steps)


def rate_shock(total_steps: int) -> Perturbation:
    """The rate is many times too high for some steps."""
    first, last = round(SHOCK_AT * total_steps), last_shock(total_steps)

    def rates(lrs: Tensor, moment: Moment) -> Tensor:
        return lrs * SHOCK if first < moment.step <= last else lrs

    return Perturbation(rates=rates)


def last_shock(total_steps: int) -> int:
    """The last step at which `rate_shock` disturbs."""
    return round(SHOCK_AT * total_steps) + SHOCK_STEPS


def signal_noise(name: str, seeds: Sequence[int]) -> Perturbation:
    """Schedules see the loss with noise in proportion to it; the training is not touched."""
    chance = Chance(name, seeds)

    def signal(losses: Tensor, moment: Moment) -> Tensor:
        noise = chance.normal(())[moment.seed_of].double()
        return losses + SIGNAL_NOISE * losses.abs() * noise

    return Perturbation(signal=signal)


def placebo(name: str, seeds: Sequence[int]) -> Perturbation:
    """A random number is added to the loss that is differentiated, and no schedule sees it.

    The gradient of a number is zero, so that nothing changes: so did the noise of GreedyLR's
    published robustness study enter.
    """
    chance = Chance(name, seeds)

    def objective(losses: Tensor, moment: Moment) -> Tensor:
        return losses + PLACEBO * torch.as_tensor(chance.normal(()))[moment.seed_of]

    return Perturbation(objective=objective)
