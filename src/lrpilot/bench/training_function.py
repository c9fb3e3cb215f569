"""Your own training as the task: ``train.py:train`` and the trial that it is handed."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import math
import os
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from lrpilot.schedules import Schedule, named_schedule
from lrpilot.schedules.checks import check_count
from lrpilot.torch import ScheduledLR
from lrpilot.torch.losses import DEVICE_LAG, Copy, is_host

Record = Callable[[float | Tensor, float], None]

# Environment variables of this prefix are a training function's settings, part of its version.
SETTING = "LRPILOT_"


class TrainingTrial:
    """What ``train(trial)`` is handed.

    seed: seed everything with it: the same seed is used under every schedule.
    lr: the base learning rate to give the optimizer.
    steps: the number of optimizer steps asked for with ``--steps``, or None.
    """

    def __init__(
        self,
        *,
        seed: int,
        lr: float,
        steps: int | None,
        schedule: str,
        on_share: Callable[[float], None],
    ) -> None:
        self.seed = seed
        self.lr = lr
        self.steps = steps
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.evaluations: list[tuple[int, float]] = []
        self.test_loss: float | None = None
        self.total_steps: int | None = None
        self._schedule = schedule
        self._on_share = on_share
        self._flying: deque[tuple[int, Copy]] = deque()  # steps whose losses are not here yet

    def scheduler(self, optimizer: Optimizer, total_steps: int) -> ScheduledLR:
        """The schedule under trial over ``total_steps`` optimizer steps, as an ``LRScheduler``.

        Call ``step(loss)`` on it once after each ``optimizer.step()``.
        """
        check_count("total_steps", total_steps, least=1, cure="count the optimizer steps")
        self.total_steps = total_steps

        def record(loss: float | Tensor, lr: float) -> None:
            self._take(loss)
            self.rates.append(lr)
            self._on_share(min(len(self.losses) / total_steps, 1.0))

        return _RecordedLR(optimizer, named_schedule(self._schedule, total_steps, self.lr), record)

    def report(
        self, validation_loss: float | Tensor, test_loss: float | Tensor | None = None
    ) -> None:
        """Record a validation loss, and a test loss if you have one; the last ones count."""
        self.evaluations.append((len(self.losses), _number(validation_loss)))
        if test_loss is not None:
            self.test_loss = _number(test_loss)

    def land(self, leave: int = 0) -> None:
        """Read the losses that lie on a device, but for the last ``leave`` steps' own."""
        while len(self._flying) > leave:
            step, copy = self._flying.popleft()
            (self.losses[step],) = copy.numbers()

    def _take(self, loss: float | Tensor) -> None:
        """Add the loss of a step; from a device it comes some steps later, and nobody waits."""
        if isinstance(loss, Tensor) and not is_host(loss):
            self._flying.append((len(self.losses), Copy(loss.detach().reshape(1))))
            self.losses.append(math.nan)
            self.land(leave=DEVICE_LAG)
        else:
            self.losses.append(_number(loss))


