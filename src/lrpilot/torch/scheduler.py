"""A real ``LRScheduler`` over any lrpilot schedule."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, SupportsFloat, TypeGuard, cast

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrpilot.schedules import Schedule, Signal, pack, unpack

STATE_VERSION = 1


class ScheduledLR(LRScheduler):
    """Multiply every parameter group's base rate by the schedule's scale.

    Call ``step(loss)`` once per optimizer step, after ``optimizer.step()``. The base rate of a
    group is its ``initial_lr``, or the rate it had when the scheduler was made. Groups keep their
    ratios. A tensor rate is written in place. The rate is set, not multiplied, so of two schedulers
    over one optimizer the one that steps last decides.
    """

    schedule: Schedule[Any]
    state: Any  # the schedule's named tuple

    def __init__(self, optimizer: Optimizer, schedule: Schedule[Any]) -> None:
        if isinstance(schedule, type) or not hasattr(schedule, "init"):
            raise TypeError(
                f"schedule must be a schedule such as Greedy() or OpenLoop(Cosine(), "
                f"total_steps=1000), got {schedule!r}"
            )
        self.schedule = schedule
        self.state = schedule.init()
        super().__init__(optimizer)

    def step(self, loss: float | torch.Tensor | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Observe one optimizer step's loss and set the rates of the next step.

        loss: training loss of the step, a number or a tensor of one element, on any device; its
            graph is not kept. A schedule that needs no loss does not read it.
        """
        scale = self.state.scale
        signal = Signal(self._observed(loss)) if "loss" in self.schedule.needs else Signal()
        self.state = self.schedule.update(self.state, signal)
        self._step_count += 1
        self.last_epoch += 1
        if self.state.scale != scale or len(self._last_lr) != len(self.optimizer.param_groups):
            self._write()

    def get_lr(self) -> list[float | torch.Tensor]:
        """The rate that each parameter group's schedule asks for now, as floats."""
        self._adopt_new_groups()
        return [base_lr * self.state.scale for base_lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, as strict JSON-able data without settings.

        Of the settings there is a fingerprint, by which a resume under others is noticed.
        """
        self._adopt_new_groups()
        return {
            "version": STATE_VERSION,
            "schedule": type(self.schedule).__name__,
            "settings": _fingerprint(self.schedule),
            "state": pack(self.state),
            "steps": self.last_epoch,
            "base_lrs": list(self.base_lrs),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Resume from ``state_dict()``; settings and base rates stay those of this scheduler.

        Raises ValueError if the state is of another schedule, another version, or damaged; then
        nothing has changed. Warns if the settings or base rates were others when it was saved.
        """
        name = type(self.schedule).__name__
        if not isinstance(state_dict, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"this is not a scheduler's state: {state_dict!r}")
        if state_dict.get("version") != STATE_VERSION or state_dict.get("schedule") != name:
            raise ValueError(
                f"this is not a version {STATE_VERSION} state of a scheduler over {name}: it has "
                f"version {state_dict.get('version')!r} and schedule "
                f"{state_dict.get('schedule')!r}; load what the same scheduler saved"
            )
        state = unpack(self.schedule, state_dict.get("state", {}))
        steps, saved = state_dict.get("steps"), state_dict.get("base_lrs")
        if type(steps) is not int or steps < 0 or not _are_rates(saved):
            raise ValueError(f"the state is damaged: steps is {steps!r} and base_lrs is {saved!r}")
        if len(saved) != len(self.optimizer.param_groups):
            raise ValueError(
                f"the state has {len(saved)} parameter groups and this optimizer "
                f"{len(self.optimizer.param_groups)}; add or remove groups before loading"
            )
        self._adopt_new_groups()
        if state_dict.get("settings") != _fingerprint(self.schedule):
            warnings.warn(
                f"the state was saved under other settings than {self.schedule!r}; keeping the "
                f"latter",
                stacklevel=2,
            )
        if saved != self.base_lrs:
            warnings.warn(
                f"the saved base rates {saved} differ from this optimizer's {self.base_lrs}; "
                f"keeping the latter",
                stacklevel=2,
            )
        self.state = state
        self.last_epoch = steps
        self._step_count = steps + 1
        self._write()

    def _initial_step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Set the first rates; LRScheduler's constructor and SequentialLR's call it."""
        self.base_lrs = [float(base_lr) for base_lr in self.base_lrs]
        self._step_count = 1
        self.last_epoch += 1
        self._write()

    def _observed(self, loss: object) -> float:
        if isinstance(loss, float):
            return float(loss)  # a NumPy float is one too, and would end up in checkpoints
        if isinstance(loss, torch.Tensor):
            if loss.numel() != 1:
                raise ValueError(
                    f"loss must be one number, got a tensor of shape {tuple(loss.shape)}; "
                    f"pass its mean"
                )
            return float(loss.detach())
        if loss is None:
            raise TypeError(
                f"step() got no loss, and {type(self.schedule).__name__} decides from the loss; "
                f"call step(loss) once after each optimizer.step(), not through a scheduler such "
                f"as SequentialLR that passes none"
            )
        if isinstance(loss, SupportsFloat):  # float() alone would read a string
            with suppress(TypeError, ValueError):
                return float(loss)
        raise TypeError(f"loss must be a number or a tensor of one element, got {loss!r}")

    def _write(self) -> None:
        rates = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            # In place, so that captured graphs and compiled steps see the change.
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        self._last_lr = rates

    def _adopt_new_groups(self) -> None:
        for group in self.optimizer.param_groups[len(self.base_lrs) :]:
            self.base_lrs.append(float(group.setdefault("initial_lr", float(group["lr"]))))


def _fingerprint(schedule: Schedule[Any]) -> str:
    """A hash of the settings; the address in a function's repr is not one of them."""
    settings = re.sub(r" at 0x[0-9a-f]+", "", repr(schedule))
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _are_rates(values: object) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(
        isinstance(value, float) and math.isfinite(value) for value in cast("list[object]", values)
    )
