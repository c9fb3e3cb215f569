"""A schedule that is fed the validation loss of each evaluation, as trainers do by default."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lrpilot.schedules.checks import check_schedule
from lrpilot.schedules.protocol import Schedule, Signal


@dataclass(frozen=True, slots=True)
class OnEvaluation:
    """Update ``schedule`` with `Signal.evaluation` where there is one; hold in between.

    schedule: any schedule driven by a loss; its counts are then of evaluations, not of steps.

    >>> from lrpilot.schedules.plateau import Plateau
    >>> rule = OnEvaluation(Plateau(factor=0.5, patience=0))
    >>> state = rule.init()
    >>> for evaluation in (2.0, math.nan, math.nan, 3.0):
    ...     state = rule.update(state, Signal(loss=9.0, evaluation=evaluation))
    ...     print(state.scale, state.reason)
    1.0 hold
    1.0 hold
    1.0 hold
    0.5 lower
    """

    schedule: Schedule[Any]

    def __post_init__(self) -> None:
        check_schedule(self.schedule)

    @property
    def needs(self) -> tuple[str, ...]:
        """The evaluation alone."""
        return ("evaluation",)

    def init(self) -> Any:
        """State before the first step."""
        return self.schedule.init()

    def update(self, state: Any, signal: Signal, /) -> Any:
        """State after a step, and after the evaluation that may have followed it."""
        if math.isnan(signal.evaluation):
            return state
        return self.schedule.update(state, Signal(signal.evaluation))
