"""A horizon that changes while training, and a cooldown that begins when somebody asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from lrpilot.schedules.durations import (
    TOLERANCE,
    Amount,
    Duration,
    Unit,
    fixed,
    horizon,
)
from lrpilot.schedules.guard import Guard, GuardState
from lrpilot.schedules.openloop import WSD, Constant, OpenLoop, OpenLoopState, Shape
from lrpilot.schedules.phases import Phases, PhasesState, cooldown, phase, swapped, warmup
from lrpilot.schedules.protocol import Schedule, State
from lrpilot.schedules.spans import Fall, Phase, PhaseState, wants_horizon

How = Literal["stretch", "keep", "recool"]


@runtime_checkable
class Stretches(Protocol):
    """A schedule with a horizon of its own, of which it is one curve, as a policy's is."""

    @property
    def total_steps(self) -> int | None:
        """The horizon, in optimizer steps."""
        ...

    def stretched(self, state: Any, total_steps: int) -> tuple[Schedule[Any], State]:
        """The same over another horizon, and the state in it."""
        ...


def extend(
    schedule: Schedule[Any], state: State, total: int | Amount, how: How
) -> tuple[Schedule[Any], State]:
    """The schedule over the new horizon ``total``, and the state in it, from the next step on.

    total: the whole horizon, what has elapsed included, in the old one's unit.
    how: "stretch": as if the new horizon had been there from the start: shares and progress are of
        it, a cooldown under way may lie in the future again, and a schedule that is returned to
        goes on from the state it had.
        "keep": what was planned keeps its length in steps (or in its unit), and the open-ended
        phase gets the added time; if it is over, the rest goes on as planned, then holds.
        "recool": as "keep", but if the open-ended phase is over, it is returned to, at the scale
        and with the state it had, and what follows it comes anew at the end of the new horizon.

    Raises ValueError if the schedule has no horizon, or if the new one is too short for what has
    elapsed or is planned. `OpenLoop` stretches; one over a `WSD` becomes phases for the other two.
    `Learned` stretches, and its policy keeps what it saw and decided.
    """
    if how not in get_args(How):
        raise ValueError(f'how must be "stretch", "keep" or "recool", got {how!r}')
    if isinstance(schedule, Guard) and isinstance(state, GuardState):
        return _guarded(schedule, state, *extend(schedule.schedule, state.inner, total, how))
    goal = horizon(total)
    if isinstance(schedule, OpenLoop) and isinstance(state, OpenLoopState):
        _check_elapsed(state.step, "steps", goal)
        if how == "stretch":
            longer = OpenLoop(schedule.shape, int(goal.count))
            return longer, OpenLoopState(longer.scale_at(state.step), step=state.step)
        schedule, state = _in_phases(schedule, state.step, how)
    if isinstance(schedule, Stretches) and schedule.total_steps is not None:
        return _one_curve(schedule, state, goal, how)
    if not isinstance(schedule, Phases) or not isinstance(state, PhasesState):
        raise ValueError(
            f"{type(schedule).__name__} has no horizon to extend; phases have one, such as "
            f"(warmup(500) >> Greedy() >> cooldown(0.2)).over(10_000)"
        )
    _check_elapsed(state.elapsed, "steps" if schedule.total is None else schedule.total.unit, goal)
    if how == "stretch":
        return _stretched(schedule, state, goal)
    return _kept(schedule, state, goal, recool=how == "recool")


