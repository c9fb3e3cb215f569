"""Checks for tests of one's own training: that an interrupted run equals an uninterrupted one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

SHOWN = 5  # differing keys in a message
LONG = 60  # characters of a value in a message


class Training(Protocol):
    """A training that can be saved and resumed.

    It also has ``step() -> record``, or is itself called for a step. A record is what the step
    showed, such as its loss and its rate.
    """

    # Any, because a state is whatever the user's training makes of it.
    def state_dict(self) -> Any:
        """All that a checkpoint needs."""
        ...

    def load_state_dict(self, state: Any, /) -> object:
        """Go back to where ``state`` was taken."""
        ...


def assert_resume_equivalent(
    make: Callable[[], Training],
    *,
    steps: int,
    cuts: Iterable[int] | None = None,
    through: Callable[[Any], Any] | None = None,
    live_state: bool = False,
) -> None:
    """Assert that a training that is saved and resumed goes on as if it had never stopped.

    Runs it uninterrupted for ``steps`` steps. Then, for each cut, builds it anew, loads the state
    taken after so many steps, and goes on to the end. Records and the final state must agree bit
    for bit: 1 differs from 1.0, and 0.0 from -0.0; NaN equals NaN; a list equals a tuple, as in
    JSON. Tensors and arrays count as their type, shape and elements.

    Raises AssertionError if they differ; or if two uninterrupted runs do, if taking a state
    disturbs the run, or if a state taken earlier follows the run. Raises ValueError if the check
    could not fail, so that a pass always says something.

    make: builds a training from scratch, the same each time: an object with ``step() -> record``,
        ``state_dict()`` and ``load_state_dict(state)``. It seeds whatever its steps draw from.
        Records and states are numbers, strings, None, tensors, arrays, and lists, tuples and
        mappings of these.
    steps: optimizer steps of the whole run, at least 2.
    cuts: after how many steps to interrupt, each from 0 to ``steps - 1``. By default after each,
        which takes about ``steps ** 2 / 2`` steps in all.
    through: what happens to a state on its way, such as a save to a file and a load. By default
        strict JSON, there and back.
    live_state: accept a state that follows the run, as the tensors in the ``state_dict()`` of
        PyTorch's modules and optimizers do. Such a state must be saved at once.

    >>> class Training:
    ...     loss, rate = 8.0, 0.5
    ...
    ...     def step(self):
    ...         self.loss, self.rate = self.loss * (1 - self.rate), self.rate * 0.9
    ...         return {"loss": self.loss, "rate": self.rate}
    ...
    ...     def state_dict(self):
    ...         return {"loss": self.loss, "rate": self.rate}
    ...
    ...     def load_state_dict(self, state):
    ...         self.loss = state["loss"]  # and the rate is forgotten
    >>> assert_resume_equivalent(Training, steps=4)
    Traceback (most recent call last):
    AssertionError: resumed after step 1 of 4, the run parts from the uninterrupted one at step 2: \
