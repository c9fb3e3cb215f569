"""Comparing schedules: trials, where they run and are kept, and what they show."""

from lrpilot.bench.comparison import Cell, Plan, Row, cells, compare, rows
from lrpilot.bench.store import Store, StoreError
from lrpilot.bench.training_function import TrainingTrial
from lrpilot.bench.trial import Outcome, Trial, run_trial

__all__ = [
    "Cell",
    "Outcome",
    "Plan",
    "Row",
    "Store",
    "StoreError",
    "TrainingTrial",
    "Trial",
    "cells",
    "compare",
    "rows",
    "run_trial",
]