def cool_down(
    schedule: Schedule[Any],
    state: State,
    lasts: Duration | None = None,
    shape: Shape | None = None,
    end_scale: float | None = None,
) -> tuple[Schedule[Any], State]:
    """The schedule with a cooldown that begins with the next step, and the state in it.

    If the last phase is a cooldown that has not begun, it begins now; what is None is as planned.
    Otherwise a cooldown follows, and ``lasts`` must be given. What returns is, and may be written
    in code for a resume as, the same phases without a horizon (shares being amounts), such as
    ``warmup(500) >> Greedy() >> cooldown(200)``; of any other schedule it is
    ``schedule >> cooldown(200)``, whose steps count from here. A cooldown branched from a
    checkpoint leaves that checkpoint as it was. A `Guard` stays outermost.

    Raises ValueError if the cooldown is under way.
    """
    if isinstance(schedule, Guard) and isinstance(state, GuardState):
        plan = cool_down(schedule.schedule, state.inner, lasts, shape, end_scale)
        return _guarded(schedule, state, *plan)
    if not isinstance(schedule, Phases) or not isinstance(state, PhasesState):
        plan = phase(schedule) >> _cooldown(None, lasts, shape, end_scale, None)
        past = (PhaseState(began=0.0, inner=state),)
        return plan, _cooling(plan, 0, 0.0, past, state.scale)
    phases = _without_horizon(schedule, state)
    planned = phases[-1].content if isinstance(phases[-1].content, Fall) else None
    if planned is not None and state.phase == len(phases) - 1:
        raise ValueError(
            "the cooldown has begun already; to cool down anew, start from a state before it"
        )
    if planned is not None:
        lasts = phases[-1].lasts if lasts is None else lasts
        phases = phases[:-1]
    last = _cooldown(planned, lasts, shape, end_scale, schedule.total)
    plan = Phases(phases + last.phases, cap=schedule.cap)
    elapsed, past = state.elapsed, state.phases[: len(phases)]
    if schedule.consumes is not None:  # steps are counted from here on, so the past has no place
        elapsed = float(state.step)
        past = tuple(one._replace(began=-1.0) for one in past)
    return plan, _cooling(plan, state.step, elapsed, past, state.scale)


def _guarded(
    guard: Guard, state: GuardState, schedule: Schedule[Any], inner: State
) -> tuple[Guard, GuardState]:
    """The guard, as it stands, over what its schedule has become."""
    scale = inner.scale * state.brake
    return replace(guard, schedule=schedule), state._replace(scale=scale, inner=inner)


def _one_curve(
    schedule: Stretches, state: Any, goal: Amount, how: How
) -> tuple[Schedule[Any], State]:
    if how != "stretch":
        raise ValueError(
            f"{schedule!r} is one curve over its horizon, without a part that could take the added "
            f'time as how="{how}" asks; use "stretch", or leave its horizon open and have phases, '
            f"such as (phase(...) >> cooldown(0.2)).over(10_000)"
        )
    _check_elapsed(state.step, "steps", goal)
    return schedule.stretched(state, int(goal.count))


def _stretched(schedule: Phases, state: PhasesState, goal: Amount) -> tuple[Phases, PhasesState]:
    plan = schedule.over(goal)
    at, began = _place(plan, state)
    one = state.phases[at]
    is_counted = plan.spans[at].consumes == plan.consumes
    spent = state.elapsed - began if is_counted else one.spent
    one = one._replace(began=began, spent=spent)
    return plan, _returned(plan, state, at, (*state.phases[:at], one))


def _place(plan: Phases, state: PhasesState) -> tuple[int, float]:
    """Which of the phases that have begun is the present one in ``plan``, and when it began there.

    A later one may follow from it; see `Phases.moved_on`. Of a phase in another unit than the
    horizon's we know only when it was, so it must not have to be moved.
    """
    begun = [at for at, one in enumerate(state.phases) if one.began >= 0 and at <= state.phase]
    begins = 0.0
    for at, later in zip(begun, [*begun[1:], None], strict=True):
        span, was = plan.spans[at], state.phases[at].began
        is_counted = span.consumes == plan.consumes
        if not is_counted and abs(was - begins) > TOLERANCE * state.elapsed:
            break
        if later is None or span.following != later:
            return at, begins
        ends = max(span.amount, begins) if span.is_open else begins + span.amount
        ends = ends if is_counted else state.phases[later].began
        if state.elapsed < ends * (1 - TOLERANCE):
            return at, begins
        begins = ends
    raise ValueError(
        'how="stretch" would move a phase whose length is in another unit than the horizon, and '
        'where it would have been is not known; use how="keep"'
    )


