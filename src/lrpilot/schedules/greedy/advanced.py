"""AdvancedGreedyLR, the variant of the paper's robustness study, faults included."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot.schedules.greedy.released import (
    RunningMean,
    check_moves,
    check_rates,
    level,
    observed,
    record,
    recorded,
)
from lrpilot.schedules.protocol import Signal


class AdvancedState(NamedTuple):
    """What AdvancedGreedyLR remembers between two observations."""

    scale: float
    reason: str = "start"
    best: float | None = None  # lowest level seen
    unbeatable: int = 0  # 1 if that level lies below the floats
    good: int = 0  # improvements in a row
    bad: int = 0  # failures to improve in a row, less those forgiven
    cooldown: int = 0  # observations whose failures do not count yet
    warmup: int = 0  # observations whose improvements do not count yet
    records: int = 0  # improvements since the last multiple of 50 observations
    seen: int = 0  # observations
    recent: tuple[float, ...] = ()  # the last ten losses, oldest first
    window: RunningMean = RunningMean()


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced:
    """Algorithm 2 with a margin from the losses' spread, and hold counters of its own.

    Source: ``AdvancedGreedyLR`` of the paper's robustness study (arXiv 2512.14527, A.6), in
    amazon-science/aws-research-science; the defaults are the study's, which ran ``patience`` 1 as
    well. The margin is a tenth of the standard deviation of the last ten losses, and 1e-6 at
    least. After a move, observations of the same kind do not count for ``patience // 3``, at least
    three, observations. There is no reset, no eps and no mode "max".

    factor: in (0, 1). A cut multiplies the rate by it, a raise by its reciprocal.
    window: the level is the running mean of so many losses; 0 takes the loss itself.
    spike: forgive two failures when a loss exceeds twice the mean of the last five.
    adaptive: halve ``patience`` (to 5 at least) after more than ten improvements within a block of
        50 observations, double it (to 30 at most) below three.

    Known faults: those of Algorithm 2's absolute threshold; of negative losses, all but the very
    lowest are spikes; a cut lifts a rate below ``min_scale`` up to it, and a raise drops one above
    ``max_scale`` down to it. Its "momentum" is always 0 and left out.
    """

    factor: float = 0.9
    patience: int = 10
    window: int = 10
    spike: bool = True
    adaptive: bool = False
    min_scale: float = 1e-5
    max_scale: float = 1.0
    start_scale: float = 1.0

    def __post_init__(self) -> None:
        check_moves(self.factor, self.patience, self.window)
        check_rates(self.start_scale, self.min_scale, self.max_scale)
        for name in ("spike", "adaptive"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> AdvancedState:
        """State before the first observation."""
        return AdvancedState(float(self.start_scale))

    def update(self, state: AdvancedState, signal: Signal) -> AdvancedState:
        """State after one more loss."""
        loss = signal.loss
        if not math.isfinite(loss):
            return state._replace(reason="ignore")
        scale, _, best, unbeatable, good, bad, cool, warm, records, seen, recent, window = state
        recent, seen = (*recent[-9:], loss), seen + 1
        if self.spike and seen > 5 and _spikes(recent):
            bad = max(0, bad - 2)
        if self.window:
            window = observed(window, loss, self.window)
            loss = level(window)
        if loss < recorded(best, unbeatable) - _margin(recent, seen):
            best, unbeatable = record(loss)
            good, bad, records = good + 1, 0, records + 1
        else:
            good, bad = 0, bad + 1
        patience = self._patience(records)
        if seen % 50 == 0:
            records = 0
        if cool:
            cool, bad = cool - 1, 0
        if warm:
            warm, good = warm - 1, 0
        reason = "hold"
        if bad > patience:
            scale, reason = float(max(scale * self.factor, self.min_scale)), "lower"
            cool, bad = max(3, patience // 3), 0
        elif good > patience:
            scale, reason = float(min(scale * (1 / self.factor), self.max_scale)), "raise"
            warm, good = max(3, patience // 3), 0
        return AdvancedState(
            scale, reason, best, unbeatable, good, bad, cool, warm, records, seen, recent, window
        )

    def _patience(self, records: int) -> int:
        if not self.adaptive or 3 <= records <= 10:
            return self.patience
        return max(5, self.patience // 2) if records > 10 else min(30, 2 * self.patience)


def _spikes(recent: tuple[float, ...]) -> bool:
    """Whether the last loss exceeds twice the mean of the last five, itself included."""
    a, b, c, d, last = recent[-5:]
    return last > 2 * ((a + b + c + d + last) / 5)


def _margin(recent: tuple[float, ...], seen: int) -> float:
    """A tenth of the standard deviation of the last ten losses, once there are more than ten."""
    if seen <= 10:
        return 1e-6
    mean = _sum_of_ten(*recent) / 10
    squares = [(loss - mean) * (loss - mean) for loss in recent]
    return max(1e-6, 0.1 * math.sqrt(_sum_of_ten(*squares) / 10))


def _sum_of_ten(*x: float) -> float:
    """The sum in NumPy's order of additions, which decides the last bit."""
    return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7])) + x[8] + x[9]
