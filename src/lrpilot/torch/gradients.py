"""What gradients tell of the rate: whether they point where they pointed a window of steps ago."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from lrpilot.schedules.protocol import decisions_of
from lrpilot.torch.losses import is_host
from lrpilot.torch.steps import hooked

MOST = 2**16
"""Coordinates that are looked at; of larger models every so many-th one."""

KIND = torch.float32

READ = ("alignment", "persistence")
"""The fields of a `Signal` that come from gradients."""


def reads_gradients(needs: Collection[str]) -> bool:
    """Whether any of the fields of a `Signal` that a schedule needs comes from gradients."""
    return not set(READ).isdisjoint(needs)


class Told(NamedTuple):
    """What a step's gradients show, as `Signal` has it: each (...); NaN where it is not known."""

    alignment: Tensor
    persistence: Tensor


class GradientWindows:
    """Compares the gradients of one run, or of many (...), with those of their windows.

    Two buffers of the gradients' size: their sum in the window under way, and the direction of the
    window before. Nothing is read on the host.
    """

    def __init__(self, gradients: Tensor) -> None:
        """``gradients``: any of those to come, (..., coordinates)."""
        runs = gradients[..., 0]
        self.gathered = torch.zeros_like(gradients)
        self.lengths, self.count = torch.zeros_like(runs), torch.zeros_like(runs)
        self.anchor = torch.full_like(gradients, math.nan)  # unknown

    def take(self, gradients: Tensor) -> Told:
        """Take in the gradients of a step (..., coordinates); infinite ones count for nothing."""
        length = torch.linalg.vector_norm(gradients, dim=-1)
        known = length.isfinite() & (length > 0)
        gradients = torch.where(known[..., None], gradients, 0.0)
        within = (gradients * self.gathered).sum(-1) / (length * self.lengths)
        since = (gradients * self.anchor).sum(-1)
        self.gathered += gradients
        self.lengths += torch.where(known, length, 0.0)
        self.count += known
        return Told(*(torch.where(known, one, math.nan) for one in (within, since)))

    def turn(self, rows: Tensor | None = None) -> None:
        """Begin a window, of the runs in ``rows`` (...), true or false, or of all."""
        squared = self.gathered.square().sum(-1, keepdim=True)
        # Of the sum G of k gradients: ⟨g, G / k⟩ / ‖G / k‖² = ⟨g, k G / ‖G‖²⟩.
        anchor = self.gathered * (self.count[..., None] / squared)
        over = torch.ones_like(self.count) > 0 if rows is None else rows
        self.anchor = torch.where(over[..., None], anchor, self.anchor)
        self.gathered = torch.where(over[..., None], 0.0, self.gathered)
        self.lengths, self.count = (
            torch.where(over, 0.0, one) for one in (self.lengths, self.count)
        )

    def keep(self, rows: Tensor) -> None:
        """Forget all runs but these."""
        for name, value in vars(self).items():
            setattr(self, name, value[rows])


class OptimizerGradients:
    """What the gradients of an optimizer show, step by step, as its hook sees them.

    It does nothing for a schedule that does not read it. Gradients that are sparse or missing count
    as 0.
    """

    def __init__(self) -> None:
        self.is_needed = False
        self.windows: GradientWindows | None = None
        self._told: Told | None = None  # of the last step, until it is asked for
        self._decisions = 0  # of the schedule, when it was last looked at

    def follow(self, needs: Collection[str]) -> None:
        """Provide for a schedule that reads these fields of a `Signal`."""
        self.is_needed = reads_gradients(needs)

    def watch(self, optimizer: Optimizer) -> None:
        """Have ``optimizer`` show its gradients after each step, if it runs hooks."""
        inner = hooked(optimizer)
        if inner is not None and self.is_needed:
            inner.register_step_post_hook(self._stepped)

    def take(self) -> tuple[float | Tensor, float | Tensor] | None:
        """What was told since the last call: numbers if the gradients are on the host."""
        told, self._told = self._told, None
        if told is None or not is_host(told.alignment):
            return told
        return told.alignment.item(), told.persistence.item()

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
        named = {} if self.windows is None else vars(self.windows)
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
            gradients = sampled(optimizer)
            if "gathered" in values and len(values["gathered"]) == len(gradients):
                self.windows = GradientWindows(gradients)
                for name, value in vars(self.windows).items():
                    value.copy_(values[name].reshape(value.shape))
                if "told" in values:
                    self._told = Told(*values["told"].to(gradients.device))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"the state is damaged: no gradients in it ({error})") from None

    def _stepped(self, optimizer: Optimizer, args: object, kwargs: object) -> None:
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            return  # a replay runs no Python
        with torch.no_grad():
            gradients = sampled(optimizer)
            if self.windows is None or self.windows.gathered.shape != gradients.shape:
                self.windows = GradientWindows(gradients)
            self._told = self.windows.take(gradients)


def sampled(optimizer: Optimizer) -> Tensor:
    """Its gradients as one row of at most about `MOST` numbers, evenly spread: (coordinates,)."""
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    stride = -(-sum(one.numel() for one in parameters) // MOST)
    found: list[Tensor] = []
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is None or gradient.is_sparse:
            gradient = torch.zeros_like(parameter)
        gradient = _local(gradient.detach())
        found.append(gradient.reshape(-1)[:: _apart(stride, gradient.shape)])
    return torch.cat([one.to(found[0].device, KIND) for one in found])


def _local(gradient: Tensor) -> Tensor:
    """This rank's part of a sharded gradient, and real numbers of a complex one."""
    to_local = getattr(gradient, "to_local", None)
    gradient = gradient if to_local is None else to_local()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient


@lru_cache(maxsize=4096)
def _apart(stride: int, shape: tuple[int, ...]) -> int:
    """The stride, or the next one that does not meet the same rows and columns again and again."""
    while any(math.gcd(stride, size) > 1 for size in shape if size):
        stride += 1
    return stride


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().to(KIND).numpy().tobytes()
