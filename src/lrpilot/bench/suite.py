"""Which optimizers, schedules, rates and seeds are compared: literal tables."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import optim

from lrpilot.tasks.protocol import OptimizerFactory

OPTIMIZERS: Mapping[str, OptimizerFactory] = {
    "sgd": lambda parameters, lr: optim.SGD(parameters, lr),
    "momentum": lambda parameters, lr: optim.SGD(parameters, lr, momentum=0.9),
    # Fused: a fifth less time per step of a small network.
    "adam": lambda parameters, lr: optim.Adam(parameters, lr, fused=True),
    "adamw": lambda parameters, lr: optim.AdamW(parameters, lr, weight_decay=0.01, fused=True),
    "rmsprop": lambda parameters, lr: optim.RMSprop(parameters, lr),
}

# What `lrpilot compare` does with no arguments: about a minute on two cores.
DEFAULT_TASKS = ("digits-mlp", "nmf-digits")
DEFAULT_SCHEDULES = ("greedy", "greedy-cooldown", "cosine", "linear", "wsd20", "constant")
DEFAULT_OPTIMIZERS = ("adamw",)
DEFAULT_SEEDS = 5

# The schedule that the others are compared with, if it takes part.
REFERENCE = "cosine"

# The base rate of a training function that is compared without --lr: AdamW's own default.
FUNCTION_LR = 1e-3


def neighbours(lr: float) -> tuple[float, float, float]:
    """``lr`` between its neighbours on the half-decade grid 1, 3, 10, 30, ...

    >>> neighbours(0.01)
    (0.003, 0.01, 0.03)
    >>> neighbours(0.3)
    (0.1, 0.3, 1.0)
    """
    at = round(2 * math.log10(lr))
    below, here, above = (
        float(f"{1 if k % 2 == 0 else 3}e{math.floor(k / 2)}") for k in (at - 1, at, at + 1)
    )
    return below, here, above
