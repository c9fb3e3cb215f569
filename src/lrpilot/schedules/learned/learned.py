"""A trained policy as a schedule: it departs from a base schedule as the losses suggest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from lrpilot.schedules.checks import check_count
from lrpilot.schedules.learned.features import (
    Numbers,
    Seen,
    Window,
    begun,
    features,
    has_lost_everything,
    seen_with,
)
from lrpilot.schedules.learned.policy import BASES, Policy, load_policy
from lrpilot.schedules.protocol import Signal

# A window has a tenth of the steps so far, within these shares of the horizon: about 60 decisions
# in a run, closer together at its beginning, where a wrong rate has to be put right soon.
SHORTEST, GROWTH, LONGEST = 1 / 200, 1 / 10, 1 / 40
UNKNOWN = 2000  # steps of the horizon that windows are measured by where there is none
FALLING_BACK = 0.5  # of the offset is left at each decision once the policy is not trusted any more


class LearnedState(NamedTuple):
    """What a policy's schedule remembers."""

    scale: float
    reason: str = "plan"
    step: int = 0  # optimizer steps taken
    offset: float = 0.0  # ln of the rate over its base
    action: float = 0.0  # the last one
    trusted: int = 1  # 0 once the schedule has fallen back to its base
    decisions: int = 0
    # Of the window under way:
    until: int = 0  # the step at which it ends
    losses: int = 0
    total: float = 0.0
    squares: float = 0.0  # of differences between successive losses
    loss: float = 0.0  # the last one
    aligned: float = 0.0  # sum of the alignments that are known
    alignments: int = 0
    seen: Seen = Seen()


@dataclass(frozen=True, slots=True)
class Learned:
    """Follow the policy's base schedule, and depart from it as the policy decides.

    The scale is the base's, times exp(offset). At the end of each window of steps (a tenth of the
    steps so far, within 0.5 % and 2.5 % of the horizon) the policy sees what the losses have shown
    and moves the offset, reason "raise" or "lower". Between decisions the scale follows the base.

    Envelope: the offset stays within the policy's limit. If the losses are back above where they
    began, the policy has failed: it is not asked again, and its offset, unless negative, is taken
    back by half at each window, reason "fallback". Losses that are not finite are ignored; a
    `Guard` around the schedule brakes for them.

    total_steps: the horizon, in optimizer steps. None if it is not known: the base is then constant
        after a warm-up of 100 steps, and the policy decides as at the beginning of a long run; let
        a cooldown follow, as in ``(Learned() >> cooldown(0.2)).over(10_000)``.
    policy: "net" or "nmf", which come with lrpilot, the path of a file that ``lrpilot train``
        wrote, or a `Policy`.
    """

    total_steps: int | None = None
    policy: Policy | str | Path = "net"

    def __post_init__(self) -> None:
        if self.total_steps is not None:
            check_count("total_steps", self.total_steps, least=1, cure="count the optimizer steps")
        object.__setattr__(self, "policy", load_policy(self.policy))

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss; and the alignment of gradients, if the policy was trained with it."""
        return ("loss", "alignment") if self.sees_alignment else ("loss",)

    @property
    def sees_alignment(self) -> bool:
        """Whether the policy reads how successive gradients are aligned."""
        return cast("Policy", self.policy).sees_alignment

    def init(self) -> LearnedState:
        """State before the first step."""
        return LearnedState(self.base_at(0), until=window_after(0, self.total_steps))

    def base_at(self, step: int) -> float:
        """The scale of the base schedule at optimizer step ``step``, counted from 0."""
        shape = BASES[cast("Policy", self.policy).base]
        if self.total_steps is None:
            return max(min(shape(0.05 * min(step / 100, 1.0)), 1.0), 0.0)
        return shape(min(step / self.total_steps, 1.0))

    def update(self, state: LearnedState, signal: Signal) -> LearnedState:
        """State after one more step."""
        loss, step = signal.loss, state.step + 1
        if math.isfinite(loss):
            apart = (loss - state.loss) ** 2 if state.losses else 0.0
            state = state._replace(
                reason="plan",
                losses=state.losses + 1,
                total=state.total + loss,
                squares=state.squares + apart,
                loss=loss,
            )
        else:
            state = state._replace(reason="ignore")
        if self.sees_alignment and math.isfinite(signal.alignment):
            state = state._replace(
                aligned=state.aligned + signal.alignment, alignments=state.alignments + 1
            )
        if step >= state.until and state.losses:
            state = self._decided(state, step)
        scale = self.base_at(step) * math.exp(state.offset)
        return state._replace(scale=scale, step=step)

    def _decided(self, state: LearnedState, step: int) -> LearnedState:
        """State with the offset that holds from now on, and a new window."""
        policy = cast("Policy", self.policy)
        alignment = state.aligned / state.alignments if state.alignments else 1.0
        window = closed(state.losses, state.total, state.squares, alignment)
        seen = seen_with(state.seen, window, Numbers) if state.decisions else begun(window)
        trusted = state.trusted and not has_lost_everything(seen, Numbers)
        if trusted:
            progress = 0.0 if self.total_steps is None else min(step / self.total_steps, 1.0)
            share = state.offset / policy.action.limit
            shown = features(seen, state.losses, progress, share, state.action, Numbers)
            action = policy.act(shown)
            offset = policy.moved(state.offset, action)
            reason = "raise" if offset > state.offset else "lower"
        else:
            action, offset = 0.0, min(state.offset, state.offset * FALLING_BACK)
            reason = "fallback"
        return state._replace(
            reason=reason if offset != state.offset else "plan",
            offset=offset,
            action=action,
            trusted=int(trusted),
            decisions=state.decisions + 1,
            until=step + window_after(step, self.total_steps),
            losses=0,
            total=0.0,
            squares=0.0,
            aligned=0.0,
            alignments=0,
            seen=seen,
        )


def window_after(step: int, total_steps: int | None) -> int:
    """How many steps the window lasts that begins after ``step`` steps."""
    horizon = UNKNOWN if total_steps is None else total_steps
    longest = max(horizon * LONGEST, step * LONGEST if total_steps is None else 0)
    return max(round(min(max(GROWTH * step, SHORTEST * horizon), longest)), 1)


def closed(count: int, total: Any, squares: Any, alignment: Any) -> Window:
    """The window of ``count`` losses, floats or arrays, with this sum and these squares.

    With one loss nothing is known of the noise, which is then taken for 0.
    """
    noise = (squares / (2 * max(count - 1, 1))) ** 0.5
    return Window(total / count, noise, alignment, count)
