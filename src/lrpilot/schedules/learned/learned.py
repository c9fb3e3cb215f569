"""A trained policy as a schedule: it departs from a base schedule as the losses suggest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, cast

from lrpilot.schedules.checks import check_count
from lrpilot.schedules.learned.features import (
    NOTHING,
    Numbers,
    Seen,
    Window,
    begun,
    features,
    has_lost_everything,
    has_lost_ground,
    seen_with,
    standing_at,
    worst_counted,
)
from lrpilot.schedules.learned.policy import BASES, Policy, load_policy
from lrpilot.schedules.openloop import Shape
from lrpilot.schedules.protocol import Signal

# A window has a tenth of the steps so far, within these shares of the horizon: about 60 decisions
# in a run, closer together at its beginning, where a wrong rate has to be put right soon.
SHORTEST, GROWTH, LONGEST = 1 / 200, 1 / 10, 1 / 40
LEAST = 4  # losses in a window: of fewer the noise is not known
BEGINNING, BEGUN = 100, 0.1  # steps of the warm-up, and the base's progress then, there
UNKNOWN = 2000  # steps of the horizon that windows are measured by where there is none
RETREAT = math.log(10)  # by which the offset falls where much of what was gained is lost
FALLING_BACK = 0.5  # of the offset is left at each decision once the policy is not trusted any more
LARGEST = 1e140  # beyond this a loss counts as not finite: the sums of a window must not overflow


class Sums(NamedTuple):
    """Of what a window's gradients told: floats, or arrays (runs,)."""

    total: Any = 0.0
    squares: Any = 0.0
    count: Any = 0

    def plus(self, number: Any, count: Any = 1) -> Sums:
        """These, and one more number; or 0, and a count of 0, where it is not known."""
        return Sums(self.total + number, self.squares + number * number, self.count + count)

    def mean(self, xp: Any, unknown: float = 0.0) -> Any:
        """Their mean, ``unknown`` if there is none."""
        return self.total / xp.maximum(self.count, 1) + unknown * (self.count == 0)

    def certainty(self, xp: Any) -> Any:
        """How many standard errors their mean is; 0 for fewer than two."""
        count = xp.maximum(self.count, 2)
        mean = self.total / count
        variance = abs(self.squares - self.total * mean) / (count - 1)
        error = (variance / count) ** 0.5 + 1e-6 * abs(mean) + 1e-30
        return mean / error * (self.count > 1)


UNTOLD = Sums()
OF_WEIGHTS = ("movement", "travel", "evenness")
NOT_MOVED = (0.0,) * len(OF_WEIGHTS)  # nothing is known of the weights


class LearnedState(NamedTuple):
    """What a policy's schedule remembers."""

    scale: float
    reason: str = "plan"
    step: int = 0  # optimizer steps taken
    offset: float = 0.0  # ln of the rate over its base
    action: float = 0.0  # the last one
    trusted: int = 1  # 0 once the schedule has fallen back to its base
    decisions: int = 0
    retreated: int = 0  # 1 at the decision after a retreat
    # Of the window under way:
    until: int = 0  # the step at which it ends
    losses: int = 0
    total: float = 0.0
    squares: float = 0.0  # of differences between successive losses
    loss: float = 0.0  # the last one
    aligned: Sums = UNTOLD
    persisted: Sums = UNTOLD
    seen: Seen = Seen()