def _kept(
    schedule: Phases, state: PhasesState, goal: Amount, *, recool: bool
) -> tuple[Phases, PhasesState]:
    plan = replace(schedule, phases=_fixed(schedule), total=goal)
    open_at = next((at for at, span in enumerate(plan.spans) if span.is_open), None)
    if open_at is None:
        raise ValueError(
            "no phase is open-ended, so none can take the added time; leave out the length of one, "
            "as in warmup(500) >> Greedy() >> cooldown(0.2)"
        )
    at = state.phase
    if at > open_at:
        if not recool:
            return plan, plan.standing(state.step, state.elapsed, at, state.phases)
        begun = [at for at in range(open_at + 1) if state.phases[at].began >= 0]
        if not begun:
            raise ValueError(
                "where the cooldown was begun is not known in the new unit; extend the state it "
                "was branched from"
            )
        at = begun[-1]
    close = plan.spans[open_at].amount
    if state.elapsed * (1 - TOLERANCE) > close:
        raise ValueError(
            f"what follows the open-ended phase lasts {goal.count - close:g} {goal.unit}, and the "
            f"new horizon leaves {goal.count - state.elapsed:g}; lengthen it, or use "
            f'how="stretch"'
        )
    return plan, _returned(plan, state, at, state.phases[: at + 1])


def _returned(
    plan: Phases, state: PhasesState, at: int, past: tuple[PhaseState, ...]
) -> PhasesState:
    """The state in phase ``at``, or in what follows it, all later phases being fresh."""
    phases = (*past, *plan.init().phases[at + 1 :])
    return plan.standing(
        state.step, state.elapsed, *plan.moved_on(state.step, state.elapsed, at, phases)
    )


def _fixed(schedule: Phases) -> tuple[Phase, ...]:
    """The phases with amounts for shares."""
    return tuple(
        replace(one, lasts=None if one.lasts is None else fixed(one.lasts, schedule.total))
        for one in schedule.phases
    )


def _without_horizon(schedule: Phases, state: PhasesState) -> tuple[Phase, ...]:
    """The phases with amounts for shares, and for a curve over what the horizon leaves."""
    phases = list(_fixed(schedule))
    for at, one in enumerate(phases):
        if schedule.total is not None and wants_horizon(one):
            began = state.phases[at].began
            left = schedule.spans[at].amount - (began if began >= 0 else state.elapsed)
            phases[at] = replace(one, lasts=Amount(max(left, 0.0), schedule.total.unit))
    return tuple(phases)


def _cooldown(
    planned: Fall | None,
    lasts: Duration | None,
    shape: Shape | None,
    end_scale: float | None,
    total: Amount | None,
) -> Phases:
    """The cooldown as asked, else as planned, else as `cooldown` has it."""
    if lasts is None:
        raise ValueError("no cooldown is planned; say how long it lasts, such as lasts=200")
    amount = fixed(lasts, total)
    if amount.count == 0:
        raise ValueError("a cooldown that begins now must last longer than 0")
    if planned is not None:
        shape = planned.shape if shape is None else shape
        end_scale = planned.end_scale if end_scale is None else end_scale
    return cooldown(amount, shape, 0.0 if end_scale is None else end_scale)


def _cooling(
    plan: Phases, step: int, elapsed: float, past: tuple[PhaseState, ...], level: float
) -> PhasesState:
    """The state at the beginning of the last phase."""
    return plan.standing(step, elapsed, len(past), (*past, PhaseState(level, began=elapsed)))


def _in_phases(schedule: OpenLoop, step: int, how: How) -> tuple[Phases, PhasesState]:
    """The phases that an open-loop WSD is."""
    shape, total = schedule.shape, schedule.total_steps
    if not isinstance(shape, WSD):
        raise ValueError(
            f"{shape!r} is one curve over its horizon, without a part that could take the added "
            f'time as how="{how}" asks; use "stretch", or phases such as '
            f"(warmup(500) >> Constant() >> cooldown(0.2)).over(10_000)"
        )
    plan = (
        warmup(Amount(shape.warmup * total, "steps"), shape.start_scale)
        >> Constant()
        >> cooldown(Amount(shape.decay * total, "steps"), shape.shape)
    ).over(total)
    first = plan.init()
    at, phases, elapsed = first.phase, first.phases, float(step)
    phases = swapped(phases, at, phases[at]._replace(spent=elapsed))
    return plan, plan.standing(step, elapsed, *plan.moved_on(step, elapsed, at, phases))


def _check_elapsed(elapsed: float, unit: Unit, goal: Amount) -> None:
    if goal.unit != unit:
        raise ValueError(f"the horizon counts {unit} so far; give the new one in {unit}, too")
    if goal.count < elapsed:
        raise ValueError(
            f"{elapsed:g} {unit} have elapsed, more than the new horizon of {goal.count:g}; "
            f"to end sooner, cool down from here: cool_down(schedule, state, lasts)"
        )
