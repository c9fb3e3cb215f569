"""How long something may take, as the command line takes it."""

from __future__ import annotations

import math

UNITS = {"s": 1, "m": 60, "h": 3600}


def seconds_of(budget: str | None) -> float | None:
    """Seconds from a number with a unit, s, m or h; None for None.

    >>> seconds_of("60s"), seconds_of("1.5m"), seconds_of("90")
    (60.0, 90.0, 90.0)
    """
    if budget is None:
        return None
    unit = UNITS.get(budget[-1:].lower())
    try:
        seconds = float(budget if unit is None else budget[:-1]) * (unit or 1)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"budget must be a time such as 60s, 10m or 1h, got {budget!r}")
    return seconds
