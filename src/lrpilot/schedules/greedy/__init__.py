"""GreedyLR: raise the rate while the loss improves, lower it while it worsens; every variant."""

from lrpilot.schedules.greedy.noise import NoiseGreedy
from lrpilot.schedules.greedy.threshold import ThresholdGreedy
from lrpilot.schedules.greedy.variants import VARIANTS, Greedy, Test, ThresholdMode, Variant

__all__ = [
    "VARIANTS",
    "Greedy",
    "NoiseGreedy",
    "Test",
    "ThresholdGreedy",
    "ThresholdMode",
    "Variant",
]
