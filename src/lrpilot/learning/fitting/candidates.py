"""Which settings of GreedyLR are tried: a literal space, and draws from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lrpilot.schedules import named_schedule
from lrpilot.schedules.phases import Phases

# The shipped settings, which the fitted ones have to beat.
DEFAULT = "greedy-cooldown"
BARE = "greedy"

SPACE: Mapping[str, tuple[float, ...]] = {
    "factor": (0.5, 0.6, 0.7, 0.8, 0.9),
    "patience": (0, 1, 2),
    "window": (3, 5, 10, 20, 40),
    "evidence": (2.0, 3.0, 4.0, 6.0),
    "min_scale": (0.01, 0.1, 0.5),
    "max_scale": (1.0, 3.0, 10.0, 100.0),
    "anneal": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
}


def candidates() -> Iterator[str]:
    """Names of schedules, without end: the shipped settings, then draws that are always the same.

    The draws do not follow what earlier ones showed. So which settings are tried does not depend on
    any task, and leaving one out of the choice leaves it out altogether.

    >>> from itertools import islice
    >>> list(islice(candidates(), 2))
    ['greedy-cooldown', 'greedy']
    """
    yield DEFAULT
    yield BARE
    rng = np.random.default_rng(20240601)
    seen: set[str] = set()
    while True:
        drawn = {name: values[int(rng.integers(len(values)))] for name, values in SPACE.items()}
        name = name_of(drawn)
        if name not in seen:
            seen.add(name)
            yield name


def name_of(settings: Mapping[str, float]) -> str:
    """The name of the schedule that has these settings; what is 0 is left out.

    >>> name_of({"factor": 0.5, "patience": 0, "anneal": 0.3})
    'greedy:factor=0.5,anneal=0.3'
    """
    return "greedy:" + ",".join(f"{key}={value:g}" for key, value in settings.items() if value)


def code_of(schedule: str) -> str:
    """A line of Python that makes the schedule; what it leaves out is the default.

    >>> code_of("greedy:factor=0.5,window=10,anneal=0.3")
    '(Greedy(factor=0.5) >> cooldown(0.3)).over(total_steps)'
    """
    settings = settings_of(schedule)
    share = settings.pop("anneal")
    plain = settings_of(BARE)
    given = ", ".join(f"{key}={value:g}" for key, value in settings.items() if value != plain[key])
    greedy = f"Greedy({given})"
    return f"({greedy} >> cooldown({share:g})).over(total_steps)" if share else greedy


def settings_of(schedule: str) -> dict[str, float]:
    """The settings in `SPACE` that the schedule has, defaults included."""
    made = named_schedule(schedule, 1000)
    share = 0.0
    if isinstance(made, Phases):
        lasts = made.phases[-1].lasts
        share = lasts if isinstance(lasts, float) else 0.0
        made = made.phases[0].content
    found = {name: getattr(made, name) for name in SPACE if name != "anneal"}
    return {**found, "anneal": share}
