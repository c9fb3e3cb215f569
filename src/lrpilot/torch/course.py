"""A schedule under way: its state, and how many optimizer steps it has seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

from lrpilot.schedules import Schedule, Signal
from lrpilot.schedules.checks import check_schedule
from lrpilot.schedules.protocol import Calm


class Course:
    """A schedule under way.

    Losses that cannot move the rate (`lrpilot.schedules.protocol.Calm`) may be held instead of
    observed: appended to ``held`` if they lie between ``low`` and ``high`` and ``room`` is left.
    They are taken in together when somebody looks, so nobody sees a difference.
    """

    def __init__(self, schedule: Schedule[Any]) -> None:
        check_schedule(schedule)
        self.schedule = schedule
        self.calm = cast("Callable[[Any], Calm] | None", getattr(schedule, "calm", None))
        self.held: list[float] = []
        self.room, self.low, self.high = 0, math.inf, math.inf
        self._update = schedule.update
        self._state: Any = schedule.init()
        self.has_phases = _tells_phase(self._state)
        self._steps = 0

    @property
    def state(self) -> Any:
        """The schedule's named tuple."""
        if self.held:
            self._take_in()
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self.held, self.low = [], math.inf
        self._state = state

    @property
    def steps(self) -> int:
        """Optimizer steps that the schedule has seen."""
        return self._steps + len(self.held)

    @steps.setter
    def steps(self, steps: int) -> None:
        if self.held:
            self._take_in()
        self._steps = steps

    def advance(self, signal: Signal) -> tuple[Any, Any]:
        """Observe one optimizer step; return the states before and after."""
        if self.held:
            self._take_in()
        before = self._state
        self._state = after = self._update(before, signal)
        self._steps += 1
        self.low = math.inf
        return before, after

    def look_ahead(self) -> None:
        """Say which of the coming losses may be held."""
        if self.calm is not None:
            self.room, low, self.high = self.calm(self._state)
            self.low = low if self.room > 0 else math.inf

    def _take_in(self) -> None:
        held, self.held, self.low = self.held, [], math.inf
        self._state = cast("Any", self.schedule).absorb(self._state, held)
        self._steps += len(held)


def _tells_phase(state: object) -> bool:
    """Whether a state says which phase it is in, itself or through one inside it."""
    while state is not None:
        if hasattr(state, "phase"):
            return True
        state = getattr(state, "inner", None)
    return False
