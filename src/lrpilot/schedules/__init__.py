"""What the learning rate should be: schedules as values, over the standard library alone.

A trained policy (`Learned`) needs NumPy, which is loaded when one is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from lrpilot.schedules.learned import Learned, Policy, load_policy

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
    "Learned",
    "Linear",
    "OneCycle",
    "OpenLoop",
    "OpenLoopState",
    "Phases",
    "Plateau",
    "PlateauState",
    "Policy",
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
    "load_policy",
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


def __getattr__(name: str) -> Any:
    """What needs NumPy."""
    if name not in ("Learned", "Policy", "load_policy"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module("lrpilot.schedules.learned"), name)
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise ModuleNotFoundError(
            f"{name} needs NumPy, which is not installed; pip install numpy", name="numpy"
        ) from error
