"""Phases that follow each other: warm-up, any schedule, cooldown; a horizon and a cap over them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

from lrpilot.schedules.checks import check_number
from lrpilot.schedules.durations import (
    Amount,
    Duration,
    Unit,
    amount_or_share,
    consumed,
    field_of,
    horizon,
)
from lrpilot.schedules.openloop import Linear, Shape
from lrpilot.schedules.protocol import Schedule, Signal
from lrpilot.schedules.spans import (
    Fall,
    Phase,
    PhaseState,
    Rise,
    Span,
    check_complete,
    following,
    is_schedule,
    spans_of,
)

Cap = Callable[[int], float]
"""Maps an optimizer step, counted from 0, to the largest scale allowed there."""


def warmup(lasts: Duration, start_scale: float = 0.01, shape: Shape | None = None) -> Phases:
    """Rise from ``start_scale`` to 1 times the scale that the next phase starts at.

    lasts: steps (a whole number), a share of the horizon (a float below 1), or an amount such as
        ``tokens(1e9)``; 0 leaves the warm-up out.
    shape: a decay from 1 to 0, run backwards; linear if None.
    """
    return Phases((Phase(Rise(start_scale, shape or Linear()), amount_or_share(lasts)),))


def cooldown(lasts: Duration, shape: Shape | None = None, end_scale: float = 0.0) -> Phases:
    """Fall from the scale at hand to ``end_scale`` times it.

    lasts: as in `warmup`.
    shape: a decay from 1 to 0; linear if None, ``lambda u: 1 - u**0.5`` is 1-sqrt.
    """
    return Phases((Phase(Fall(end_scale, shape or Linear()), amount_or_share(lasts)),))


def phase(content: Schedule[Any] | Shape, lasts: Duration | None = None) -> Phases:
    """Follow a schedule, or a shape over its own progress, for so long.

    lasts: as in `warmup`; None is open-ended: what the horizon leaves, or until `cool_down`.
    """
    if isinstance(content, type) or not (is_schedule(content) or callable(content)):
        raise TypeError(
            f"a phase follows a schedule such as Greedy() or a shape such as Cosine(), "
            f"got {content!r}"
        )
    return Phases((Phase(content, None if lasts is None else amount_or_share(lasts)),))


def capped(schedule: Schedule[Any] | Shape, cap: Cap) -> Phases:
    """The schedule, never above ``cap``; see `Phases.capped`."""
    return (schedule if isinstance(schedule, Phases) else phase(schedule)).capped(cap)


class PhasesState(NamedTuple):
    """Where phases stand; those over keep their state, for a return to them."""

    scale: float
    reason: str
    step: int  # optimizer steps taken
    elapsed: float  # how much of the horizon has been taken, in its unit; in steps without one
    phase: int  # that of the coming step, counted from 0
    phases: tuple[PhaseState, ...]


@dataclass(frozen=True, slots=True)
class Phases:
    """Schedules that follow each other: ``warmup(500) >> Greedy() >> cooldown(0.2)``.

    The scale is the phase's own times a level, at first 1. After a warm-up or a cooldown the level
    is what it was before; after any other phase it is the scale at which that phase ended, so that
    the rate is continuous (and stays 0 after a phase that ended at 0). A phase's schedule starts
    fresh and sees the signals of its own steps alone. A phase of ``d`` steps has progress ``k / d``
    at its step ``k``, counted from 0. A bound that falls within a step, such as one in tokens, is
    kept: the next phase then starts with what the step consumed beyond it. After the last phase
    its final scale holds.

    One phase may be open-ended: a bare schedule or shape is. It ends when what is left of the
    horizon is the length of the phases after it.

    total: the horizon, which `over` sets.
    cap: what `capped` sets.

    >>> from lrpilot.schedules import Constant
    >>> plan = (warmup(2, start_scale=0.5) >> Constant() >> cooldown(0.5)).over(8)
    >>> state, scales = plan.init(), []
    >>> for _ in range(9):
    ...     scales.append(state.scale)
    ...     state = plan.update(state, Signal())
    >>> scales
    [0.5, 0.75, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    """

    phases: tuple[Phase, ...]
    total: Amount | None = None
    cap: Cap | None = None

    # Worked out once; not settings.
    needs: tuple[str, ...] = field(init=False, repr=False, compare=False)
    consumes: int | None = field(init=False, repr=False, compare=False)  # of the horizon; see Span
    spans: tuple[Span, ...] = field(init=False, repr=False, compare=False)  # (): no horizon yet

    def __post_init__(self) -> None:
        if sum(one.lasts is None for one in self.phases) > 1:
            raise ValueError(
                "two phases are open-ended, so nobody can tell where the first ends; give all but "
                "one a length: phase(schedule, 1000) or phase(schedule, 0.5)"
            )
        unit: Unit = "steps" if self.total is None else self.total.unit
        object.__setattr__(self, "needs", _needs(self.phases, unit))
        object.__setattr__(self, "consumes", field_of(unit))
        object.__setattr__(self, "spans", spans_of(self.phases, self.total))

    def __rshift__(self, after: Phases | Schedule[Any] | Shape) -> Phases:
        """These phases, then ``after``; a horizon or a cap of either is one of the whole."""
        return _joined(self, after if isinstance(after, Phases) else phase(after))

    def __rrshift__(self, before: Schedule[Any] | Shape) -> Phases:
        """The schedule ``before``, then these phases."""
        return _joined(phase(before), self)

    def over(self, total: int | Amount) -> Self:
        """The same phases over a horizon: ``total`` steps, or an amount such as ``tokens(1e9)``."""
        return replace(self, total=horizon(total))

    def capped(self, cap: Cap) -> Self:
        """The same phases, the scale at optimizer step ``t`` at most ``cap(t)``.

        Steps count from 0. A cap that bounds the rate itself is ``lambda t: lr_cap(t) / base_lr``.
        A loss-driven schedule goes on from the lowered scale, so it does not climb above the cap
        unseen; only a cap of 0 leaves it where it was.
        """
        if not callable(cap):  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError(
                f"a cap is a function of the optimizer step, got {cap!r}; for one that never "
                f"changes write lambda step: {cap!r}"
            )
        if self.cap is not None:
            raise ValueError("there is a cap already; write one cap that is the lower of the two")
        return replace(self, cap=cap)

    def init(self) -> PhasesState:
        """State before the first step.

        Raises ValueError if a horizon is needed and missing, or is there and not filled.
        """
        check_complete(self.phases, self.total)
        at = following(-1, self.spans) or 0
        phases = tuple(PhaseState(inner=span.init()) for span in self.spans)
        return self.standing(0, 0.0, at, swapped(phases, at, phases[at]._replace(began=0.0)))

    def update(self, state: PhasesState, signal: Signal) -> PhasesState:
        """State after one more step, which its phase alone sees."""
        _, _, step, elapsed, at, phases = state
        span = self.spans[at]
        level, began, spent, inner = phases[at]
        over = span.following is None and (elapsed if span.is_open else spent) >= span.end
        step += 1
        elapsed += 1.0 if self.consumes is None else consumed(signal, self.consumes)
        spent += 1.0 if span.consumes is None else consumed(signal, span.consumes)
        if span.schedule is not None and not over:
            inner = span.schedule.update(inner, signal)
        # By position, since the named constructors would double the cost of a step.
        now = tuple.__new__(PhaseState, (level, began, spent, inner))
        phases = (*phases[:at], now, *phases[at + 1 :])
        if over:
            return self.standing(step, elapsed, at, phases, held=True)
        ends = (elapsed if span.is_open else spent) >= span.end
        if ends or inner is None or self.cap is not None:
            return self.standing(step, elapsed, *self.moved_on(step, elapsed, at, phases))
        return tuple.__new__(
            PhasesState, (level * inner.scale, inner.reason, step, elapsed, at, phases)
        )

    def moved_on(
        self, step: int, elapsed: float, at: int, phases: tuple[PhaseState, ...]
    ) -> tuple[int, tuple[PhaseState, ...]]:
        """The phase of the coming step, ``at`` or a later one if that is over, and all states.

        What was consumed beyond a phase counts for the next one, where their units agree.
        """
        span, one = self.spans[at], phases[at]
        while span.following is not None and span.is_over(elapsed, one.spent):
            beyond = max((elapsed if span.is_open else one.spent) - span.amount, 0.0)
            began = elapsed - beyond if span.consumes == self.consumes else elapsed
            level, limit = span.handed_on(one), self._limit(step)
            if 0 < limit < level:
                level = limit
            at, before = span.following, span
            span = self.spans[at]
            spent = beyond if span.consumes == before.consumes else 0.0
            one = PhaseState(level, began, spent, span.init())
            phases = swapped(phases, at, one)
        return at, phases

    def standing(
        self,
        step: int,
        elapsed: float,
        at: int,
        phases: tuple[PhaseState, ...],
        held: bool = False,
    ) -> PhasesState:
        """The state with its scale and reason, given the phase of the coming step.

        held: the phase is over, and so is the plan.
        """
        one = phases[at]
        scale = one.level * self.spans[at].own_scale(elapsed, one)
        reason = "plan" if held or one.inner is None else one.inner.reason
        limit = self._limit(step)
        if scale > limit:
            scale, reason = limit, "cap"
            if one.inner is not None and limit > 0:
                lowered = one.inner._replace(scale=limit / one.level)
                phases = swapped(phases, at, one._replace(inner=lowered))
        return PhasesState(scale, reason, step, elapsed, at, phases)

    def _limit(self, step: int) -> float:
        if self.cap is None:
            return math.inf
        limit = self.cap(step)
        check_number(f"the cap at step {step}", limit)
        if not 0 <= limit < math.inf:
            raise ValueError(f"the cap at step {step} must be at least 0 and finite, got {limit}")
        return float(limit)


def swapped(phases: tuple[PhaseState, ...], at: int, one: PhaseState) -> tuple[PhaseState, ...]:
    """``phases`` with that at ``at`` replaced."""
    return (*phases[:at], one, *phases[at + 1 :])


def _joined(before: Phases, after: Phases) -> Phases:
    for name in ("total", "cap"):
        if getattr(before, name) is not None and getattr(after, name) is not None:
            raise ValueError(
                f"both sides of >> have a {name}, and it is one of the whole; "
                f"set it once, on the whole: (... >> ...).{'over' if name == 'total' else 'capped'}"
            )
    return Phases(
        before.phases + after.phases, before.total or after.total, before.cap or after.cap
    )


def _needs(phases: tuple[Phase, ...], unit: Unit) -> tuple[str, ...]:
    """What the schedules need and the units that lengths are counted in, in `Signal`'s order."""
    needs = {unit, *(one.lasts.unit for one in phases if isinstance(one.lasts, Amount))} - {"steps"}
    needs.update(name for one in phases for name in one.needs)
    return tuple(sorted(needs, key=Signal._fields.index))
