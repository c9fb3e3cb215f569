"""What the learning rate should be: schedules as values, over the standard library alone."""

from lrpilot.schedules.checkpoint import pack, unpack
from lrpilot.schedules.decisions import Decision, DecisionLog
from lrpilot.schedules.durations import Amount, epochs, samples, seconds, steps, tokens
from lrpilot.schedules.evidence import improves
from lrpilot.schedules.greedy import Greedy
from lrpilot.schedules.guard import Guard
from lrpilot.schedules.horizon import cool_down, extend
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
    RandomRates,
    Shape,
    StepDecay,
)
from lrpilot.schedules.phases import Phases, capped, cooldown, phase, warmup
from lrpilot.schedules.plateau import Plateau, PlateauState
from lrpilot.schedules.preview import lr_at, preview
from lrpilot.schedules.protocol import Schedule, Signal, State

__all__ = [
    "NAMED_SCHEDULES",
    "WSD",
    "Amount",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Decision",
    "DecisionLog",
    "Exponential",
    "Greedy",
    "Guard",
    "InverseSqrt",
    "Linear",
    "OneCycle",
    "OpenLoop",
    "OpenLoopState",
    "Phases",
    "Plateau",
    "PlateauState",
    "Polynomial",
    "RandomRates",
    "Schedule",
    "Shape",
    "Signal",
    "State",
    "StepDecay",
    "capped",
    "cool_down",
    "cooldown",
    "epochs",
    "extend",
    "improves",
    "lr_at",
    "named_schedule",
    "pack",
    "phase",
    "preview",
    "samples",
    "seconds",
    "steps",
    "tokens",
    "unpack",
    "warmup",
]
