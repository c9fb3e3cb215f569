"""GreedyLR by a plain threshold: each loss is better than the best so far, or it is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot.schedules.checks import (
    Mode,
    check_bounds,
    check_count,
    check_factor,
    check_mode,
    check_threshold,
)
from lrpilot.schedules.evidence import improves, mean, windowed
from lrpilot.schedules.protocol import Signal

_CONTINUED = {+1: "warmup", -1: "cooldown"}


class ThresholdState(NamedTuple):
    """What GreedyLR remembers between two observations."""

    scale: float = 1.0
    reason: str = "start"
    best: float | None = None  # lowest smoothed loss seen (in mode "max": of the negated score)
    good: int = 0  # improvements in a row
    bad: int = 0  # failures to improve in a row
    trend: int = 0  # +1 while warm-up may continue a raise, -1 while cooldown may continue a cut
    left: int = 0  # observations for which that continuation still runs
    window: tuple[float, ...] = ()  # the last finite losses, oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdGreedy:
    """Raise the rate while the loss improves; lower it while it does not.

    Each observation is one optimizer step's loss. It improves if the mean of the last ``window``
    losses is below the best such mean so far by more than ``threshold``. The rate moves after
    ``patience + 1`` improvements, or failures to improve, in a row. Until ``window`` losses have
    been seen nothing is decided, and the first mean is a reference, not an improvement. A
    non-finite loss is not an observation: it changes nothing but ``reason``.

    Source: Subramanian et al., arXiv 2512.14527, in the reading of its five techniques by the
    authors' announcement: warm-up and cooldown *continue* a change when the trend reverses.

    factor: in (0, 1). A cut multiplies the rate by it, a raise divides by it.
    patience: at least 0, in observations.
    window: at least 1, in observations.
    threshold: in [0, 1), as a fraction of the best loss's size; valid for losses of either sign.
    warmup: when the loss first fails to improve after a raise, go on raising for so many
        observations, that one included; 0 turns it off.
    cooldown: when the loss first improves after a cut, go on cutting for so many observations.
    min_scale, max_scale: bounds of the rate as multiples of the base rate.
    mode: "min" for losses; "max", for scores, is the exact mirror.

    >>> greedy = ThresholdGreedy(factor=0.5, patience=0, window=1)
    >>> state = greedy.init()
    >>> for loss in (4.0, 3.0, 5.0):
    ...     state = greedy.update(state, Signal(loss))
    ...     print(state.scale, state.reason)
    1.0 calibrate
    2.0 raise
    1.0 lower
    """

    factor: float = 0.95
    patience: int = 10
    window: int = 50
    threshold: float = 1e-4
    warmup: int = 0
    cooldown: int = 0
    min_scale: float = 0.1
    max_scale: float = 10.0
    mode: Mode = "min"

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_count("patience", self.patience, least=0, cure="0 acts on the first")
        check_count("window", self.window, least=1, cure="1 does not smooth")
        check_threshold(self.threshold)
        check_count("warmup", self.warmup, least=0, cure="0 turns it off")
        check_count("cooldown", self.cooldown, least=0, cure="0 turns it off")
        check_bounds(self.min_scale, self.max_scale)
        check_mode(self.mode)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> ThresholdState:
        """State before the first observation: the base rate."""
        return ThresholdState()

    def update(self, state: ThresholdState, signal: Signal) -> ThresholdState:
        """State after one more loss."""
        loss = signal.loss if self.mode == "min" else -signal.loss
        if not math.isfinite(loss):
            return state._replace(reason="ignore")
        window = windowed(state.window, loss, self.window)
        if state.best is None or len(state.window) < self.window:
            # The first full window is the reference; a partial one would be a lucky record.
            reference = mean(window) if len(window) == self.window else None
            return state._replace(reason="calibrate", best=reference, window=window)
        level = mean(window)
        improved = improves(level, state.best, self.threshold)
        best = level if improved else state.best

        left = state.left or self._continuation(state.trend, improved)
        if left:
            scale, reason = self._moved(state.scale, state.trend), _CONTINUED[state.trend]
            trend = state.trend if left > 1 else 0
            return ThresholdState(scale, reason, best, trend=trend, left=left - 1, window=window)

        good, bad = (state.good + 1, 0) if improved else (0, state.bad + 1)
        if good > self.patience:
            scale, trend = self._moved(state.scale, +1), +1 if self.warmup else 0
            return ThresholdState(scale, "raise", best, trend=trend, window=window)
        if bad > self.patience:
            scale, trend = self._moved(state.scale, -1), -1 if self.cooldown else 0
            return ThresholdState(scale, "lower", best, trend=trend, window=window)
        return ThresholdState(state.scale, "hold", best, good, bad, state.trend, 0, window)

    def _continuation(self, trend: int, improved: bool) -> int:
        """For how many observations the last move goes on, if the trend has just reversed."""
        if trend > 0 and not improved:
            return self.warmup
        if trend < 0 and improved:
            return self.cooldown
        return 0

    def _moved(self, scale: float, direction: int) -> float:
        # Bounds tightened on resume may leave the scale outside: a cut never raises it, nor the
        # other way round.
        if direction > 0:
            return float(max(scale, min(scale / self.factor, self.max_scale)))
        return float(min(scale, max(scale * self.factor, self.min_scale)))
