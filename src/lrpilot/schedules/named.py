"""The schedules that have a name, as the command line takes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lrpilot.schedules.checks import check_known
from lrpilot.schedules.greedy import Greedy
from lrpilot.schedules.openloop import (
    WSD,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    OpenLoop,
    Polynomial,
    Shape,
    StepDecay,
)
from lrpilot.schedules.phases import cooldown
from lrpilot.schedules.plateau import Plateau
from lrpilot.schedules.protocol import Schedule

NamedSchedule = Callable[[int], Schedule[Any]]


def _over(shape: Shape) -> NamedSchedule:
    return lambda total_steps: OpenLoop(shape, total_steps)


NAMED_SCHEDULES: Mapping[str, NamedSchedule] = {
    "constant": _over(Constant()),
    "linear": _over(Linear()),
    "cosine": _over(Cosine()),
    "step": _over(StepDecay()),
    "exponential": _over(Exponential()),
    "polynomial": _over(Polynomial()),
    "one-cycle": _over(OneCycle()),
    "inverse-sqrt": _over(InverseSqrt()),
    "cosine-restarts": _over(CosineRestarts()),
    "wsd20": _over(WSD(decay=0.2)),
    "wsd50": _over(WSD(decay=0.5)),
    # Fed every step: patience and smoothing in shares of the horizon, as an evaluation would be.
    "plateau": lambda total_steps: Plateau(
        factor=0.5, patience=max(total_steps // 20, 1), window=max(total_steps // 50, 1)
    ),
    "greedy": lambda total_steps: Greedy(),
    "greedy-cooldown": lambda total_steps: (Greedy() >> cooldown(0.2)).over(total_steps),
    "greedy-untuned": lambda total_steps: Greedy.untuned(),
    "greedy-threshold": lambda total_steps: Greedy(test="threshold"),
}


def named_schedule(name: str, total_steps: int) -> Schedule[Any]:
    """The schedule called ``name`` over ``total_steps`` optimizer steps.

    >>> named_schedule("wsd20", total_steps=1000).init().reason
    'plan'
    """
    check_known("schedule", name, NAMED_SCHEDULES)
    return NAMED_SCHEDULES[name](total_steps)
