"""Why the rate moved, in words; and what other settings would have decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from itertools import chain, pairwise
from typing import Any, cast

from lrpilot.schedules.decisions import COUNTER, Decision, DecisionLog, is_number, notable
from lrpilot.schedules.protocol import Schedule, Signal

_WORDS: Mapping[str, str] = {
    "raise": "raised: the loss was better than the reference",
    "lower": "lowered: the loss was not better than the reference",
    "warmup": "raised on: the warm-up that follows a raise",
    "cooldown": "lowered on: the cooldown that follows a cut",
    "revert": "taken back: after the raise the loss fell no faster, or stood higher",
    "reset": "set back to the starting rate: too many cuts at the floor",
    "brake": "cut at once: the loss spiked or diverged",
    "recover": "raised back: the losses have been healthy since the cut",
    "cap": "held down by the cap",
    "manual": "set by hand",
    "rollback": "weights and optimizer rolled back",
    "extend": "the horizon was changed",
    "cooldown begins": "the cooldown began",
    "resumed": "resumed from a checkpoint",
}
# Of a rule that tests the trend of the loss instead of comparing it with a reference.
_TREND_WORDS: Mapping[str, str] = {
    "raise": "raised: the loss fell beyond doubt",
    "lower": "lowered: the loss rose beyond doubt",
}
# Of a policy, which moves the rate against its base schedule. The state that decided is known by
# its count of decisions.
_POLICY = "decisions"
_POLICY_WORDS: Mapping[str, str] = {
    "raise": "raised by the policy against its base schedule",
    "lower": "lowered by the policy against its base schedule",
    "retreat": "cut at once: half of what was gained was lost again",
    "fallback": "back to the base schedule: under the policy the loss came back above its start",
}
_SAW = ("action", "offset", "seen.last", "seen.fast", "seen.slow", "seen.best", "seen.noise")
# Told where they are known:
_MEASURED = tuple(
    f"seen.{name}" for name in ("persistence", "certainty", "movement", "travel", "evenness")
)
# Statistics that are told, by the last part of their name; the log has all.
_TOLD = ("level", "reference", "z", "brake", "alarms", "total", "group", "to")


@dataclass(frozen=True, slots=True)
class Replay:
    """What a schedule would have decided on recorded losses.

    scales: the one at each step, and after the last step: one more than there are losses.
    """

    schedule: Schedule[Any]
    base_lr: float
    scales: list[float]
    log: DecisionLog

    @property
    def rates(self) -> list[float]:
        """The rate at each step."""
        return [self.base_lr * scale for scale in self.scales[:-1]]


def replay(
    schedule: Schedule[Any],
    losses: Iterable[float | Signal],
    base_lr: float = 1.0,
    *,
    first: int = 10,
    last: int = 90,
) -> Replay:
    """What ``schedule`` would have decided on the recorded ``losses``, one per optimizer step.

    The decisions are replayed, not the training: had they been made, the losses would have been
    others. Only the replay of the very schedule that trained is what happened.

    first, last: how many decisions the log keeps from either end.
    """
    state = schedule.init()
    log, scales, step = DecisionLog(first, last), [state.scale], 0
    for step, loss in enumerate(losses, start=1):
        before = state
        state = schedule.update(before, loss if isinstance(loss, Signal) else Signal(loss))
        if notable(before, state):
            log.record(step, before, state)
        scales.append(state.scale)
    log.scale = state.scale
    return Replay(schedule, base_lr, scales, log.up_to(step))


def explain(
    log: DecisionLog, *, base_lr: float | None = None, schedule: Schedule[Any] | None = None
) -> str:
    """The log as a table in plain words, oldest decision first, and a summary.

    base_lr: None shows scales instead of rates.
    schedule: if given, its bounds are pointed out.
    """
    unit = 1.0 if base_lr is None else base_lr
    limits = _bounds(schedule) if schedule else {}
    head, tail = log.blocks
    lines = [("step", "scale" if base_lr is None else "rate", "factor", "what happened")]
    lines += [_line(decision, unit, limits) for decision in head]
    lines += (
        [("...", "", "", f"{_several(log.dropped, 'decision', 'decisions')} not kept")]
        if log.dropped
        else []
    )
    lines += [_line(decision, unit, limits) for decision in tail]
    widths = [max(len(line[at]) for line in lines) for at in range(3)]
    table = [
        f"{step:>{widths[0]}}  {rate:<{widths[1]}}  {factor:<{widths[2]}}  {words}".rstrip()
        for step, rate, factor, words in lines
    ]
    shown = table if len(lines) > 1 else ["no decisions"]
    return "\n".join([*shown, "", *_summary(log, limits, schedule, unit)])


def describe(decision: Decision) -> str:
    """The decision in words.

    >>> describe(Decision(70, "lower", 1.0, 0.5, (("best", 2.5), ("bad", 11))))
    'lowered: the loss was not better than the reference 11 times in a row (reference 2.5)'
    """
    counter = COUNTER.get(decision.reason, "")
    if decision.reason in _POLICY_WORDS:
        facts = _own(decision, _POLICY)
        if _POLICY in facts:
            known = [*_SAW, *(name for name in _MEASURED if facts.get(name))]
            told = [f"{name.split('.')[-1]} {facts.get(name, 0.0):.5g}" for name in known]
            words = f"{_POLICY_WORDS[decision.reason]}{_such_moves(facts)}"
            return f"{words} ({', '.join(told)})"
    facts = _own(decision, counter)
    if decision.reason == "ignore":
        losses = _several(int(facts["losses"]), "loss that was", "losses that were")
        return f"ignored {losses} not finite, the last at step {decision.until}"
    if decision.reason == "phase" and "phase" in facts:
        return f"phase {int(facts['phase']) + 1} began"
    words = _WORDS.get(decision.reason, decision.reason)
    if "z" in facts:
        words = _TREND_WORDS.get(decision.reason, words)
        if abs(facts["z"]) < 1 or abs(facts["z"]) > 1e6:
            del facts["z"]  # it was told by each block, or there is no noise to measure by
        elif decision.reason in _TREND_WORDS and abs(facts["z"]) < 4:
            words += ", if only from block to block"
    if counter in facts and (facts[counter] > 1 or "z" not in facts):
        words += f" {_several(int(facts[counter]), 'time', 'times')} in a row"
    words += _such_moves(facts)
    if "best" in facts:
        # What replaced the reference is the level; a best that stayed is the reference.
        facts.setdefault("level" if "reference" in facts else "reference", facts["best"])
    told = [f"{name} {facts[name]:.5g}" for name in _TOLD if name in facts]
    return f"{words} ({', '.join(told)})" if told else words


def _such_moves(facts: Mapping[str, float]) -> str:
    moves = facts.get("moves", 1)
    return f"; {moves} such moves, one a step" if moves > 1 else ""


def _own(decision: Decision, counter: str) -> dict[str, float]:
    """The statistics of the state that has the counter, which may be inside others, and the log's.

    Others may give the same names another meaning; only ``z`` is taken from around it as well, and
    ``seen`` from inside.
    """
    paths = {
        name.removesuffix(counter)
        for name, _ in decision.statistics
        if name.split(".")[-1] == counter
    }
    path = min(paths, key=len, default="")
    facts: dict[str, float] = {}
    for full, value in decision.statistics:
        place, _, name = full.rpartition(".")
        here = f"{place}." if place else ""
        if here == path or name == "moves" or (name == "z" and path.startswith(here)):
            facts[name] = value
        elif here == f"{path}seen.":
            facts[f"seen.{name}"] = value
    return facts


def _line(
    decision: Decision, unit: float, limits: Mapping[str, float]
) -> tuple[str, str, str, str]:
    """Step, rate, factor and words of one line of the table."""
    words = describe(decision)
    if decision.new == decision.old:
        return str(decision.step), f"{unit * decision.new:.4g}", "", words
    for name, bound in limits.items():
        words += f"; this is the {name} bound" if decision.new == bound else ""
    rate = f"{unit * decision.old:.4g} -> {unit * decision.new:.4g}"
    factor = f"x {decision.new / decision.old:.4g}" if decision.old else ""
    return str(decision.step), rate, factor, words


def _summary(
    log: DecisionLog, limits: Mapping[str, float], schedule: Schedule[Any] | None, unit: float
) -> Iterator[str]:
    now = "" if log.scale is None else f"; now {unit * log.scale:.4g}"
    moves = f"moves: {log.up:,} up, {log.down:,} down"
    yield f"{moves}; ignored losses: {log.ignored:,}; steps: {log.steps:,}{now}"
    if schedule is None:
        return
    spans = list(_spans(log, schedule.init().scale))
    known = sum(steps for _, steps in spans)
    for name, bound in limits.items():
        at_bound = sum(steps for scale, steps in spans if scale == bound)
        if at_bound:
            yield f"at the {name} bound ({unit * bound:.4g}): {at_bound:,} of {known:,} steps"


def _spans(log: DecisionLog, start: float) -> Iterator[tuple[float, int]]:
    """(scale, steps) of the stretches between two entries over which no plan moved the scale."""
    head, tail = log.blocks
    head = [Decision(0, "start", start, start), *head]
    (tail if log.dropped else head).append(Decision(log.steps, "end", log.scale or 0.0, 0.0))
    for block in (head, tail):
        for before, after in pairwise(entry for entry in block if entry.reason != "ignore"):
            if before.new == after.old:
                yield before.new, after.step - before.until


def _bounds(schedule: object) -> dict[str, float]:
    """The bounds of a schedule, or of the first schedule in it that has any."""
    found = {
        name: cast("float", getattr(schedule, setting))
        for name, setting in (("lower", "min_scale"), ("upper", "max_scale"))
        if is_number(getattr(schedule, setting, None))
    }
    inner = chain.from_iterable(
        value if isinstance(value, tuple) else (value,)
        for field in (fields(schedule) if is_dataclass(schedule) else ())
        for value in (getattr(schedule, field.name),)
    )
    return found or next(filter(None, map(_bounds, inner)), {})


def _several(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
