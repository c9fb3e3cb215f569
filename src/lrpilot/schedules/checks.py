"""Checks of settings: each names the setting, the rule, the value and the cure."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Literal

Mode = Literal["min", "max"]


def check_number(name: str, value: float) -> None:
    """A number, not a string, a tensor or a class."""
    if not isinstance(value, Real):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_factor(factor: float) -> None:
    """A factor lowers by multiplying and raises by dividing, so it lies between 0 and 1."""
    check_number("factor", factor)
    if not 0 < factor < 1:
        raise ValueError(
            f"factor must lie strictly between 0 and 1, got {factor}; 0.95 means steps of about 5 %"
        )


def check_count(name: str, count: int, least: int, cure: str) -> None:
    """A count of observations or steps: a whole number, not below ``least``."""
    if isinstance(count, bool) or not isinstance(count, Integral):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a whole number, got {count!r}; {cure}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}; {cure}")


def check_share(name: str, share: float, *, open_below: bool = False) -> None:
    """A share of something: between 0 and 1."""
    check_number(name, share)
    if not 0 <= share <= 1 or (open_below and share == 0):
        raise ValueError(
            f"{name} must lie {'above 0 and at most 1' if open_below else 'between 0 and 1'}, "
            f"got {share}"
        )


def check_threshold(threshold: float) -> None:
    """A threshold is a fraction of the best loss's size."""
    check_number("threshold", threshold)
    if not 0 <= threshold < 1:
        raise ValueError(
            f"threshold must lie in [0, 1), got {threshold}; "
            f"it is a fraction of the best loss, so 0.01 means 1 %"
        )


def check_evidence(evidence: float) -> None:
    """Evidence is a number of standard errors."""
    check_number("evidence", evidence)
    if not 1 <= evidence <= 10:
        raise ValueError(
            f"evidence must lie in [1, 10], got {evidence}; it counts standard errors, and 4 "
            f"keeps false moves rare"
        )


def check_bounds(min_scale: float, max_scale: float) -> None:
    """Bounds are multiples of the base rate, and the base rate itself lies between them."""
    check_number("min_scale", min_scale)
    check_number("max_scale", max_scale)
    if not 0 < min_scale < math.inf or not 0 < max_scale < math.inf:
        raise ValueError(
            f"min_scale and max_scale must be positive and finite, got {min_scale} and "
            f"{max_scale}; they multiply the base rate"
        )
    if min_scale > max_scale:
        raise ValueError(
            f"min_scale ({min_scale:g}) is above max_scale ({max_scale:g}); "
            f"lower min_scale or raise max_scale"
        )
    if not min_scale <= 1 <= max_scale:
        raise ValueError(
            f"the base rate (scale 1) must lie between min_scale ({min_scale:g}) and max_scale "
            f"({max_scale:g}); bounds are multiples of the base rate, not rates"
        )


def check_mode(mode: str) -> None:
    """Losses fall in mode "min"; scores such as accuracy rise in mode "max"."""
    if mode not in ("min", "max"):
        raise ValueError(f'mode must be "min" or "max", got {mode!r}')


def check_schedule(schedule: object) -> None:
    """A schedule, not a shape, a class or a name."""
    if isinstance(schedule, type) or not hasattr(schedule, "init"):
        raise TypeError(
            f"schedule must be a schedule such as Greedy() or OpenLoop(Cosine(), "
            f"total_steps=1000), got {schedule!r}"
        )


def check_known(kind: str, name: str, known: Iterable[str]) -> None:
    """A name is one of a table's; the error suggests the nearest one.

    >>> check_known("task", "digit-mlp", ["digits-mlp", "bytes-lm"])
    Traceback (most recent call last):
    ValueError: unknown task 'digit-mlp'; did you mean 'digits-mlp'? (known: digits-mlp, bytes-lm)
    """
    names = list(known)
    if name not in names:
        nearest = [known for known in names if known.lower() == name.lower()]
        nearest += difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"unknown {kind} {name!r}{hint} (known: {', '.join(names)})")
