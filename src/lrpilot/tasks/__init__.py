"""Things that train from a seed within seconds, offline."""

from __future__ import annotations

from collections.abc import Mapping

from lrpilot.schedules.checks import check_known
from lrpilot.tasks.classification import DIGITS_CNN, DIGITS_MLP
from lrpilot.tasks.convex import CANCER_LOGREG, NOISY_QUADRATIC
from lrpilot.tasks.factorisation import NMF_DIGITS
from lrpilot.tasks.language import BYTES_LM
from lrpilot.tasks.protocol import OptimizerFactory, Run, Split, Task
from lrpilot.tasks.training import Batch, Problem, TrainingTask, Values

__all__ = [
    "TASKS",
    "Batch",
    "OptimizerFactory",
    "Problem",
    "Run",
    "Split",
    "Task",
    "TrainingTask",
    "Values",
    "find_task",
]

TASKS: Mapping[str, Task] = {
    "digits-mlp": DIGITS_MLP,
    "digits-cnn": DIGITS_CNN,
    "cancer-logreg": CANCER_LOGREG,
    "bytes-lm": BYTES_LM,
    "nmf-digits": NMF_DIGITS,
    "noisy-quadratic": NOISY_QUADRATIC,
}


def find_task(name: str) -> Task:
    """Look a task up by its name; the error for an unknown one suggests the nearest.

    >>> find_task("digits-mlp").total_steps
    1000
    """
    check_known("task", name, TASKS)
    return TASKS[name]
