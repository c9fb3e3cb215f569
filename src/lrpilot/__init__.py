"""lrpilot decides the learning rate while a model trains.

The schedules are in `lrpilot.schedules` and need nothing but the standard library; each framework
has a module of its name, such as `lrpilot.torch`, which the user imports.
"""

from lrpilot.schedules import (
    WSD,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    Greedy,
    Guard,
    InverseSqrt,
    Linear,
    OneCycle,
    OpenLoop,
    Phases,
    Plateau,
    Polynomial,
    Schedule,
    Signal,
    State,
    StepDecay,
    capped,
    cooldown,
    phase,
    preview,
    warmup,
)

__all__ = [
    "WSD",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "Greedy",
    "Guard",
    "InverseSqrt",
    "Linear",
    "OneCycle",
    "OpenLoop",
    "Phases",
    "Plateau",
    "Polynomial",
    "Schedule",
    "Signal",
    "State",
    "StepDecay",
    "capped",
    "cooldown",
    "phase",
    "preview",
    "warmup",
]