class _RecordedLR(ScheduledLR):
    """A scheduler whose every observation is recorded with the rate it was made at."""

    def __init__(self, optimizer: Optimizer, schedule: Schedule[Any], record: Record) -> None:
        super().__init__(optimizer, schedule)
        self._record = record

    def step(
        self,
        loss: float | Tensor | None = None,
        count: float | None = None,
        epochs: float | None = None,
        tokens: float | None = None,
        samples: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """One row per optimizer step: the loss handed in last, and the rate it was made at."""
        lr, taken = float(self.optimizer.param_groups[0]["lr"]), self._taken()
        super().step(loss, count, epochs, tokens, samples, seconds)
        if self._taken() != taken:
            self._record(math.nan if loss is None else loss, lr)

    def _taken(self) -> int:
        """Optimizer steps that the schedule has seen, or will when their losses arrive."""
        return self.last_epoch + len(self._intake.flying)


def is_function(task: str) -> bool:
    """Whether ``task`` names a training function, such as "train.py:train".

    >>> is_function("examples/train.py:train"), is_function("digits-mlp")
    (True, False)
    """
    return task.endswith(".py") or ".py:" in task


def check_function(task: str) -> str:
    """The hash of a training function and its settings; its file is there but not yet run.

    Settings are the environment variables whose names begin with ``LRPILOT_``. Raises ValueError if
    the file or the function is missing, the file is not Python, or what has the name there is no
    function that takes a trial.
    """
    path, name = _located(task)
    if not name:
        raise ValueError(f"{task!r} names no function; write {task}:train")
    try:
        source = path.read_text()
        tree = ast.parse(source, filename=str(path))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the training function {task!r}: {error}") from None
    found = dict(_functions(tree))
    if name not in found:
        raise ValueError(
            f"{path} has no function {name!r}; it has: {', '.join(found) or 'no functions'}"
        )
    if not _takes_one(found[name]):
        raise ValueError(f"{name} in {path} cannot be called with a trial; write def {name}(trial)")
    settings = [f"{key}={os.environ[key]}" for key in sorted(os.environ) if key.startswith(SETTING)]
    # The path too: the same lines beside other modules are another training.
    text = "\n".join([*settings, str(path.resolve()), source])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train(task: str, trial: TrainingTrial) -> None:
    """Import the training function ``task`` and call it with ``trial``.

    Whatever it raises goes through. Raises ValueError if it yields no validation loss, or never
    steps the scheduler, so that every schedule would look the same.
    """
    path, name = _located(task)
    try:
        _report(trial, getattr(_imported(path), name)(trial), task)
    finally:
        trial.land()
    if not trial.losses:
        raise ValueError(
            f"{task} never stepped its scheduler, so every schedule would look the same; call "
            f"trial.scheduler(optimizer, total_steps).step(loss) after each optimizer.step()"
        )
    has_diverged = not math.isfinite(trial.evaluations[-1][1])  # and may end where it did
    if len(trial.losses) != trial.total_steps and not has_diverged:
        warnings.warn(
            f"{task} took {len(trial.losses)} steps of the {trial.total_steps} that it gave to "
            f"trial.scheduler, so schedules with a horizon did not follow it to the end",
            stacklevel=2,
        )


def _report(trial: TrainingTrial, returned: object, task: str) -> None:
    """Report what a training function has returned: None, a loss, or a list of losses."""
    losses = returned.tolist() if isinstance(returned, (Tensor, np.ndarray)) else returned
    many = cast("list[object]", losses) if isinstance(losses, list) else [losses]
    for loss in many if returned is not None else ():
        if not isinstance(loss, (int, float)) and not isinstance(loss, (Tensor, np.generic)):
            raise TypeError(
                f"{task} returned {returned!r}; return the final validation loss or a list of "
                f"them, and report a test loss with trial.report(validation_loss, test_loss)"
            )
        trial.report(cast("float", loss))
    if not trial.evaluations:
        raise ValueError(
            f"{task} yielded no validation loss; return one, or call trial.report(loss)"
        )


@cache
def _imported(path: Path) -> ModuleType:
    """The module at ``path``, run once per process, with its neighbours importable."""
    if path.stem in sys.modules:
        raise ImportError(f"a module named {path.stem!r} is loaded already; rename {path}")
    sys.path.insert(0, str(path.parent.resolve()))  # as `python train.py` does
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.arguments | None]]:
    """Names of a module that may be functions, and what each takes, where the file says it.

    Those are what it defines with def or lambda, imports from elsewhere, or gets from a call.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            # A decorator may change what it takes.
            yield node.name, None if node.decorator_list else node.args
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            yield from ((alias.asname or alias.name, None) for alias in node.names)
        elif isinstance(node, ast.Assign) and isinstance(
            node.value, (ast.Lambda, ast.Call, ast.Name, ast.Attribute)
        ):
            takes = node.value.args if isinstance(node.value, ast.Lambda) else None
            yield from ((at.id, takes) for at in node.targets if isinstance(at, ast.Name))


def _takes_one(takes: ast.arguments | None) -> bool:
    """Whether a function can be called with one positional argument, as far as is known."""
    if takes is None:
        return True
    positional = len(takes.posonlyargs) + len(takes.args)
    needed = positional - len(takes.defaults)
    needs_keyword = any(default is None for default in takes.kw_defaults)
    return needed <= 1 and (positional > 0 or takes.vararg is not None) and not needs_keyword


def _number(loss: float | Tensor) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _located(task: str) -> tuple[Path, str]:
    path, name = task.removesuffix(".py"), ""
    if ".py:" in task:
        path, _, name = task.rpartition(".py:")
    return Path(f"{path}.py"), name
