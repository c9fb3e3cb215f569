"""The guard: a brake laid over any schedule, pulled when the loss spikes or diverges."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from lrpilot.schedules.checks import (
    Mode,
    check_count,
    check_factor,
    check_mode,
    check_number,
    check_schedule,
    check_share,
)
from lrpilot.schedules.protocol import Schedule, Signal, State

# What enters the statistics is clipped to so many spreads, so that outliers barely move them.
_CLIP = 3.0
# A loss that falls fast leaves its past behind: the averages reach back over the last quarter of
# what has been seen, at least so many losses, until that is the whole memory.
_SHARE = 4
_LEAST = 50
# Smallest spread as a share of the level: a loss stored in bfloat16 moves in steps of up to 0.8 %,
# which must stay below any spike.
_FLOOR = 2.5e-3
# Beyond this a loss counts as non-finite; differences of smaller ones cannot overflow.
_LARGEST = 1e300


class Usual(NamedTuple):
    """What the losses usually are, as moving averages."""

    level: float = 0.0  # mean
    spread: float = 0.0  # mean absolute deviation from the level
    scale: float = 0.0  # of the rate at which they were seen


class Losses(NamedTuple):
    """What the losses have looked like."""

    usual: Usual = Usual()
    lowest: Usual = Usual()  # the statistics when the level was at its lowest
    seen: int = 0  # losses since the statistics began
    suspects: int = 0  # suspicious losses in a row
    unread: int = 0  # non-finite losses in a row
    spiking: int = 0  # losses since an alarm that have not come down; 0 outside a spike


class GuardState(NamedTuple):
    """What the guard remembers between two observations."""

    scale: float
    reason: str
    inner: State  # of the schedule inside
    brake: float = 1.0  # multiplies the inner scale
    ceiling: float = 1.0  # the brake recovers up to this
    alarms: int = 0
    healthy: int = 0  # healthy losses since the last alarm
    losses: Losses = Losses()

    @property
    def is_healthy(self) -> bool:
        """Whether the last loss was finite and not suspicious."""
        return not self.losses.suspects and not self.losses.spiking


@dataclass(frozen=True, slots=True)
class Guard:
    """Follow ``schedule``; cut its rate when the loss spikes, drifts away or is not finite.

    ``scale`` is the inner scale times a brake of at most 1. The inner schedule sees every signal
    and knows nothing of the brake.

    *Alarm.* The losses' usual level and spread (mean absolute deviation) are moving averages that
    outliers barely move. A loss is suspicious if it is more than ``spike`` spreads above the
    level. The alarm goes off after ``confirm`` suspicious losses in a row, after ``non_finite``
    non-finite ones in a row, and when the level itself has drifted ``spike`` spreads above its
    lowest. Low losses never alarm. Where the rate has risen above its average by a factor, so has
    the spread: a deliberate raise makes noise. With few losses seen, the spread starts from the
    first loss's size, so that a run that explodes in its first steps (to some seven times its
    first loss) is caught, and a noisy start is not.

    *Reaction.* The brake is multiplied by ``factor`` at once, reason "brake". One spike is cut
    once: nothing alarms until a loss has come down to the usual again. If none does for ``settle``
    observations, the losses seen then are the new usual (non-finite ones are cut again). After
    every ``recovery`` healthy observations the brake doubles, reason "recover", up to half of what
    it was when it failed. Otherwise ``reason`` is the inner schedule's.

    schedule: any schedule, phases included.
    spike: above 1, in spreads. With confirm=3, 400,000 losses each of normal, Laplace, exponential,
        Student-t(3) and autoregressive (0.9) noise gave no false alarm at 6 once a run had begun.
    confirm: at least 1, in observations. A single outlier alarms only with 1.
    non_finite: at least 1, in observations. Raise it where the loss overflows now and then, as
        under half precision.
    calibration: at least 1; the first loss, counted from 1, at which a spike can alarm. Raise it
        for losses around zero, of whose size the first one says nothing (with 4, one in a
        hundred such runs is braked at its start).
    memory: at least 10, in observations: how far back the averages reach. At first they reach over
        the last quarter of what has been seen, as the loss falls fast then.
    factor: in (0, 1); what an alarm multiplies the brake by.
    settle: at least 1, in observations; more than the lag where losses are observed late.
    recovery: at least 1, in observations.
    forget: at least 1, in observations: after every so many healthy ones the ceiling doubles too,
        so that a long run with a few bad batches does not end at a crawl.
    min_brake: in (0, 1]; the brake never falls below it, so repeated alarms cannot stop the run.
    mode: "min" for losses; "max", for scores, watches for falls.

    >>> from lrpilot.schedules import Constant, OpenLoop
    >>> guard = Guard(OpenLoop(Constant(), total_steps=1000), recovery=2)
    >>> state = guard.init()
    >>> for loss in (2.3, 2.4, 2.2, 90.0, 700.0, 8e3, 2.3, 2.2):
    ...     state = guard.update(state, Signal(loss))
    ...     print(state.scale, state.reason)
    1.0 plan
    1.0 plan
    1.0 plan
    1.0 plan
    1.0 plan
    0.25 brake
    0.25 plan
    0.5 recover
    """

    schedule: Schedule[Any]
    _: KW_ONLY
    spike: float = 6.0
    confirm: int = 3
    non_finite: int = 1
    calibration: int = 4
    memory: int = 200
    factor: float = 0.25
    settle: int = 10
    recovery: int = 300
    forget: int = 10_000
    min_brake: float = 1e-3
    mode: Mode = "min"

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        check_number("spike", self.spike)
        if not 1 < self.spike < math.inf:
            raise ValueError(
                f"spike must be above 1 and finite, got {self.spike}; it counts spreads, and one "
                f"spread is ordinary noise"
            )
        check_count("confirm", self.confirm, least=1, cure="1 alarms at a single outlier")
        check_count("non_finite", self.non_finite, least=1, cure="1 alarms at the first")
        check_count("calibration", self.calibration, least=1, cure="1 is ready after the first")
        check_count("memory", self.memory, least=10, cure="200 reaches back 200 observations")
        check_factor(self.factor)
        check_count("settle", self.settle, least=1, cure="10 gives a spike 10 observations to end")
        check_count("recovery", self.recovery, least=1, cure="300 doubles after 300 healthy losses")
        check_count("forget", self.forget, least=1, cure="a large number never forgets")
        check_share("min_brake", self.min_brake, open_below=True)
        check_mode(self.mode)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss, and what the inner schedule needs."""
        return tuple(dict.fromkeys((*self.schedule.needs, "loss")))

    def init(self) -> GuardState:
        """State before the first observation: the inner schedule's, with the brake off."""
        inner = self.schedule.init()
        return GuardState(inner.scale, inner.reason, inner)

    def update(self, state: GuardState, signal: Signal) -> GuardState:
        """State after one more loss."""
        inner = self.schedule.update(state.inner, signal)
        loss = signal.loss if self.mode == "min" else -signal.loss
        new = self.braked(state, loss)
        reason = new[0] or inner.reason
        if inner.reason == "retreat" and reason == "recover":
            reason = "retreat"  # on which weights are put back
        return GuardState(inner.scale * new[1], reason, inner, *new[1:])

    def braked(self, state: GuardState, loss: float) -> tuple[str, float, float, int, int, Losses]:
        """What is new after ``loss`` (lower is better), seen at ``state.scale``.

        That is "brake", "recover" or "", and the fields of `GuardState` from ``brake`` on.
        """
        losses, alarm = self._observed(state.losses, loss, state.scale)
        reason, brake, ceiling = "", state.brake, state.ceiling
        alarms, healthy = state.alarms, state.healthy
        if alarm:
            reason, alarms, healthy = "brake", alarms + 1, 0
            brake = max(brake * self.factor, self.min_brake)
            ceiling = max(state.brake / 2, brake)
        elif not losses.suspects and not losses.spiking:
            healthy += 1
            if healthy % self.forget == 0:
                ceiling = min(2 * ceiling, 1.0)
            if brake < ceiling and healthy % self.recovery == 0:
                reason, brake = "recover", min(2 * brake, ceiling)
        return reason, brake, ceiling, alarms, healthy, losses

    def _observed(self, losses: Losses, loss: float, scale: float) -> tuple[Losses, bool]:
        """``losses`` with one more, seen at a rate of ``scale``; whether it sets off the alarm."""
        usual, lowest, seen, suspects, unread, spiking = losses
        finite = abs(loss) < _LARGEST
        given_up = spiking >= self.settle
        if finite and (given_up or not usual.spread):
            # The first, or the first that is not 0: one alone is as unsure as it is large.
            usual = Usual(loss, abs(loss), scale)
            return Losses(usual, usual, seen=1), False
        spread = _spread(usual, scale)
        suspicious = not finite or loss > usual.level + self.spike * spread
        if spiking and suspicious:
            return losses._replace(spiking=1 if given_up else spiking + 1), given_up
        suspects = suspects + 1 if suspicious else 0
        unread = 0 if finite else unread + 1
        confirmed = suspects >= self.confirm and seen + 1 >= self.calibration
        if unread >= self.non_finite or confirmed:
            return Losses(usual, lowest, seen, spiking=1), True
        if not finite:
            return Losses(usual, lowest, seen, suspects, unread), False
        seen += 1
        away = min(max(loss - usual.level, -_CLIP * spread), _CLIP * spread)
        reach = min(seen, max(seen // _SHARE, _LEAST), self.memory)
        usual = _moved(usual, away, scale, reach)
        # The lows of a level that averages few losses so far would be lucky ones.
        if seen < self.memory or usual.level <= lowest.level:
            lowest = usual
        drifted = usual.level > lowest.level + self.spike * _spread(lowest, usual.scale)
        return Losses(usual, usual if drifted else lowest, seen, suspects), drifted


def _spread(usual: Usual, scale: float) -> float:
    """The spread to expect at a rate of ``scale``: a raised rate makes more noise."""
    return usual.spread * (scale / usual.scale) if 0 < usual.scale < scale else usual.spread


def _moved(usual: Usual, away: float, scale: float, reach: int) -> Usual:
    """The averages of the last ``reach`` losses, the last of them so far from the level."""
    level = usual.level + away / reach
    spread = usual.spread + (abs(away) - usual.spread) / reach
    return Usual(
        level, max(spread, _FLOOR * abs(level)), usual.scale + (scale - usual.scale) / reach
    )
