"""The published GreedyLR variants, faults included: for comparison, not for recommendation.

Each rule is one schedule over one rate; `Advanced` has a file of its own. The originals set
absolute rates between absolute bounds, where a scale multiplies a base rate. Over base rate 1 the
two agree: ``start_scale`` is the optimizer's rate, and ``min_scale`` and ``max_scale`` are
``min_lr`` and ``max_lr``. The start may lie outside the bounds, as it may there.

One deviation holds for all: a non-finite loss changes nothing but ``reason``.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot.schedules.checks import Mode, check_factor, check_mode
from lrpilot.schedules.greedy.released import (
    RunningMean,
    ThresholdMode,
    check_comparison,
    check_moves,
    check_rate,
    check_rates,
    check_stages,
    level,
    lowered,
    observed,
    passes,
    raised,
    record,
    recorded,
)
from lrpilot.schedules.protocol import Signal


class Algorithm1State(NamedTuple):
    """What Algorithm 1 remembers between two losses."""

    scale: float
    reason: str = "start"
    previous: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm1:
    """Divide the rate by ``factor`` if the loss fell since the last step, else multiply by it.

    Source: arXiv 2512.14527, Algorithm 1 (the theory). It compares two single losses, has no
    bounds, no patience and no threshold. The paper does not say what the first loss is compared
    with; here it is a reference alone. The paper's step ``t`` already runs at the rate that its
    own loss decides; ours does if the scheduler steps before the optimizer.

    Known faults: a tie is a cut, and so noise alone moves the rate at every step. Unbounded, the
    rate would reach 0 or infinity; it stops at the smallest and largest normal floats.

    factor: in (0, 1); the paper's theory asks for ``1 - 1 / L``, L the smoothness constant.
    """

    factor: float = 0.95
    start_scale: float = 1.0
    mode: Mode = "min"

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_rate("start_scale", self.start_scale)
        check_mode(self.mode)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> Algorithm1State:
        """State before the first loss."""
        return Algorithm1State(float(self.start_scale))

    def update(self, state: Algorithm1State, signal: Signal) -> Algorithm1State:
        """State after one more loss."""
        loss = signal.loss if self.mode == "min" else -signal.loss
        if not math.isfinite(loss):
            return state._replace(reason="ignore")
        scale, _, previous = state
        if previous is None:
            return Algorithm1State(scale, "calibrate", loss)
        if loss < previous:
            return Algorithm1State(min(scale / self.factor, sys.float_info.max), "raise", loss)
        return Algorithm1State(max(scale * self.factor, sys.float_info.min), "lower", loss)


class Algorithm2State(NamedTuple):
    """What Algorithm 2 remembers between two observations."""

    scale: float
    reason: str = "start"
    best: float | None = None  # lowest level since the last reset (in mode "max": negated)
    unbeatable: int = 0  # 1 if that level lies below the floats
    good: int = 0  # improvements in a row
    bad: int = 0  # failures to improve in a row
    cooldown: int = 0  # observations whose failures do not count yet
    warmup: int = 0  # observations whose improvements do not count yet
    age: int = 0  # observations since the last reset
    window: RunningMean = RunningMean()


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm2:
    """Raise the rate after improvements in a row, lower it after failures; reset now and then.

    Source: arXiv 2512.14527, Algorithms 2 and 3. ``threshold_mode="absolute"`` is the authors'
    fork (balak4/transformers at f900ae4) with its defaults; the paper has the relative threshold
    alone and prints neither defaults nor the increase, for which both are the fork's. The paper's
    experiments ran ``patience=10, window=50`` and a ``min_scale`` of a tenth of the start.

    An observation improves if its level lies below the best by more than the threshold. The rate
    moves after ``patience + 1`` improvements or failures in a row.

    factor: in (0, 1). A cut multiplies the rate by it, a raise divides by it.
    window: the level is the running mean of so many losses; 0 takes the loss itself.
    threshold: share of the best ("relative") or difference from it ("absolute").
    warmup: for so many observations after a raise, improvements do not count.
    cooldown: for so many observations after a cut, failures do not count.
    eps: a move that changes the rate by no more than this is not made.
    reset_after: forget the best and all counts each time so many observations have passed; the
        rate and the window stay. None never does.

    Known faults: the reset was meant for a rate stuck at its floor, but its condition, all groups
    at one rate, always holds for one group. The first observation, and each after a reset, counts
    as an improvement. The relative threshold is negative for negative losses, so that worse ones
    improve; the absolute one and ``eps`` know no scale. Noise alone drives the rate to its floor.
    """

    factor: float = 0.95
    patience: int = 10
    window: int = 0
    threshold: float = 1e-6
    threshold_mode: ThresholdMode = "relative"
    warmup: int = 0
    cooldown: int = 0
    min_scale: float = 1e-3
    max_scale: float = 1.0
    eps: float = 1e-8
    reset_after: int | None = 500
    start_scale: float = 1.0
    mode: Mode = "min"

    def __post_init__(self) -> None:
        check_moves(self.factor, self.patience, self.window)
        check_comparison(self.threshold, self.threshold_mode)
        check_stages(self.warmup, self.cooldown, self.eps, self.reset_after)
        check_rates(self.start_scale, self.min_scale, self.max_scale)
        check_mode(self.mode)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> Algorithm2State:
        """State before the first observation."""
        return Algorithm2State(float(self.start_scale))

    def update(self, state: Algorithm2State, signal: Signal) -> Algorithm2State:
        """State after one more loss."""
        loss = signal.loss if self.mode == "min" else -signal.loss
        if not math.isfinite(loss):
            return state._replace(reason="ignore")
        scale, _, best, unbeatable, good, bad, cool, warm, age, window = state
        if self.window:
            window = observed(window, loss, self.window)
            loss = level(window)
        bar = recorded(best, unbeatable)
        if passes(loss, bar, self.threshold, self.threshold_mode, self.mode):
            best, unbeatable = record(loss)
            good, bad = good + 1, 0
        else:
            good, bad = 0, bad + 1
        if cool:
            cool, bad = cool - 1, 0
        if warm:
            warm, good = warm - 1, 0
        reason = "hold"
        if bad > self.patience:
            scale = lowered(scale, self.factor, self.min_scale, self.eps)
            reason, cool, bad = "lower", self.cooldown, 0
        elif good > self.patience:
            scale = raised(scale, self.factor, self.max_scale, self.eps)
            reason, warm, good = "raise", self.warmup, 0
        if self.reset_after is not None and age >= self.reset_after:
            return Algorithm2State(scale, reason, age=1, window=window)
        return Algorithm2State(
            scale, reason, best, unbeatable, good, bad, cool, warm, age + 1, window
        )


class TransformersState(NamedTuple):
    """What ``transformers.GreedyLR`` remembers between two observations."""

    scale: float
    reason: str = "start"
    best: float | None = None  # lowest level since the last reset (in mode "max": negated)
    unbeatable: int = 0  # 1 if that level lies below the floats
    good: int = 0  # improvements in a row
    bad: int = 0  # failures to improve in a row
    frozen: int = 0  # observations that are not compared yet
    floored: int = 0  # cuts at the floor since the last raise or reset
    window: RunningMean = RunningMean()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersGreedy:
    """``transformers.GreedyLR`` of release 5.23, to the last bit on any finite losses.

    Its moves are Algorithm 2's. It differs in what ``warmup`` and ``cooldown`` mean, and in the
    reset, which waits for the floor and takes the rate along.

    factor, patience, window, threshold, threshold_mode, eps, mode: as in `Algorithm2`.
    warmup, cooldown: after a raise, or a cut, so many observations are not compared; they enter
        the window alone.
    reset_after: once so many cuts have left the rate at or below its floor, with no raise between,
        go back to ``start_scale`` and forget all. None never does. Their ``reset_start`` of 0 is 1
        here.

    Known faults: the first observation, and the first after a reset, counts as an improvement; a
    best that passes while frozen is not seen; a start below ``min_scale`` can only rise; around
    ``eps / (1 - factor)`` the rate sticks, above a lower floor and its reset; a running sum that
    overflows blinds it until a reset; the thresholds and the noise as in `Algorithm2`.

    >>> greedy = TransformersGreedy(factor=0.5, patience=0, start_scale=0.1)
    >>> greedy.update(greedy.init(), Signal(loss=123.0)).scale
    0.2
    """

    factor: float = 0.95
    patience: int = 10
    window: int = 0
    threshold: float = 1e-6
    threshold_mode: ThresholdMode = "absolute"
    warmup: int = 0
    cooldown: int = 0
    min_scale: float = 1e-3
    max_scale: float = 1.0
    eps: float = 1e-8
    reset_after: int | None = 500
    start_scale: float = 1.0
    mode: Mode = "min"

    def __post_init__(self) -> None:
        check_moves(self.factor, self.patience, self.window)
        check_comparison(self.threshold, self.threshold_mode)
        check_stages(self.warmup, self.cooldown, self.eps, self.reset_after)
        check_rates(self.start_scale, self.min_scale, self.max_scale)
        check_mode(self.mode)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> TransformersState:
        """State before the first observation."""
        return TransformersState(float(self.start_scale))

    def update(self, state: TransformersState, signal: Signal) -> TransformersState:
        """State after one more loss."""
        loss = signal.loss if self.mode == "min" else -signal.loss
        if not math.isfinite(loss):
            return state._replace(reason="ignore")
        scale, _, best, unbeatable, good, bad, frozen, floored, window = state
        if self.window:
            window = observed(window, loss, self.window)
            loss = level(window)
        if frozen:
            return TransformersState(
                scale, "hold", best, unbeatable, 0, 0, frozen - 1, floored, window
            )
        bar = recorded(best, unbeatable)
        if passes(loss, bar, self.threshold, self.threshold_mode, self.mode):
            best, unbeatable = record(loss)
            good, bad = good + 1, 0
        else:
            good, bad = 0, bad + 1
        reason = "hold"
        if good > self.patience:
            scale = raised(scale, self.factor, self.max_scale, self.eps)
            reason, good, frozen, floored = "raise", 0, self.warmup, 0
        elif bad > self.patience:
            scale = lowered(scale, self.factor, self.min_scale, self.eps)
            floored += scale <= self.min_scale
            if self.reset_after is not None and floored >= self.reset_after:
                return TransformersState(float(self.start_scale), "reset", frozen=self.cooldown)
            reason, bad, frozen = "lower", 0, self.cooldown
        return TransformersState(
            scale, reason, best, unbeatable, good, bad, frozen, floored, window
        )
