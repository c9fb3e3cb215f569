"""A schedule's state as strict JSON-able data, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from lrpilot.schedules.protocol import Schedule, State

StateT = TypeVar("StateT", bound=State)

Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


def pack(state: State) -> dict[str, Plain]:
    """The state as a dictionary of numbers, strings, None and lists.

    >>> from lrpilot.schedules import OpenLoop, Cosine
    >>> pack(OpenLoop(Cosine(), total_steps=10).init())
    {'scale': 1.0, 'reason': 'plan', 'step': 0}
    """
    return cast("dict[str, Plain]", _pack(state))


def unpack(schedule: Schedule[StateT], data: Mapping[str, Any]) -> StateT:
    """The state of ``schedule`` that ``pack`` wrote.

    Raises ValueError if ``data`` is not a state of this kind of schedule or is damaged.
    """
    name = type(schedule).__name__
    state = _unpack(schedule.init(), data, name)
    if state.scale < 0:
        raise ValueError(
            f"the state is damaged: {name}.scale is {state.scale}, and a scale is never negative"
        )
    return state


def _pack(value: object) -> Plain:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        fields = cast("tuple[str, ...]", value._fields)  # pyright: ignore[reportAttributeAccessIssue]
        return {name: _pack(getattr(value, name)) for name in fields}
    if isinstance(value, tuple):
        return [_pack(item) for item in cast("tuple[object, ...]", value)]
    return cast("Plain", value)


def _unpack(like: Any, data: object, name: str) -> Any:
    """``data`` in the form of the state ``like``; ``name`` says where we are."""
    fields: tuple[str, ...] = like._fields
    if not isinstance(data, Mapping) or set(cast("Mapping[str, Any]", data)) != set(fields):
        raise ValueError(
            f"this is not a state of {name}: expected the fields {', '.join(fields)}, "
            f"got {data!r}; load the state that the same schedule saved"
        )
    values = cast("Mapping[str, Any]", data)
    return type(like)(**{at: _item(getattr(like, at), values[at], f"{name}.{at}") for at in fields})


def _item(like: Any, value: Any, name: str) -> Any:
    if hasattr(like, "_fields"):
        return _unpack(like, value, name)
    if isinstance(like, tuple) and isinstance(value, (list, tuple)):
        parts, items = cast("tuple[Any, ...]", like), cast("list[Any]", value)
        if not any(hasattr(part, "_fields") for part in parts):
            return tuple(_item(0.0, item, name) for item in items)
        if len(items) != len(parts):
            raise ValueError(
                f"this is not a state of the same schedule: {name} has {len(items)} parts instead "
                f"of {len(parts)}; load the state that the same schedule saved"
            )
        named = (f"{name}[{at}]" for at in range(len(parts)))
        return tuple(_item(*one) for one in zip(parts, items, named, strict=True))
    if isinstance(like, str) and isinstance(value, str):
        return value
    if like is None and value is None:
        return value
    kinds = int if isinstance(like, int) else (int, float)
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if isinstance(like, (tuple, str)) or not is_number or not math.isfinite(value):
        raise ValueError(
            f"the state is damaged: {name} is {value!r}, where {like!r} stands at the start"
        )
    return value
