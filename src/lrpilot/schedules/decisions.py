"""A short log of what moved the rate, for a checkpoint to hold."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple, TypeGuard, cast

from lrpilot.schedules.checkpoint import Plain
from lrpilot.schedules.checks import check_count
from lrpilot.schedules.protocol import State

# The counter that a move has set back; the loss that decided was counted as well.
COUNTER = {"raise": "good", "lower": "bad"}


class Decision(NamedTuple):
    """One move of the rate, or one event that bears on it."""

    step: int  # optimizer steps taken when it was decided; it holds from the next step on
    reason: str
    old: float  # scale before
    new: float  # scale after
    statistics: tuple[tuple[str, float], ...] = ()
    """The numbers of the state that decided, by name; those of an inner state have dots.

    Six digits of each. A number that is what it is by default is left out. ``good`` or ``bad``,
    which a move sets back, is the count that decided, and ``reference`` the ``best`` that the loss
    was compared with if the decision replaced it. ``moves`` counts the moves of one kind on
    consecutive steps, which share an entry. An entry of ignored losses has their number,
    ``losses``, and the step of the last one, ``until``.
    """

    @property
    def until(self) -> int:
        """The last step of an entry, which may span several."""
        facts = dict(self.statistics)
        if self.reason == "ignore":
            return int(facts["until"])
        return self.step + int(facts.get("moves", 1)) - 1


def notable(before: State, after: State) -> bool:
    """Whether the update from ``before`` to ``after`` may be something to record."""
    return (
        after.scale != before.scale
        or after.reason != before.reason
        or _phase(after) != _phase(before)
    )


class DecisionLog:
    """The first and the last decisions of a run, and counts that include those dropped between.

    Moves that follow a plan are not decisions. Moves of one kind on consecutive steps are one
    entry, and so are losses ignored between two decisions.

    first, last: how many entries are kept from either end.

    >>> from lrpilot.schedules import Plateau, Signal
    >>> log, schedule = DecisionLog(), Plateau(factor=0.5, patience=0)
    >>> state = schedule.init()
    >>> for step, loss in enumerate((3.0, 4.0), start=1):
    ...     before, state = state, schedule.update(state, Signal(loss))
    ...     log.record(step, before, state)
    >>> log.decisions[0]
    Decision(step=2, reason='lower', old=1.0, new=0.5, statistics=(('best', 3.0), ('bad', 1)))
    """

    def __init__(self, first: int = 10, last: int = 90) -> None:
        check_count("first", first, least=0, cure="0 keeps the last ones only")
        check_count("last", last, least=1, cure="90 is the default")
        self.up = 0  # moves
        self.down = 0
        self.ignored = 0  # losses that were not finite
        self.dropped = 0  # entries between the first and the last
        self.steps = 0  # optimizer steps taken when the log was last told anything
        self.scale: float | None = None  # at that time
        self._room = first, last
        self._first: list[Decision] = []
        self._last: deque[Decision] = deque()
        self._counted: int | None = None  # step up to which ignored losses are counted, if any are

    @property
    def decisions(self) -> list[Decision]:
        """Those kept, oldest first."""
        return [*self._first, *self._last]

    @property
    def blocks(self) -> tuple[list[Decision], list[Decision]]:
        """Those kept before and after the ones that were dropped."""
        return ([*self._first], [*self._last]) if self.dropped else (self.decisions, [])

    def record(self, step: int, before: State, after: State) -> None:
        """Note what the update after optimizer step ``step`` decided.

        An update that is not `notable` need not be recorded.
        """
        reason = after.reason
        if reason == "ignore":
            self.scale = after.scale
            self._counted = step - 1 if self._counted is None else self._counted
            self.up_to(step)
            return
        if self._counted is not None:
            self.up_to(step - 1)
            self._counted = None
        self.steps, self.scale = step, after.scale
        phase = _phase(after)
        if phase is not None and phase != _phase(before):
            self._add(Decision(step, "phase", before.scale, after.scale, (("phase", phase),)))
        elif after.scale != before.scale and reason != "plan":
            facts = tuple(_statistics(before, after, COUNTER.get(reason, "")))
            self._move(Decision(step, reason, before.scale, after.scale, facts))

    def note(self, step: int, reason: str, old: float, new: float, **statistics: float) -> None:
        """Note an event from outside the schedule, such as "manual", "rollback" or "resumed".

        statistics: those that are not finite are left out.
        """
        if not (math.isfinite(old) and math.isfinite(new)):
            raise ValueError(f"old and new must be finite scales, got {old} and {new}")
        self.up_to(step - 1)  # whether the loss of this step is ignored is not known yet
        self.steps, self.scale = step, float(new)
        facts = tuple((name, _plain(x)) for name, x in statistics.items() if math.isfinite(x))
        self._count(Decision(step, reason, float(old), float(new), facts))

    def up_to(self, step: int) -> DecisionLog:
        """This log, told that ``step`` steps were taken; counts losses still being ignored."""
        self.steps = step
        if self._counted is None or step <= self._counted:
            return self
        since, losses = self._counted + 1, step - self._counted
        self.ignored += losses
        self._counted = step
        kept = self._last or self._first
        goes_on = bool(kept) and kept[-1].reason == "ignore"
        if goes_on:
            since, losses = kept[-1].step, losses + int(dict(kept[-1].statistics)["losses"])
        scale = self.scale or 0.0
        entry = Decision(since, "ignore", scale, scale, (("losses", losses), ("until", step)))
        if goes_on:
            kept[-1] = entry
        else:
            self._add(entry)
        return self

    def state_dict(self) -> dict[str, Plain]:
        """The log as strict JSON-able data; each entry is a flat list, its names by number."""
        names: dict[str, int] = {}
        first = [_flat(decision, names) for decision in self._first]
        last = [_flat(decision, names) for decision in self._last]
        return {
            "names": list(names),
            "first": cast("Plain", first),
            "last": cast("Plain", last),
            **{name: getattr(self, name) for name in _COUNTS},
            "scale": self.scale,
            "counted": self._counted,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], first: int = 10, last: int = 90) -> DecisionLog:
        """The log that ``state_dict`` wrote, with room for ``first`` and ``last`` entries.

        Raises ValueError if it is damaged.
        """
        names = {"names", "first", "last", "scale", "counted", *_COUNTS}
        if not isinstance(state, Mapping) or set(state) != names:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(
                f"the decision log is damaged: expected the fields {', '.join(sorted(names))}, "
                f"got {state!r}"
            )
        log = cls(first, last)
        for name in (*_COUNTS, *(["counted"] if state["counted"] is not None else [])):
            if type(state[name]) is not int or state[name] < 0:
                raise ValueError(f"the decision log is damaged: {name} is {state[name]!r}")
        if state["scale"] is not None and not is_number(state["scale"]):
            raise ValueError(f"the decision log is damaged: scale is {state['scale']!r}")
        log._first, log._last = list(_entries(state, "first")), deque(_entries(state, "last"))
        for name in (*_COUNTS, "scale"):
            setattr(log, name, state[name])
        log._counted = state["counted"]
        log._shed()
        return log

    def _move(self, decision: Decision) -> None:
        """Add a move, to the newest entry if it goes on where that one has just stopped."""
        kept = self._last or self._first
        newest = kept[-1] if kept else None
        if newest is None or not _goes_on(newest, decision):
            self._count(decision)
            return
        facts = dict(newest.statistics)
        facts["moves"] = facts.get("moves", 1) + 1
        kept[-1] = newest._replace(new=decision.new, statistics=tuple(facts.items()))
        self._tally(decision)

    def _count(self, decision: Decision) -> None:
        self._tally(decision)
        self._add(decision)

    def _tally(self, decision: Decision) -> None:
        self.up += decision.new > decision.old
        self.down += decision.new < decision.old

    def _add(self, decision: Decision) -> None:
        if self._last or self.dropped or len(self._first) >= self._room[0]:
            self._last.append(decision)
            self._shed()
        else:
            self._first.append(decision)

    def _shed(self) -> None:
        while len(self._last) > self._room[1]:
            self._last.popleft()
            self.dropped += 1


_COUNTS = ("up", "down", "ignored", "dropped", "steps")


def _phase(state: object) -> int | None:
    """Which phase a state is in, if it is one of phases or around one."""
    while state is not None:
        phase = getattr(state, "phase", None)
        if phase is not None:
            return phase
        state = getattr(state, "inner", None)
    return None


def _goes_on(newest: Decision, move: Decision) -> bool:
    same = newest.reason == move.reason and newest.new == move.old and newest.new != newest.old
    along = (newest.new > newest.old) == (move.new > move.old)
    return same and along and newest.until + 1 == move.step


def _statistics(
    before: object, after: Any, counter: str, path: str = ""
) -> Iterator[tuple[str, float]]:
    """The finite numbers of the state ``after``, and of the states inside it.

    Of the phases, only the one that is on has any.
    """
    defaults = cast("dict[str, object]", after._field_defaults)
    for name in cast("tuple[str, ...]", after._fields):
        value, was = getattr(after, name), getattr(before, name, None)
        if name == "phases":
            value, was = value[after.phase], was[after.phase] if was else None
        if hasattr(value, "_fields"):
            yield from _statistics(was, value, counter, f"{path}{name}.")
        elif is_number(value) and (path or name != "scale"):
            if name == counter and value == 0 and is_number(was):
                value = was + 1
            if name == "best" and value != was and is_number(was):
                yield f"{path}reference", _plain(was)
            if value != defaults.get(name):
                yield path + name, _plain(value)


def _flat(decision: Decision, names: dict[str, int]) -> list[str | float]:
    """The decision as one list, in which a name is its number in ``names``, which grows."""
    facts = ((names.setdefault(name, len(names)), value) for name, value in decision.statistics)
    return [*decision[:4], *chain.from_iterable(facts)]


def _entries(state: Mapping[str, Any], block: str) -> Iterator[Decision]:
    """The decisions of a block, each from its flat list."""
    entries, known = state[block], state["names"]
    if not isinstance(known, list) or not all(isinstance(name, str) for name in known):
        raise ValueError(f"the decision log is damaged: names is {known!r}")
    for entry in entries if isinstance(entries, list) else [entries]:
        match entry:
            case [step, str(reason), old, new, *rest] if type(step) is int:
                numbers, values = rest[::2], rest[1::2]
                if (
                    step >= 0
                    and len(numbers) == len(values)
                    and all(type(at) is int and 0 <= at < len(known) for at in numbers)
                    and all(map(is_number, (old, new, *values)))
                ):
                    facts = {known[at]: value for at, value in zip(numbers, values, strict=True)}
                    if reason != "ignore" or facts.keys() >= {"losses", "until"}:
                        yield Decision(step, reason, old, new, tuple(facts.items()))
                        continue
            case _:
                pass
        raise ValueError(f"the decision log is damaged: {block} has the entry {entry!r}")


def is_number(value: object) -> TypeGuard[float]:
    """A finite number, and not a truth value."""
    kind = isinstance(value, (int, float)) and not isinstance(value, bool)
    return kind and math.isfinite(cast("float", value))


def _plain(value: float) -> float:
    """A number as a checkpoint should hold it: Python's own, and no longer than it tells."""
    return value if type(value) is int else float(f"{value:.6g}")
