"""Settings of GreedyLR, fitted to the tasks that a store holds: `lrpilot tune`."""

from lrpilot.learning.fitting.answer import Answer
from lrpilot.learning.fitting.tune import tune_store

__all__ = ["Answer", "tune_store"]