loss is 2.2 uninterrupted and 2.0 resumed; rate is 0.405 uninterrupted and 0.45 resumed. \
Right after loading, rate is 0.45 as saved and 0.5 as loaded
    """
    if steps < 2:
        raise ValueError(f"steps must be at least 2, got {steps}; 1 leaves nothing to resume")
    at = sorted(set(range(steps) if cuts is None else cuts))
    if not at or not set(at) <= set(range(steps)):
        raise ValueError(
            f"cuts must lie between 0 and {steps - 1}, one or more, got {at}; a cut is the number "
            f"of steps taken before the interruption, and {steps} are taken in all"
        )
    whole = _uninterrupted(make, steps)
    _check_power(whole.records, at)
    taken = _observed(make, whole, at, through or _through_json, live_state)
    for cut, saved in taken.items():
        _check_resumed(make, whole, cut, saved)


Place = tuple[object, ...]
"""Keys and indices from the outermost in: ("optimizer", "lr", 0)."""

Leaf = tuple[str, str]
"""What a value is and its text: ("float", "0.1"), ("torch.float32 (2,)", "[1.0, 2.0]")."""

Flat = dict[Place, Leaf]
"""A nested value as its leaves by their place."""

Difference = tuple[Place, str, str]
"""Where two values differ, and both in a few words."""


class _Run(NamedTuple):
    """An uninterrupted run: the record of each step, and the state after the last."""

    records: list[Flat]
    final: Flat


class _Saved(NamedTuple):
    """A state on its way to a resumed training."""

    state: Flat  # as it was taken
    loaded: Any  # as it comes out of ``through``


def _uninterrupted(make: Callable[[], Training], steps: int) -> _Run:
    """Run twice, to know that the training is repeatable and that ``make`` starts afresh."""
    first = make()
    step = _step_of(first)
    records = [_flat(step(), "record") for _ in range(steps)]
    whole = _Run(records, _flat(first.state_dict(), "state"))

    second = make()
    if second is first:
        raise ValueError("make() returned the same object twice; build a new training each time")
    step = _step_of(second)
    again = [_flat(step(), "record") for _ in range(steps)]
    moved = _differences(whole.final, _flat(first.state_dict(), "state"))
    if moved:
        raise ValueError(
            f"make() returns trainings that share state; build all of it anew. While the second "
            f"ran, the first's {_said(moved, 'before', 'after')}"
        )
    at = _first_difference(whole.records, again)
    if at is not None:
        raise AssertionError(
            f"the training is not repeatable: two uninterrupted runs part at step {at + 1}: "
            f"{_said(_differences(records[at], again[at]), 'in the first', 'in the second')}. "
            f"Let make() seed whatever the steps draw from, and build anew what they use up"
        )
    return whole


def _check_power(records: list[Flat], cuts: Sequence[int]) -> None:
    """At one cut at least, a training that loads nothing must not pass."""
    if all(records[: len(records) - cut] == records[cut:] for cut in cuts):
        raise ValueError(
            f"with steps={len(records)} and cuts={list(cuts)} a training that loads nothing would "
            f"pass, because the records after a cut equal those from the start; let step() return "
            f"what changes, such as the loss and the rate, and cut after step 1 or later"
        )


def _observed(
    make: Callable[[], Training],
    whole: _Run,
    cuts: Sequence[int],
    through: Callable[[Any], Any],
    live_state: bool,
) -> dict[int, _Saved]:
    """Run once more and take the states on the way; the run must not notice, nor the states."""
    training = make()
    step = _step_of(training)
    records: list[Flat] = []
    originals: dict[int, Any] = {}
    taken: dict[int, _Saved] = {}
    for k in range(len(whole.records)):
        if k in cuts:
            originals[k] = training.state_dict()
            state = _flat(originals[k], "state")
            # A copy, because a ``through`` that passes the state on would let it follow the run.
            taken[k] = _Saved(state, copy.deepcopy(through(originals[k])))
        records.append(_flat(step(), "record"))
    at = _first_difference(whole.records, records)
    if at is not None:
        differences = _differences(whole.records[at], records[at])
        raise AssertionError(
            f"taking a state disturbs the run: at step {at + 1} "
            f"{_said(differences, 'undisturbed', 'after state_dict()')}"
        )
    for cut, saved in taken.items():
        followed = _differences(saved.state, _flat(originals[cut], "state"))
        if followed and not live_state:
            raise AssertionError(
                f"the state taken after step {cut} follows the run: "
                f"{_said(followed, 'when taken', 'at the end')}. Let state_dict() return copies, "
                f"or pass live_state=True if every state is saved at once"
            )
    return taken


def _check_resumed(make: Callable[[], Training], whole: _Run, cut: int, saved: _Saved) -> None:
    """Load and go on; a difference is looked for in the loaded state as well."""
    steps = len(whole.records)
    training = make()
    training.load_state_dict(saved.loaded)
    lost = _differences(saved.state, _flat(training.state_dict(), "state"))
    cause = (
        f"Right after loading, {_said(lost, 'as saved', 'as loaded')}"
        if lost
        else "Right after loading the state is as it was saved: what differs is not in it"
    )
    step = _step_of(training)
    for k in range(cut, steps):
        differences = _differences(whole.records[k], _flat(step(), "record"))
        if differences:
            raise AssertionError(
                f"resumed after step {cut} of {steps}, the run parts from the uninterrupted one at "
                f"step {k + 1}: {_said(differences, 'uninterrupted', 'resumed')}. {cause}"
            )
    differences = _differences(whole.final, _flat(training.state_dict(), "state"))
    if differences:
        raise AssertionError(
            f"resumed after step {cut} of {steps}, all records agree, but not the final state: "
            f"{_said(differences, 'uninterrupted', 'resumed')}. {cause}"
        )


def _step_of(training: Training) -> Callable[[], object]:
    """The training's ``step``, or the training itself if it is called for a step."""
    step = getattr(training, "step", training)
    methods = (step, *(getattr(training, name, None) for name in ("state_dict", "load_state_dict")))
    if not all(map(callable, methods)):
        raise TypeError(
            f"make() must return an object with step(), state_dict() and load_state_dict(state), "
            f"got {training!r}"
        )
    return cast("Callable[[], object]", step)


