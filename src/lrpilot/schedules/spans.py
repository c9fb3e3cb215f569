"""What each of several phases follows, and for how long, worked out once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard, cast

from lrpilot.schedules.checks import check_share
from lrpilot.schedules.durations import Amount, Duration, check_filled, field_of, lengths
from lrpilot.schedules.openloop import Constant, Shape, between
from lrpilot.schedules.protocol import Schedule, State


@dataclass(frozen=True, slots=True)
class Rise:
    """From ``start_scale`` to 1 by ``shape``, a decay run backwards."""

    start_scale: float
    shape: Shape

    def __post_init__(self) -> None:
        check_share("start_scale", self.start_scale)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return between(self.start_scale, 1.0, self.shape(1 - progress))


@dataclass(frozen=True, slots=True)
class Fall:
    """From 1 to ``end_scale`` by ``shape``."""

    end_scale: float
    shape: Shape

    def __post_init__(self) -> None:
        check_share("end_scale", self.end_scale)

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        return between(self.end_scale, 1.0, self.shape(progress))


@dataclass(frozen=True, slots=True)
class Phase:
    """What is followed, and for how long: None is open-ended."""

    content: Schedule[Any] | Shape
    lasts: Duration | None

    @property
    def needs(self) -> tuple[str, ...]:
        """What of a signal its schedule reads."""
        return self.content.needs if is_schedule(self.content) else ()


class PhaseState(NamedTuple):
    """Where one phase stands."""

    level: float = 1.0  # what its own scale is multiplied by
    began: float = -1.0  # how much of the horizon had elapsed when it began; -1: it has not
    spent: float = 0.0  # how much of it has been taken, in its own unit
    inner: Any = None  # state of its schedule; None for a shape


class Span(NamedTuple):
    """A phase with its length worked out."""

    schedule: Schedule[Any] | None
    shape: Shape | None
    amount: float  # of the phase; of the horizon until its end, if the phase is open-ended
    end: float  # what of ``amount`` must be consumed for it to be over
    is_open: bool
    consumes: int | None  # where in a signal its unit stands; None: it counts steps
    following: int | None = None  # the next phase with a length; None: the last one

    def init(self) -> State | None:
        """State of the phase's schedule before its first step."""
        return None if self.schedule is None else self.schedule.init()

    def is_over(self, elapsed: float, spent: float) -> bool:
        """Whether all of the phase has been consumed."""
        return (elapsed if self.is_open else spent) >= self.end

    def own_scale(self, elapsed: float, one: PhaseState) -> float:
        """The phase's scale as a multiple of its level."""
        if self.shape is None:
            return one.inner.scale
        done, amount = one.spent, self.amount
        if self.is_open:
            done, amount = elapsed - one.began, self.amount - one.began
        scale = float(self.shape(min(done / amount, 1.0) if amount > 0 else 1.0))
        if not 0 <= scale < math.inf:
            raise ValueError(f"a shape gives scales from 0 on, got {scale} from {self.shape!r}")
        return scale

    def handed_on(self, one: PhaseState) -> float:
        """The level of the next phase."""
        if isinstance(self.shape, Rise | Fall):
            return one.level
        if self.is_open and self.end <= one.began:
            return one.level  # the horizon left it nothing
        return one.level * (one.inner.scale if self.shape is None else float(self.shape(1.0)))


def spans_of(phases: tuple[Phase, ...], total: Amount | None) -> tuple[Span, ...]:
    """The phases with their lengths worked out; () if a horizon is missing.

    Raises ValueError if they are longer than the horizon ``total``.
    """
    if total is None and any(wants_horizon(one) for one in phases):
        return ()
    spans: list[Span] = []
    for one, length in zip(phases, lengths([one.lasts for one in phases], total), strict=True):
        schedule = one.content if is_schedule(one.content) else None
        shape = None if schedule is not None else cast("Shape", one.content)
        amount, unit, is_open = length
        spans.append(Span(schedule, shape, amount, length.end, is_open, field_of(unit)))
    return tuple(span._replace(following=following(at, spans)) for at, span in enumerate(spans))


def check_complete(phases: tuple[Phase, ...], total: Amount | None) -> None:
    """The phases have a length, and the horizon that they need; parts of a plan may lack them."""
    for one in phases:
        if total is None and one.lasts is None and wants_horizon(one):
            raise ValueError(
                f"the open-ended shape {one.content!r} runs over what a horizon leaves it, and "
                f"nobody has set one; set it by .over(total_steps) or .over(tokens(1e9))"
            )
    lasting = lengths([one.lasts for one in phases], total)
    if all(one.amount <= 0 for one in lasting):
        raise ValueError("all phases have length 0; give one a length")
    if total is not None:
        check_filled(lasting, total)


def following(at: int, spans: Sequence[Span]) -> int | None:
    """The first phase after ``at`` that has a length."""
    return next((later for later in range(at + 1, len(spans)) if spans[later].end > 0), None)


def wants_horizon(one: Phase) -> bool:
    """Whether the phase is a share of the horizon, or a curve over what is left of it."""
    if one.lasts is None:
        return not (is_schedule(one.content) or isinstance(one.content, Constant))
    return isinstance(one.lasts, float)


def is_schedule(content: Schedule[Any] | Shape) -> TypeGuard[Schedule[Any]]:
    """Whether a phase follows a schedule; else it follows a shape."""
    return hasattr(content, "init") and hasattr(content, "update")
