"""The contract: a schedule is a frozen settings object and two pure functions over a tuple."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol, TypeVar


class Signal(NamedTuple):
    """What one optimizer step showed, and how much of each unit of a horizon it consumed."""

    loss: float = math.nan
    """Training loss of the step, before its update; NaN if nobody measured it."""
    epochs: float = 0.0
    tokens: float = 0.0
    samples: float = 0.0
    seconds: float = 0.0
    evaluation: float = math.nan
    """Validation loss measured after the step; NaN at the many steps that have none."""
    alignment: float = math.nan
    """How far this step's gradient g agrees with the gᵢ since the last decision, in [-1, 1]:
    ⟨g, G⟩ / (‖g‖ Σ‖gᵢ‖) with their sum G; NaN if nobody measured it. Its mean is the share of a
    minibatch's gradient that is not noise, where steps are small, and below 0 where they
    overshoot."""
    persistence: float = math.nan
    """⟨g, A⟩ / ‖A‖² of this step's gradient g and the mean gradient A between the last two
    decisions; NaN if nobody measured it. Its mean is 1 where gradients point where they pointed, as
    they do if the rate is too low, 0 where only noise is left, and below 0 where they turn back."""
    movement: float = math.nan
    """‖w − wₐ‖ / ‖w‖ of the weights w after this step and wₐ after the one that decided last;
    NaN if nobody measured it, as with the two below."""
    travel: float = math.nan
    """‖w − w₀‖ / ‖w₀‖, w₀ the weights before the first step."""
    evenness: float = math.nan
    """‖w − wₐ‖₁ / (√n ‖w − wₐ‖₂) for n weights, in (0, 1]: near 1 where each moves as far as the
    others, as under Adam, and small where a few do all, as under plain SGD."""


class State(Protocol):
    """All that a schedule remembers, and all that a checkpoint needs; holds no settings.

    A named tuple of numbers, strings, None and tuples of these, none of them NaN or infinite, so
    that it is strict JSON.
    """

    @property
    def scale(self) -> float:
        """Multiplies the base learning rate of every parameter group."""
        ...

    @property
    def reason(self) -> str:
        """Why ``scale`` is what it is: a short code that a log, a plot and a replay can read."""
        ...


StateT = TypeVar("StateT", bound=State)


class Schedule(Protocol[StateT]):
    """What the rate should be, from what the training shows.

    ``init().scale`` holds for the first optimizer step. The state that ``update`` returns after
    step ``t`` holds for step ``t + 1``.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Signal` that ``update`` reads; collecting more than these is waste."""
        ...

    def init(self) -> StateT:
        """State before the first optimizer step."""
        ...

    def update(self, state: StateT, signal: Signal, /) -> StateT:
        """State after an optimizer step that showed ``signal``."""
        ...


def decisions_of(state: object) -> int:
    """How many decisions a state tells of, its own and those of the schedules inside it.

    A schedule that needs what a `Signal` compares with the last decision has ``decisions`` in its
    state.
    """
    parts = getattr(state, "phases", None) or (getattr(state, "inner", None),)
    inside = sum(decisions_of(part) for part in parts if part is not None)
    return getattr(state, "decisions", 0) + inside


class Calm(NamedTuple):
    """Losses that cannot move the rate: the next ``room``, each above ``low`` and below ``high``.

    A schedule may have ``calm(state) -> Calm`` and ``absorb(state, losses) -> State``, which takes
    in such losses together and equals as many updates. An adapter then need not update at each
    step: most losses only enter a sum.
    """

    room: int
    low: float
    high: float
