"""A byte model trained once on source code, for tasks that begin where training has ended."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.data import PYTHON_VERSION, SPLIT_SEED, stdlib_source
from lrpilot.tasks.next_byte import NextByte, predict_bytes
from lrpilot.tasks.training import TrainingRun, apply, initialise, weights_of

# Rises with every change here or in the model that alters the weights.
VERSION = 1

WIDTH = 64
HEADS = 4
BLOCKS = 2
STEPS = 1000
LR = 3e-3
WARMUP = 50  # steps

Weights = dict[str, Tensor]


def source_model() -> NextByte:
    """The model's architecture, with weights of no meaning."""
    return NextByte(WIDTH, HEADS, BLOCKS)


@cache
def source_weights() -> Weights:
    """Weights of `source_model` after 1,000 steps of AdamW on the standard library's source.

    The first process that asks trains for some ten seconds and leaves them in the user's cache
    folder, from which later ones read. They are shared by a process's runs; nobody writes into
    them.
    """
    return read_or_make(cached_file(), pretrain)


def cached_file() -> Path:
    """Where the weights lie: in lrpilot's folder in $XDG_CACHE_HOME, or else in ~/.cache."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    # The text is that of the running Python, and torch's kernels decide the rounding.
    torch_version = torch.__version__.split("+")[0]
    name = f"bytes-source-{VERSION}-python{PYTHON_VERSION}-torch{torch_version}.pt"
    return Path(folder) / "lrpilot" / name


def read_or_make(path: Path, make: Callable[[], Weights]) -> Weights:
    """The weights in ``path``; if it has none that can be read, made and left there.

    A folder that cannot be written to is no error: the weights are then made once per process.
    """
    try:
        return torch.load(path, weights_only=True)
    except Exception:  # a file that was cut off or overwritten can raise anything
        weights = make()
    with contextlib.suppress(OSError):
        write(weights, path)
    return weights


def write(weights: Weights, path: Path) -> None:
    """Write so that another process sees all of the file or none of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        unfinished = Path(folder) / path.name
        torch.save(weights, unfinished)
        unfinished.replace(path)


def pretrain(steps: int = STEPS) -> Weights:
    """Train from a constant seed, the rate rising first, then falling linearly to zero.

    One thread, so that the weights do not depend on how many there are.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    model = initialise(source_model, rng)
    problem = predict_bytes(
        lambda values, text: apply(model, values, text), weights_of(model), stdlib_source(), rng
    )
    run = TrainingRun(problem, lambda parameters, lr: torch.optim.AdamW(parameters, lr))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for step in range(steps):
            run.step(LR * min(1, step / WARMUP) * (1 - step / steps))
    finally:
        torch.set_num_threads(threads)
    return {name: run.values[name].detach() for name in problem.parameters}
