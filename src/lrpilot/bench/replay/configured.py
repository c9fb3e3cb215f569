"""Named schedules under other settings, as the command line gives them: ``patience=5``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lrpilot.schedules import Schedule, named_schedule
from lrpilot.schedules.checks import check_known

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "none",
}


def configured_schedules(
    names: Sequence[str], settings: Sequence[str], total_steps: int
) -> dict[str, Schedule[Any]]:
    """The schedules called ``names`` over ``total_steps``, with ``settings`` overridden.

    settings: such as "patience=5"; each is for those of the schedules that have it. The setting of
        a shape is "shape.end_scale" or just "end_scale".

    Raises ValueError, with the nearest known name or the rule, for what cannot be set.

    >>> configured_schedules(["plateau"], ["factor=0.5", "patience=3"], 100)["plateau"].patience
    3
    """
    schedules = {name: named_schedule(name, total_steps) for name in names}
    settable = {name: dict(_settable(schedule)) for name, schedule in schedules.items()}
    known = dict.fromkeys(path for paths in settable.values() for path in paths)
    changes: dict[str, dict[str, object]] = {name: {} for name in schedules}
    for setting in settings:
        wanted, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"a setting is name=value, such as patience=5; got {setting!r}")
        meant = {path for path in known if path == wanted or path.endswith(f".{wanted}")}
        if not meant:
            check_known(f"setting of {', '.join(schedules)}", wanted, known)
        for name, kinds in settable.items():
            path = min(meant & set(kinds), key=len, default=None)
            if path is not None:
                changes[name][path] = _parsed(path, text, kinds[path])
    return {name: _changed(schedule, changes[name]) for name, schedule in schedules.items()}


def _settable(settings: Any, path: str = "") -> Iterator[tuple[str, tuple[type, ...]]]:
    """(name, kinds of value) of each setting that a word can set; a shape's have dots."""
    hints = get_type_hints(type(settings))
    for field in fields(settings):
        kinds, value = _kinds(hints[field.name]), getattr(settings, field.name)
        if field.init and kinds:
            yield path + field.name, kinds
        elif field.init and is_dataclass(value):
            yield from _settable(value, f"{path}{field.name}.")


def _kinds(hint: Any) -> tuple[type, ...]:
    """The kinds of value that an annotation allows; none if one is not written as a word."""
    if get_origin(hint) is Literal:
        return (str,)
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [str if get_origin(option) is Literal else option for option in options]
    return tuple(kinds) if all(kind in _KINDS for kind in kinds) else ()


def _parsed(name: str, text: str, kinds: tuple[type, ...]) -> bool | int | float | str | None:
    words = {"true": True, "false": False, "none": None}
    for kind in kinds:
        if kind in (bool, NoneType):
            if isinstance(words.get(text.lower(), ...), kind):
                return words[text.lower()]
            continue
        with suppress(ValueError):
            return kind(text)
    wanted = " or ".join(_KINDS[kind] for kind in kinds)
    raise ValueError(f"{name} must be {wanted}, got {text!r}")


def _changed(settings: Any, changes: Mapping[str, object]) -> Any:
    """The same kind of settings under ``changes``, all of them at once.

    Only what differs from the defaults is kept beside them, since a setting such as a variant may
    bring defaults of its own.
    """
    own = {name: value for name, value in changes.items() if "." not in name}
    for name in {name.partition(".")[0] for name in changes.keys() - own.keys()}:
        inner = {
            path.removeprefix(f"{name}."): value
            for path, value in changes.items()
            if path.startswith(f"{name}.")
        }
        own[name] = _changed(getattr(settings, name), inner)
    kept = {field.name: getattr(settings, field.name) for field in fields(settings) if field.init}
    with suppress(TypeError):  # some settings have no default
        plain = type(settings)()
        kept = {name: value for name, value in kept.items() if value != getattr(plain, name)}
    try:
        return type(settings)(**{**kept, **own})
    except TypeError as error:  # a setting that the variant lacks
        raise ValueError(str(error)) from None