def _through_json(state: object) -> object:
    """Strict JSON, there and back; the error names what is not JSON."""
    for place, problem in _not_json(state, ()):
        raise AssertionError(
            f"the state is not strict JSON: {_path(place)} {problem}; let state_dict() return "
            f"numbers, strings, None, and lists and mappings of these, or hand over as through= "
            f"the way that your checkpoints go, such as a torch.save and a torch.load"
        )
    return json.loads(json.dumps(state, allow_nan=False))


def _not_json(value: Any, place: Place) -> Iterable[tuple[Place, str]]:
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if not isinstance(key, str):
                yield place, f"has the key {_short(repr(key))}, which JSON makes a string"
            yield from _not_json(item, (*place, key))
    elif isinstance(value, (list, tuple)):
        for k, item in enumerate(cast("Sequence[object]", value)):
            yield from _not_json(item, (*place, k))
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, f"is {value!r}"
    elif not isinstance(value, (str, int, float, type(None))):
        yield place, f"is {_short(repr(value))} ({type(value).__name__})"


def _flat(value: Any, what: str, place: Place = ()) -> Flat:
    """All leaves of a record or a state, frozen as text, so that no later change reaches them."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        value = value._asdict()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, Mapping):
        parts = dict(cast("Mapping[object, object]", value))
        empty = "an empty mapping"
    elif isinstance(value, (list, tuple)):
        parts = dict(enumerate(cast("Sequence[object]", value)))
        empty = "an empty sequence"
    else:
        return {place: _leaf(value, what, place)}
    flat: Flat = {}
    for key, part in parts.items():
        flat.update(_flat(part, what, (*place, key)))
    return flat or {place: ("", empty)}


def _leaf(value: Any, what: str, place: Place) -> Leaf:
    if value is None or isinstance(value, (bool, str, bytes)):
        return "", repr(value)
    if isinstance(value, int):
        return "int", repr(int(value))
    if isinstance(value, float):  # a NumPy float is one, too
        return "float", repr(float(value))
    # Tensors and arrays of any library. Their elements are exact as Python numbers.
    if all(hasattr(value, name) for name in ("dtype", "shape", "tolist")):
        return f"{value.dtype} {tuple(value.shape)}", repr(value.tolist())
    raise TypeError(
        f"cannot compare {_short(repr(value))} ({type(value).__name__}), found in a {what} at "
        f"{_path(place)}; return numbers, strings, tensors, and lists and mappings of these"
    )


def _first_difference(ours: Sequence[Flat], theirs: Sequence[Flat]) -> int | None:
    pairs = zip(ours, theirs, strict=True)
    return next((k for k, (mine, other) in enumerate(pairs) if mine != other), None)


def _differences(ours: Flat, theirs: Flat) -> list[Difference]:
    missing = ("", "missing")
    pairs = [(at, ours.get(at, missing), theirs.get(at, missing)) for at in {**ours, **theirs}]
    return [(at, *_contrast(mine, other)) for at, mine, other in pairs if mine != other]


def _contrast(ours: Leaf, theirs: Leaf) -> tuple[str, str]:
    """Both leaves in a few words; of arrays alike, the first element that differs."""
    (kind, text), (other_kind, other) = ours, theirs
    if kind != other_kind:
        # Types tell 1 from 1.0 and shapes apart; beside what has none, they would only be noise.
        typed = kind and other_kind
        return (
            f"{_short(text)} {kind}" if typed else _short(text),
            f"{_short(other)} {other_kind}" if typed else _short(other),
        )
    if not text.startswith("["):
        return _short(text), _short(other)
    elements, others = (
        array.replace("[", "").replace("]", "").split(", ") for array in (text, other)
    )
    pairs = zip(elements, others, strict=False)
    at = next(k for k, (mine, theirs) in enumerate(pairs) if mine != theirs)
    return f"{_short(elements[at])} at element {at} of {len(elements)}", _short(others[at])


def _said(differences: Sequence[Difference], ours: str, theirs: str) -> str:
    """The differences as a sentence: "lr is 0.1 uninterrupted and 0.2 resumed"."""
    said = [
        f"{_path(place)} is {mine} {ours} and {other} {theirs}"
        for place, mine, other in differences[:SHOWN]
    ]
    if len(differences) > SHOWN:
        said.append(f"and {len(differences) - SHOWN} more")
    return "; ".join(said)


def _path(place: Place) -> str:
    """
    >>> _path(("optimizer", "lr", 0))
    'optimizer.lr[0]'
    """
    keys = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return "".join(keys).removeprefix(".") or "it"


def _short(text: str) -> str:
    return text if len(text) <= LONG else f"{text[: LONG - 3]}..."
