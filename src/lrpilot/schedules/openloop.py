"""Open-loop schedules: the rate as a pure function of progress, decided before training."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from lrpilot.schedules.checks import check_count, check_factor, check_number, check_share
from lrpilot.schedules.protocol import Signal

Shape = Callable[[float], float]
"""Maps progress, 0 at the first step and 1 past the last, to the multiple of the base rate."""


class OpenLoopState(NamedTuple):
    """Where an open-loop schedule stands."""

    scale: float
    reason: str = "plan"
    step: int = 0  # optimizer steps taken


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Follow ``shape`` over ``total_steps`` optimizer steps, whatever the loss.

    Step ``t`` of ``T`` has progress ``t / T``, as in torch's and transformers' schedulers; past
    the horizon the last value, ``shape(1)``, holds. Any function of progress is a shape.

    >>> cosine = OpenLoop(Cosine(), total_steps=4)
    >>> [round(cosine.scale_at(step), 3) for step in range(6)]
    [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
    """

    shape: Shape
    total_steps: int

    def __post_init__(self) -> None:
        check_count("total_steps", self.total_steps, least=1, cure="count the optimizer steps")

    def scale_at(self, step: int) -> float:
        """The multiple of the base rate at optimizer step ``step``, counted from 0."""
        return float(self.shape(min(step / self.total_steps, 1.0)))

    @property
    def needs(self) -> tuple[str, ...]:
        """Nothing: the plan is made."""
        return ()

    def init(self) -> OpenLoopState:
        """State before the first step."""
        return OpenLoopState(self.scale_at(0))

    def update(self, state: OpenLoopState, signal: Signal) -> OpenLoopState:
        """State one step later; the signal is not read."""
        del signal
        return OpenLoopState(self.scale_at(state.step + 1), step=state.step + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The base rate throughout."""

    def __call__(self, progress: float) -> float:
        """1, whatever the progress."""
        del progress
        return 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Polynomial:
    """``end + (1 - end) (1 - u) ** power``: torch's ``PolynomialLR`` (with ``end_scale=0``)."""

    power: float = 2.0
    end_scale: float = 0.0

    def __post_init__(self) -> None:
        check_number("power", self.power)
        if not 0 < self.power < math.inf:
            raise ValueError(f"power must be positive and finite, got {self.power}; 1 is linear")
        check_share("end_scale", self.end_scale)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return between(self.end_scale, 1.0, (1 - progress) ** self.power)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``1 - (1 - end) u``: transformers' ``get_linear_schedule_with_warmup`` without warm-up."""

    end_scale: float = 0.0

    def __post_init__(self) -> None:
        check_share("end_scale", self.end_scale)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return between(self.end_scale, 1.0, 1 - progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cosine:
    """``end + (1 - end) (1 + cos(pi u)) / 2``: torch's ``CosineAnnealingLR`` (Loshchilov 2017)."""

    end_scale: float = 0.0

    def __post_init__(self) -> None:
        check_share("end_scale", self.end_scale)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return between(self.end_scale, 1.0, 0.5 * (1 + math.cos(math.pi * progress)))


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineRestarts:
    """``cycles`` equal cosines, each from 1: torch's ``CosineAnnealingWarmRestarts``, ``T_mult=1``.

    Progress 1 is the end of the last cycle (as in transformers), where torch would restart.
    """

    cycles: int = 4
    end_scale: float = 0.0

    def __post_init__(self) -> None:
        check_count("cycles", self.cycles, least=1, cure="1 is a plain cosine")
        check_share("end_scale", self.end_scale)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        position = progress * self.cycles
        # Rounding may put a restart just before its cycle ends, at scale 0 instead of 1.
        if abs(position - round(position)) < 1e-9:
            position = round(position)
        within = 1.0 if progress == 1 else position % 1.0
        return Cosine(end_scale=self.end_scale)(within)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomRates:
    """A control: in each of ``segments`` equal parts a scale drawn log-uniformly, then held.

    lowest: smallest scale, in (0, 1]; the largest is 1.
    seed: of the draw; equal settings are equal shapes.
    """

    segments: int = 20
    lowest: float = 0.01
    seed: int = 0
    scales: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_count("segments", self.segments, least=1, cure="1 is a constant scale")
        check_share("lowest", self.lowest)
        if self.lowest == 0:
            raise ValueError("lowest must be above 0, whose logarithm there is not, got 0")
        rng = random.Random(self.seed)
        drawn = tuple(self.lowest ** rng.random() for _ in range(self.segments))
        object.__setattr__(self, "scales", drawn)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return self.scales[min(int(progress * self.segments), self.segments - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDecay:
    """Multiply by ``factor`` at each milestone: torch's ``MultiStepLR``.

    milestones: shares of the horizon, rising; a drop holds from its milestone on.
    """

    factor: float = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        check_factor(self.factor)
        for milestone in self.milestones:
            check_share("milestone", milestone)
        if list(self.milestones) != sorted(self.milestones):
            raise ValueError(f"milestones must rise, got {self.milestones}")

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return self.factor ** sum(milestone <= progress for milestone in self.milestones)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    """``end ** u``: torch's ``ExponentialLR`` with ``gamma = end ** (1 / total_steps)``."""

    end_scale: float = 0.01

    def __post_init__(self) -> None:
        check_share("end_scale", self.end_scale, open_below=True)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return self.end_scale**progress


@dataclass(frozen=True, slots=True, kw_only=True)
class InverseSqrt:
    """``1 / sqrt(1 + u / timescale)``: transformers' ``get_inverse_sqrt_schedule``, no warm-up.

    timescale: share of the horizon after which the rate is 1 / sqrt(2) of the base rate
        (transformers counts it in steps).
    """

    timescale: float = 0.1

    def __post_init__(self) -> None:
        check_share("timescale", self.timescale, open_below=True)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return 1 / math.sqrt(1 + progress / self.timescale)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneCycle:
    """Up by half a cosine to 1 at ``peak``, down by another: torch's ``OneCycleLR`` (Smith 2018).

    The base rate is the peak (torch's ``max_lr``), and momentum is left alone. Torch puts its end
    on the last step, so its ``OneCycleLR(total_steps=T + 1)`` with ``pct_start`` equal to
    ``(peak * T + 1) / (T + 1)`` is ours over ``T``.

    start_scale: torch's ``1 / div_factor``.
    end_scale: torch's ``1 / (div_factor * final_div_factor)``.
    """

    peak: float = 0.3
    start_scale: float = 1 / 25
    end_scale: float = 1 / 25e4

    def __post_init__(self) -> None:
        check_share("peak", self.peak, open_below=True)
        check_share("start_scale", self.start_scale)
        check_share("end_scale", self.end_scale)
        if self.peak == 1:
            raise ValueError("peak must lie below 1, got 1; the rest of the horizon anneals")

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        if progress < self.peak:
            return between(self.start_scale, 1.0, 1 - Cosine()(progress / self.peak))
        return Cosine(end_scale=self.end_scale)((progress - self.peak) / (1 - self.peak))


@dataclass(frozen=True, slots=True, kw_only=True)
class WSD:
    """Warm up linearly, stay at 1, decay over the last share: transformers' ``get_wsd_schedule``.

    warmup: share of the horizon; 0 turns it off.
    decay: share of the horizon.
    start_scale: scale of the very first step. Transformers has 0 there, a step that learns nothing.
    shape: the decay, over its own progress.
    """

    warmup: float = 0.05
    decay: float = 0.2
    start_scale: float = 0.01
    shape: Shape = field(default_factory=Linear)

    def __post_init__(self) -> None:
        check_share("warmup", self.warmup)
        check_share("decay", self.decay, open_below=True)
        check_share("start_scale", self.start_scale)
        if self.warmup + self.decay > 1:
            raise ValueError(
                f"warmup ({self.warmup:g}) and decay ({self.decay:g}) are shares of one horizon, "
                f"so their sum must not exceed 1; lower one of them"
            )

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        if progress < self.warmup:
            return between(self.start_scale, 1.0, progress / self.warmup)
        elapsed = self.decay - (1 - progress)
        # Rounding may put the decay's first step just after its start, where a shape may be steep.
        return self.shape(elapsed / self.decay if elapsed > 1e-9 else 0.0)


def between(low: float, high: float, share: float) -> float:
    """``low`` at share 0, ``high`` at share 1, linear between; never outside the two.

    >>> between(0.5, 1.0, 0.5)
    0.75
    """
    return low + (high - low) * share