@dataclass(frozen=True, slots=True)
class Learned:
    """Follow the policy's base schedule, and depart from it as the policy decides.

    The scale is the base's, times exp(offset). At the end of each window of steps (a tenth of the
    steps so far, within 0.5 % and 2.5 % of the horizon, 4 at least) the policy sees what the losses
    have shown and moves the offset, reason "raise" or "lower". Between decisions the scale follows
    the base.

    Envelope: the offset stays within the policy's limit. If the losses are back above where they
    began, the policy has failed: it is not asked again, and its offset, unless negative, is taken
    back by half at each window, reason "fallback". Losses that are not finite are ignored, reason
    "ignore": the plan moves on, a window ends where it would, and the policy never sees them; a
    `Guard` around the schedule brakes for them. A loss counts as at most `worst_counted`, so that
    one that explodes does not hide all that come after it.

    total_steps: the horizon, in optimizer steps. None if it is not known: the base is then constant
        after a warm-up of 100 steps, and the policy decides as at the beginning of a long run; let
        a cooldown follow, as in ``(Learned() >> cooldown(0.2)).over(10_000)``.
    policy: "net" or "nmf", which come with lrpilot, the path of a file that ``lrpilot train``
        wrote, or a `Policy`.
    retreats: for runs whose weights are put back on reason "retreat", as `lrpilot.torch.Snapshots`
        do; others would stay where they are, at a rate too low to leave. If half of what was gained
        is lost again, beyond what noise explains, the offset falls by ln 10 and the policy is shown
        the run as it stood best; if that was in vain, what is lost is lost.
    """

    total_steps: int | None = None
    policy: Policy | str | Path = "net"
    retreats: bool = False

    # Looked up once; not settings.
    needs: tuple[str, ...] = field(init=False, repr=False, compare=False)
    base: Shape = field(init=False, repr=False, compare=False)
    limit: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.total_steps is not None:
            check_count("total_steps", self.total_steps, least=1, cure="count the optimizer steps")
        policy = load_policy(self.policy)
        needs = ("loss", *policy.sees)
        found = {"policy": policy, "needs": needs, "base": BASES[policy.base]}
        for name, value in (found | {"limit": policy.action.limit}).items():
            object.__setattr__(self, name, value)

    def stretched(self, state: LearnedState, total_steps: int) -> tuple[Self, LearnedState]:
        """The same policy over another horizon, and the state in it: what it saw and decided stays.

        The window under way ends no later than one that began now would.
        """
        longer = replace(self, total_steps=total_steps)
        until = min(state.until, state.step + window_after(state.step, total_steps))
        scale = longer._scale(state.step, state.offset)
        return longer, state._replace(scale=scale, reason="plan", until=until)

    def init(self) -> LearnedState:
        """State before the first step, at a rate that the policy decides having seen nothing."""
        policy = cast("Policy", self.policy)
        action = policy.act(NOTHING)
        offset = policy.moved(0.0, action)
        until = window_after(0, self.total_steps)
        return LearnedState(self._scale(0, offset), offset=offset, action=action, until=until)

    def base_at(self, step: int) -> float:
        """The scale of the base schedule at optimizer step ``step``, counted from 0."""
        if self.total_steps is None:
            return self.base(BEGUN * min(step / BEGINNING, 1.0)) / self.base(BEGUN)
        return self.base(min(step / self.total_steps, 1.0))

    def update(self, state: LearnedState, signal: Signal) -> LearnedState:
        """State after one more step."""
        loss, step = float(signal.loss), state.step + 1  # NumPy's own has other arithmetic
        scale = self._scale(step, state.offset)
        if not -LARGEST < loss < LARGEST:
            ignored = state._replace(scale=scale, reason="ignore", step=step)
            ends = step >= state.until and state.losses
            return self._decided(ignored, step, signal) if ends else ignored
        # By position, since `_replace` would double the cost of a step.
        (_, _, _, offset, action, trusted, decisions, retreated, until) = state[:9]
        losses, total, squares, last, aligned, persisted, seen = state[9:]
        if decisions and loss > seen.first:  # below it, which most are, nothing is capped
            loss = min(loss, worst_counted(seen, Numbers))
        if losses:
            squares += (loss - last) ** 2
        # The first step has no step before it, whatever is said of its gradient.
        if step > 1 and "alignment" in self.needs and -2 < signal.alignment < 2:
            aligned = aligned.plus(float(signal.alignment))
        if decisions and "persistence" in self.needs and abs(signal.persistence) < LARGEST:
            persisted = persisted.plus(float(signal.persistence))
        window = (losses + 1, total + loss, squares, loss, aligned, persisted, seen)
        past = (scale, "plan", step, offset, action, trusted, decisions, retreated, until)
        state = tuple.__new__(LearnedState, (*past, *window))
        return self._decided(state, step, signal) if step >= until else state

    def _of_weights(self, signal: Signal, name: str) -> float:
        """What the signal tells of the weights, 0 if it is not known."""
        number = float(getattr(signal, name)) if name in self.needs else 0.0
        return number if 0 < number < LARGEST else 0.0

    def _scale(self, step: int, offset: float) -> float:
        # A state may come from a policy with a wider limit.
        return self.base_at(step) * math.exp(min(max(offset, -self.limit), self.limit))

    def _decided(self, state: LearnedState, step: int, signal: Signal) -> LearnedState:
        """State with the offset that holds from now on, and a new window."""
        policy = cast("Policy", self.policy)
        sums = state.losses, state.total, state.squares, state.aligned, state.persisted
        window = closed(*sums, Numbers, [self._of_weights(signal, name) for name in OF_WEIGHTS])
        seen = seen_with(state.seen, window, Numbers) if state.decisions else begun(window)
        offset, retreated = state.offset, 0
        is_asked = self.retreats and bool(state.trusted)
        if is_asked and has_lost_ground(seen, state.retreated, Numbers):
            if state.retreated:  # in vain: what is lost is lost
                seen = standing_at(seen.last, seen)
            else:
                seen, retreated = standing_at(seen.best, seen), 1
                offset = retreat(offset, policy.action.limit, Numbers)
        trusted = bool(state.trusted) and not has_lost_everything(seen, Numbers)
        if trusted:
            progress = 0.0 if self.total_steps is None else min(step / self.total_steps, 1.0)
            share = offset / policy.action.limit
            shown = features(seen, state.losses, progress, share, state.action, Numbers)
            action = policy.act(shown)
            offset = policy.moved(offset, action)
            reason = "raise" if offset > state.offset else "lower"
        else:
            action, offset = 0.0, min(state.offset, state.offset * FALLING_BACK)
            reason = "fallback"
        if retreated:
            reason = "retreat"
        has_moved = retreated or offset != state.offset or trusted != bool(state.trusted)
        # Not `_replace`, which costs several times as much.
        return LearnedState(
            scale=self._scale(step, offset),
            reason=reason if has_moved else "plan",
            step=step,
            offset=offset,
            action=action,
            trusted=int(trusted),
            decisions=state.decisions + 1,
            retreated=retreated,
            until=step + window_after(step, self.total_steps),
            loss=state.loss,
            seen=seen,
        )


