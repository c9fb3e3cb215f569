"""Things that train from a seed within seconds, offline."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from lrpilot.tasks.classification import CANCER_LOGREG, DIGITS_CNN, DIGITS_MLP
from lrpilot.tasks.factorisation import NMF_DIGITS
from lrpilot.tasks.landscapes import NOISY_QUADRATIC
from lrpilot.tasks.language import BYTES_LM
from lrpilot.tasks.protocol import OptimizerFactory, Run, Split, Task

__all__ = ["TASKS", "OptimizerFactory", "Run", "Split", "Task", "find_task"]

TASKS: Mapping[str, Task] = {
    "digits-mlp": DIGITS_MLP,
    "digits-cnn": DIGITS_CNN,
    "cancer-logreg": CANCER_LOGREG,
    "bytes-lm": BYTES_LM,
    "nmf-digits": NMF_DIGITS,
    "noisy-quadratic": NOISY_QUADRATIC,
}


def find_task(name: str) -> Task:
    """Look a task up by its name.

    >>> find_task("digits-mlp").total_steps
    1000
    """
    if name in TASKS:
        return TASKS[name]
    nearest = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise ValueError(f"unknown task {name!r}{hint} (known: {', '.join(TASKS)})")
