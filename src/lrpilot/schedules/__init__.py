"""What the learning rate should be: schedules as values, over the standard library alone."""

from lrpilot.schedules.checkpoint import pack, unpack
from lrpilot.schedules.evidence import improves
from lrpilot.schedules.greedy import Greedy, GreedyState
from lrpilot.schedules.named import NAMED_SCHEDULES, named_schedule
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
    OpenLoopState,
    Polynomial,
    Shape,
    StepDecay,
)
from lrpilot.schedules.plateau import Plateau, PlateauState
from lrpilot.schedules.protocol import Schedule, Signal, State

__all__ = [
    "NAMED_SCHEDULES",
    "WSD",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "Greedy",
    "GreedyState",
    "InverseSqrt",
    "Linear",
    "OneCycle",
    "OpenLoop",
    "OpenLoopState",
    "Plateau",
    "PlateauState",
    "Polynomial",
    "Schedule",
    "Shape",
    "Signal",
    "State",
    "StepDecay",
    "improves",
    "named_schedule",
    "pack",
    "unpack",
]
