"""Things that train from a seed within seconds, offline."""

from __future__ import annotations

from collections.abc import Mapping

from lrpilot.schedules.checks import check_known
from lrpilot.tasks.autoencoders import DIGITS_VAE, PATCHES_AUTOENCODER
from lrpilot.tasks.classification import DIGITS_CNN, DIGITS_MLP
from lrpilot.tasks.completion import MATRIX_COMPLETION
from lrpilot.tasks.convex import CANCER_LOGREG, NOISY_QUADRATIC
from lrpilot.tasks.coordinates import FLOWER_COORDINATES
from lrpilot.tasks.factorisation import NMF_DIGITS
from lrpilot.tasks.fine_tuning import BYTES_LORA
from lrpilot.tasks.known_factors import NMF_KNOWN
from lrpilot.tasks.landscapes import DEEP_LINEAR, MATRIX_SENSING, ROSENBROCK
from lrpilot.tasks.language import BYTES_LM
from lrpilot.tasks.next_byte import BYTES_GPT
from lrpilot.tasks.nonnegative import NMF_DOCSTRINGS, NMF_PHOTO
from lrpilot.tasks.protocol import OptimizerFactory, Run, Split, Task
from lrpilot.tasks.shapes import SHAPES_CNN
from lrpilot.tasks.streams import LOGREG_STREAM, MULTIPLICATIVE_QUADRATIC
from lrpilot.tasks.training import Batch, Problem, TrainingTask, Values
from lrpilot.tasks.vision import DIGITS_VIT
from lrpilot.tasks.waves import WAVES_GRU, WAVES_MLP

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
    task.name: task
    for task in (
        *(DIGITS_MLP, DIGITS_CNN, CANCER_LOGREG, BYTES_LM, NMF_DIGITS, NOISY_QUADRATIC),
        *(MULTIPLICATIVE_QUADRATIC, ROSENBROCK, DEEP_LINEAR, MATRIX_SENSING, LOGREG_STREAM),
        *(NMF_DOCSTRINGS, NMF_PHOTO, NMF_KNOWN, MATRIX_COMPLETION),
        *(WAVES_MLP, WAVES_GRU, SHAPES_CNN, DIGITS_VIT, DIGITS_VAE, PATCHES_AUTOENCODER),
        *(FLOWER_COORDINATES, BYTES_GPT, BYTES_LORA),
    )
}


def find_task(name: str) -> Task:
    """Look a task up by its name; the error for an unknown one suggests the nearest.

    >>> find_task("digits-mlp").total_steps
    1000
    """
    check_known("task", name, TASKS)
    return TASKS[name]
