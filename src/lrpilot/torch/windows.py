"""What gradients and weights tell of the rate, window by window between a schedule's decisions."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrpilot.schedules.protocol import decisions_of
from lrpilot.torch.gradients import GradientWindows
from lrpilot.torch.losses import is_host
from lrpilot.torch.steps import hooked
from lrpilot.torch.weights import WeightWindows

MOST = 2**16
"""Coordinates that are looked at; of larger models every so many-th one."""

KIND = torch.float32


class Told(NamedTuple):
    """Of a step, as `Signal` has it: numbers or tensors (...); NaN where it is not known."""

    alignment: Any
    persistence: Any
    movement: Any
    travel: Any
    evenness: Any


def reads_windows(needs: Collection[str]) -> bool:
    """Whether any of the fields of a `Signal` that a schedule needs is told here."""
    return not set(Told._fields).isdisjoint(needs)


class Windows:
    """Compares gradients and weights of one run, or of many (...), with those of before."""

    def __init__(self, weights: Tensor) -> None:
        """``weights`` before the first step (..., coordinates)."""
        self.of_gradients, self.of_weights = GradientWindows(weights), WeightWindows(weights)

    def take(self, gradients: Tensor, weights: Tensor) -> Told:
        """Take in a step's gradients and the weights after it (..., coordinates)."""
        return Told(*self.of_gradients.take(gradients), *self.of_weights.take(weights))

    def turn(self, rows: Tensor | None = None) -> None:
        """Begin a window, of the runs in ``rows`` (...), true or false, or of all."""
        self.of_gradients.turn(rows)
        self.of_weights.turn(rows)

    def keep(self, rows: Tensor) -> None:
        """Forget all runs but these."""
        self.of_gradients.keep(rows)
        self.of_weights.keep(rows)

    def buffers(self) -> dict[str, Tensor]:
        """All that is remembered, by name."""
        return {**vars(self.of_gradients), **vars(self.of_weights)}


class OptimizerWindows:
    """What the gradients and weights of an optimizer tell, step by step, as its hooks see them.

    It does nothing for a schedule that does not read it. Gradients that are sparse or missing count
    as 0.
    """

    def __init__(self) -> None:
        self.is_needed = False
        self.windows: Windows | None = None
        self._told: Told | None = None  # of the last step, until it is asked for
        self._decisions = 0  # of the schedule, when it was last looked at

    def follow(self, needs: Collection[str]) -> None:
        """Provide for a schedule that reads these fields of a `Signal`."""
        self.is_needed = reads_windows(needs)

    def watch(self, optimizer: Optimizer) -> None:
        """Have ``optimizer`` show them around each step, if it runs hooks."""
        inner = hooked(optimizer)
        if inner is not None and self.is_needed:
            inner.register_step_pre_hook(self._steps)
            inner.register_step_post_hook(self._stepped)

    def take(self) -> Told | None:
        """What was told since the last call: numbers if they are on the host."""
        told, self._told = self._told, None
        if told is None or not is_host(told.alignment):
            return told
        return Told(*(one.item() for one in told))

    def heed(self, state: object) -> None:
        """Compare with what came since the schedule's last decision, if it has made another."""
        if not self.is_needed:
            return
        decisions = decisions_of(state)
        if decisions != self._decisions and self.windows is not None:
            self.windows.turn()
        self._decisions = decisions

    def pack(self) -> dict[str, Any] | None:
        """All that is remembered, as strict JSON-able data."""
        if not self.is_needed:
            return None
        named = {} if self.windows is None else self.windows.buffers()
        told = None if self._told is None else torch.stack(self._told)
        tensors = named | ({} if told is None else {"told": told})
        packed = {name: base64.b64encode(_bytes(one)).decode() for name, one in tensors.items()}
        return {"decisions": self._decisions, **packed}

    def resume(self, data: Mapping[str, Any] | None, optimizer: Optimizer) -> None:
        """Go on from what ``pack`` returned, if it fits the parameters; else from nothing.

        Raises ValueError if it is damaged.
        """
        self.windows = self._told = None
        if data is None or not self.is_needed:
            return
        try:
            self._decisions = data["decisions"]
            values = {
                name: torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=KIND)
                for name, text in data.items()
                if name != "decisions"
            }
            weights = sampled(optimizer, _weight)
            if "gathered" in values and len(values["gathered"]) == len(weights):
                self.windows = Windows(weights)
                for name, value in self.windows.buffers().items():
                    value.copy_(values[name].reshape(value.shape))
                if "told" in values:
                    self._told = Told(*values["told"].to(weights.device))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"the state is damaged: no windows in it ({error})") from None

    def _steps(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        if self.windows is None and not _is_captured():
            self.windows = Windows(sampled(optimizer, _weight))

    def _stepped(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        if _is_captured():
            return
        gradients, weights = sampled(optimizer, _gradient), sampled(optimizer, _weight)
        if self.windows is None or self.windows.of_weights.now.shape != weights.shape:
            self.windows = Windows(weights)  # of parameters that were not there before the step
        self._told = self.windows.take(gradients, weights)


def _is_captured() -> bool:
    """Whether this is a step of a CUDA graph, whose replay runs no Python."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def sampled(optimizer: Optimizer, of: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``of`` each parameter there is, as one row of at most about `MOST` numbers.

    Evenly spread: (coordinates,), a copy.
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    stride = -(-sum(one.numel() for one in parameters) // MOST)
    found: list[Tensor] = []
    for parameter in parameters:
        part = _local(of(parameter).detach())
        found.append(part.reshape(-1)[:: _apart(stride, part.shape)])
    return torch.cat([one.to(found[0].device, KIND) for one in found])


def _weight(parameter: Tensor) -> Tensor:
    return parameter


def _gradient(parameter: Tensor) -> Tensor:
    gradient = parameter.grad
    return torch.zeros_like(parameter) if gradient is None or gradient.is_sparse else gradient


def _local(tensor: Tensor) -> Tensor:
    """This rank's part of a sharded tensor, and real numbers of a complex one."""
    to_local = getattr(tensor, "to_local", None)
    tensor = tensor if to_local is None else to_local()
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


@lru_cache(maxsize=4096)
def _apart(stride: int, shape: tuple[int, ...]) -> int:
    """The stride, or the next one that does not meet the same rows and columns again and again."""
    while any(math.gcd(stride, size) > 1 for size in shape if size):
        stride += 1
    return stride


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().to(KIND).numpy().tobytes()
