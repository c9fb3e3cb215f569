"""Reduce on plateau: lower the rate when the loss has stopped improving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot.schedules.checks import (
    Mode,
    check_count,
    check_factor,
    check_mode,
    check_share,
    check_threshold,
)
from lrpilot.schedules.evidence import improves, mean, windowed
from lrpilot.schedules.protocol import Signal


class PlateauState(NamedTuple):
    """What reduce-on-plateau remembers between two observations."""

    scale: float = 1.0
    reason: str = "start"
    best: float | None = None
    bad: int = 0  # failures to improve in a row
    frozen: int = 0  # observations for which failures do not count yet
    window: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """Multiply the rate by ``factor`` after ``patience + 1`` failures to improve in a row.

    With ``window=1`` this is ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with
    ``threshold_mode="rel"``, ``eps=0`` and ``min_lr = min_scale * lr``, for positive losses. It
    differs where torch errs: the threshold is valid for losses of either sign, a non-finite loss
    is ignored instead of counted, and the floor is relative to the base rate.

    factor: in (0, 1).
    patience: at least 0, in observations.
    threshold: in [0, 1), as a fraction of the best loss's size.
    cooldown: observations after a cut during which failures do not count.
    min_scale: lowest rate as a multiple of the base rate, in (0, 1].
    window: the loss is smoothed by the mean of the last ``window`` observations.
    mode: "min" for losses; "max", for scores, is the exact mirror.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_scale: float = 1e-4
    window: int = 1
    mode: Mode = "min"

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_count("patience", self.patience, least=0, cure="0 acts on the first")
        check_threshold(self.threshold)
        check_count("cooldown", self.cooldown, least=0, cure="0 turns it off")
        check_share("min_scale", self.min_scale, open_below=True)
        check_count("window", self.window, least=1, cure="1 does not smooth")
        check_mode(self.mode)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> PlateauState:
        """State before the first observation: the base rate."""
        return PlateauState()

    def update(self, state: PlateauState, signal: Signal) -> PlateauState:
        """State after one more loss."""
        loss = signal.loss if self.mode == "min" else -signal.loss
        if not math.isfinite(loss):
            return state._replace(reason="ignore")
        window = windowed(state.window, loss, self.window)
        level = mean(window)
        frozen = max(state.frozen - 1, 0)
        if state.best is None or improves(level, state.best, self.threshold):
            return state._replace(reason="hold", best=level, bad=0, frozen=frozen, window=window)
        bad = 0 if state.frozen else state.bad + 1
        if bad <= self.patience:
            return state._replace(reason="hold", bad=bad, frozen=frozen, window=window)
        scale = float(max(state.scale * self.factor, self.min_scale))
        return state._replace(
            scale=scale, reason="lower", bad=0, frozen=self.cooldown, window=window
        )
