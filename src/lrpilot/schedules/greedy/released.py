"""What the released GreedyLR codes share: running mean, comparison, moves, and checks of settings.

The mean keeps a sum, adds the new value and subtracts the oldest. The rounding error of every value
stays in it, and a sum that has once left the floats never comes back. Both decide rates, so both
are reproduced; `lrpilot.schedules.evidence.mean` is the mean without these faults.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from lrpilot.schedules.checks import Mode, check_count, check_factor, check_number, check_threshold

ThresholdMode = Literal["relative", "absolute"]


class RunningMean(NamedTuple):
    """The last values, oldest first, and their running sum."""

    values: tuple[float, ...] = ()
    total: float = 0.0
    overflow: int = 0  # sign of the sum once it has left the floats; nothing else counts then


def observed(mean: RunningMean, value: float, size: int) -> RunningMean:
    """The running mean of the last ``size`` values once ``value`` has been seen."""
    values, total, overflow = mean
    if overflow:
        return mean
    values = (*values, value)
    total += value
    if len(values) > size:
        for old in values[:-size]:
            total -= old
        values = values[-size:]
    if math.isinf(total):
        return RunningMean((), 0.0, 1 if total > 0 else -1)
    return RunningMean(values, total, 0)


def level(mean: RunningMean) -> float:
    """The mean of at least one value; infinite if their sum has overflowed."""
    return mean.overflow * math.inf if mean.overflow else mean.total / len(mean.values)


def record(best: float) -> tuple[float | None, int]:
    """A best level as a state writes it, since strict JSON has no infinity.

    >>> record(2.0), record(-math.inf)
    ((2.0, 0), (None, 1))
    """
    return (None, 1) if best == -math.inf else (best, 0)


def recorded(best: float | None, unbeatable: int) -> float:
    """The best level that `record` wrote; plus infinity before the first."""
    if best is None:
        return -math.inf if unbeatable else math.inf
    return best


def passes(
    level: float, best: float, threshold: float, threshold_mode: ThresholdMode, mode: Mode
) -> bool:
    """Whether ``level`` lies below ``best`` by more than the threshold; negated in mode "max".

    The relative threshold is a share of the signed best, hence negative for a negative loss. In
    mode "max" it is no mirror: a lowest loss is scaled by ``1 - threshold``, a highest score by
    ``1 + threshold``.
    """
    if threshold_mode == "absolute":
        return level < best - threshold
    return level < best * (1 - threshold if mode == "min" else 1 + threshold)


def raised(scale: float, factor: float, max_scale: float, eps: float) -> float:
    """The scale after a raise, which is not made if it changes the scale by ``eps`` or less."""
    moved = float(min(scale / factor, max_scale))
    return moved if moved - scale > eps else scale


def lowered(scale: float, factor: float, min_scale: float, eps: float) -> float:
    """The scale after a cut, which is not made if it changes the scale by ``eps`` or less."""
    moved = float(max(scale * factor, min_scale))
    return moved if scale - moved > eps else scale


def check_moves(factor: float, patience: int, window: int) -> None:
    """Settings that say how far and how soon the rate moves."""
    check_factor(factor)
    check_count("patience", patience, least=0, cure="0 acts on the first")
    check_count("window", window, least=0, cure="0 does not smooth")


def check_comparison(threshold: float, threshold_mode: str) -> None:
    """A threshold is a share of the best level or a difference from it."""
    if threshold_mode not in ("relative", "absolute"):
        raise ValueError(f'threshold_mode must be "relative" or "absolute", got {threshold_mode!r}')
    if threshold_mode == "relative":
        check_threshold(threshold)
    else:
        check_difference("threshold", threshold, "it is in the unit of the loss")


def check_stages(warmup: int, cooldown: int, eps: float, reset_after: int | None) -> None:
    """Settings that say which moves are not made, and when all is forgotten."""
    check_count("warmup", warmup, least=0, cure="0 turns it off")
    check_count("cooldown", cooldown, least=0, cure="0 turns it off")
    check_difference("eps", eps, "it is a difference of two rates, and 0 makes every move")
    if reset_after is not None:
        check_count("reset_after", reset_after, least=1, cure="None turns it off")


def check_rates(start_scale: float, min_scale: float, max_scale: float) -> None:
    """Start and bounds are rates over base rate 1; the start may lie outside the bounds."""
    check_rate("start_scale", start_scale)
    check_rate("min_scale", min_scale)
    check_rate("max_scale", max_scale)
    if min_scale > max_scale:
        raise ValueError(
            f"min_scale ({min_scale:g}) is above max_scale ({max_scale:g}); "
            f"lower min_scale or raise max_scale"
        )


def check_rate(name: str, rate: float) -> None:
    """A rate is positive and finite."""
    check_number(name, rate)
    if not 0 < rate < math.inf:
        raise ValueError(
            f"{name} must be positive and finite, got {rate}; "
            f"over base rate 1 it is a learning rate, such as 1e-3"
        )


def check_difference(name: str, value: float, meaning: str) -> None:
    """A least difference is not negative."""
    check_number(name, value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and at least 0, got {value}; {meaning}")