def retreat(offset: Any, limit: float, xp: Any) -> Any:
    """The offset, a number or an array, after a retreat."""
    return xp.maximum(offset - RETREAT, -limit)


def window_after(step: int, total_steps: int | None) -> int:
    """How many steps the window lasts that begins after ``step`` steps."""
    horizon = UNKNOWN if total_steps is None else total_steps
    longest = max(horizon * LONGEST, step * LONGEST if total_steps is None else 0)
    return max(round(min(max(GROWTH * step, SHORTEST * horizon), longest)), LEAST)


def closed(
    count: Any,
    total: Any,
    squares: Any,
    aligned: Sums = UNTOLD,
    persisted: Sums = UNTOLD,
    xp: Any = Numbers,
    weights: Sequence[Any] = NOT_MOVED,
) -> Window:
    """The window of ``count`` losses, numbers or arrays, with this sum and these squares.

    With one loss, as the last window may have, the noise is taken for 0. weights: movement, travel
    and evenness at its end, 0 where they are not known.
    """
    noise = (squares / (2 * xp.maximum(count - 1, 1))) ** 0.5
    return Window(
        total / count,
        noise,
        count,
        aligned.mean(xp, unknown=1.0),
        persisted.mean(xp),
        persisted.certainty(xp),
        *weights,
    )
