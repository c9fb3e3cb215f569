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
from lrpilot.torch.gradients import GradientWindows, Pointed
from lrpilot.torch.losses import is_host
from lrpilot.torch.steps import hooked
from lrpilot.torch.weights import Moved, WeightWindows

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

    def __init__(self, weights: Tensor, needs: Collection[str], *, is_start: bool = True) -> None:
        """``weights`` before the first step (..., coordinates), or, if not, before any other.

        needs: the fields of a `Signal` that are to be told; of the others some are not.
        """
        reads_gradients, reads_weights = (
            not set(kind._fields).isdisjoint(needs) for kind in (Pointed, Moved)
        )
        self.of_gradients = GradientWindows(weights) if reads_gradients else None
        self.of_weights = WeightWindows(weights, is_start=is_start) if reads_weights else None
        self.size = weights.shape[-1]
        self._unknown = torch.full_like(weights[..., 0], math.nan)

    @classmethod
    def of(
        cls, weights: Tensor, needs: Collection[str], *, is_start: bool = True
    ) -> Windows | None:
        """None if none of what is needed is told here."""
        return cls(weights, needs, is_start=is_start) if reads_windows(needs) else None

    def take(self, gradients: Tensor, weights: Tensor) -> Told:
        """Take in a step's gradients and the weights after it (..., coordinates)."""
        pointed = self.of_gradients and self.of_gradients.take(gradients)
        moved = self.of_weights and self.of_weights.take(weights)
        return Told(*(pointed or [self._unknown] * 2), *(moved or [self._unknown] * 3))

    def turn(self, rows: Tensor | None = None) -> None:
        """Begin a window, of the runs in ``rows`` (...), true or false, or of all."""
        for one in (self.of_gradients, self.of_weights):
            if one is not None:
                one.turn(rows)

    def keep(self, rows: Tensor) -> None:
        """Forget all runs but these."""
        self._unknown = self._unknown[rows]
        for one in (self.of_gradients, self.of_weights):
            if one is not None:
                one.keep(rows)

    def buffers(self) -> dict[str, Tensor]:
        """All that is remembered, by name."""
        gradients = {} if self.of_gradients is None else vars(self.of_gradients)
        if self.of_weights is None:
            return gradients
        latest = {f"latest{at}": one for at, one in enumerate(self.of_weights.latest)}
        return {
            **gradients,
            "start": self.of_weights.start,
            "before": self.of_weights.before,
            **latest,
        }


class OptimizerWindows:
    """What the gradients and weights of an optimizer tell, step by step, as its hooks see them.

    It does nothing for a schedule that does not read it. Gradients that are sparse or missing count
    as 0; parameters that are frozen count for nothing.
    """

    def __init__(self) -> None:
        self.needs: Collection[str] = ()
        self.is_needed = False
        self.windows: Windows | None = None
        self._told: Told | None = None  # of the last step, until it is asked for
        self._decisions = 0  # of the schedule, when it was last looked at
        self._has_begun = False  # what the weights were before the first step is not to be seen

    def follow(self, needs: Collection[str]) -> None:
        """Provide for a schedule that reads these fields of a `Signal`."""
        self.needs, self.is_needed = needs, reads_windows(needs)

    def watch(self, optimizer: Optimizer) -> None:
        """Have ``optimizer`` show them around each step, if it runs hooks."""
        inner = hooked(optimizer)
        if inner is not None and self.is_needed:
            inner.register_step_pre_hook(self._before_step)
            inner.register_step_post_hook(self._after_step)

    def take(self) -> Told | None:
        """What was told since the last call: numbers if they are on the host."""
        told, self._told = self._told, None
        if told is None or not is_host(told.alignment):
            return told
        return Told(*torch.stack(told).tolist())

    def heed(self, state: object, late: int = 0) -> None:
        """Compare with what came since the schedule's last decision, if it has made another.

        late: steps that have been taken since the one that the schedule has seen last. A window
        that is no longer than that is over before its beginning is known; its movement is told from
        the one before.
        """
        if not self.is_needed:
            return
        decisions = decisions_of(state)
        if self.windows is not None:
            if self.windows.of_weights is not None:
                self.windows.of_weights.late = late
            if decisions > self._decisions:  # fewer, if what counted as steps were micro-batches
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

        Raises ValueError if it is damaged; then nothing has changed.
        """
        if not self.is_needed:
            return
        weights = sampled(optimizer, _weight)
        try:
            decisions, windows, told = self._unpacked(data or {"decisions": 0}, weights)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"the state is damaged: no windows in it ({error})") from None
        self._decisions, self.windows, self._told = decisions, windows, told
        # A state from before the first step has nothing in it but that there were no decisions.
        self._has_begun = data is None or len(data) > 1

    def _unpacked(
        self, data: Mapping[str, Any], weights: Tensor
    ) -> tuple[int, Windows | None, Told | None]:
        values = {
            name: torch.frombuffer(bytearray(base64.b64decode(text, validate=True)), dtype=KIND)
            for name, text in data.items()
            if name != "decisions"
        }
        rows = values.get("gathered", values.get("start"))
        if rows is None or len(rows) != len(weights):
            return data["decisions"], None, None
        windows = Windows(weights, self.needs)
        if windows.of_weights is not None:
            count = sum(name.startswith("latest") for name in values)
            windows.of_weights.latest = [torch.empty_like(weights) for _ in range(count)]
            windows.of_weights.late = count - 1
        for name, value in windows.buffers().items():
            value.copy_(values[name].reshape(value.shape))
        told = Told(*values["told"].to(weights.device)) if "told" in values else None
        return data["decisions"], windows, told

    def _before_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        if self.windows is None and not _is_captured():
            weights = sampled(optimizer, _weight)
            self.windows = Windows(weights, self.needs, is_start=not self._has_begun)
            self._has_begun = True

    def _after_step(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        if _is_captured():
            return
        gradients, weights = sampled(optimizer, _gradient), sampled(optimizer, _weight)
        if self.windows is None or self.windows.size != len(weights):
            self.windows = Windows(weights, self.needs, is_start=False)
        self._told = self.windows.take(gradients, weights)


def _is_captured() -> bool:
    """Whether this is a step of a CUDA graph, whose replay runs no Python."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def sampled(optimizer: Optimizer, of: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``of`` each parameter that is trained there is, in at most about `MOST` numbers.

    Evenly spread: (coordinates,), a copy; one 0 if there is none.
    """
    parameters = [
        one for group in optimizer.param_groups for one in group["params"] if one.requires_grad
    ]
    stride = -(-sum(one.numel() for one in parameters) // MOST)
    found: list[Tensor] = []
    for parameter in parameters:
        part = _local(of(parameter).detach())
        found.append(part.reshape(-1)[:: apart(stride, part.shape)])
    row = [one.to(found[0].device, KIND) for one in found if one.numel()]
    return torch.cat(row) if row else torch.zeros(1, dtype=KIND)


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
def apart(stride: int, shape: tuple[int, ...]) -> int:
    """The stride, or the next one that does not meet the same rows and columns again and again."""
    while any(math.gcd(stride, size) > 1 for size in shape if size):
        stride += 1
    return stride


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().to(KIND).numpy().tobytes()
