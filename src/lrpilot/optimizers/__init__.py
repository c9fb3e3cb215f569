"""Optimizers that find their own rate, by gradients or trial steps: rivals of the schedules."""

from lrpilot.optimizers.hypergradient import HypergradientAdam, HypergradientSGD
from lrpilot.optimizers.line_search import LineSearch
from lrpilot.optimizers.packaged import BASELINES, PACKAGED, SHIPPED_LR

__all__ = [
    "BASELINES",
    "PACKAGED",
    "SHIPPED_LR",
    "HypergradientAdam",
    "HypergradientSGD",
    "LineSearch",
]
