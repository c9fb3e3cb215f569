"""Losses on their way from the training loop to the host, read without waiting for a device."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, SupportsFloat, cast

import torch

from lrpilot.schedules import Signal

DEVICE_LAG = 4
"""Steps after which a loss on a device is read, unless the user says otherwise."""


AMOUNTS = 6
"""So many fields of `Losses` come first that are added up."""


class Losses(NamedTuple):
    """The losses of one optimizer step, of any number of batches, and what these consumed.

    The total is a sum of losses, each times its weight; their mean is what the schedule sees.
    """

    total: float | torch.Tensor = 0.0  # a tensor of one double while it is on a device
    weight: float = 0.0
    epochs: float = 0.0
    tokens: float = 0.0
    samples: float = 0.0
    seconds: float = 0.0
    # Of gradients and weights, as a `Signal` has them: no sums, but those of the last batch that
    # told.
    alignment: float | torch.Tensor = math.nan
    persistence: float | torch.Tensor = math.nan
    movement: float | torch.Tensor = math.nan
    travel: float | torch.Tensor = math.nan
    evenness: float | torch.Tensor = math.nan

    @property
    def is_nothing(self) -> bool:
        """Whether there is no loss, and nothing was consumed."""
        return not any(self[1:AMOUNTS])

    def plus(self, other: Losses) -> Losses:
        """Both together."""
        if self.is_nothing:
            return other
        numbers = map(operator.add, self[1:AMOUNTS], other[1:AMOUNTS])
        told = other if other.has_told else self
        return Losses(self.total + other.total, *numbers)._replace(**told.measured())

    @property
    def has_told(self) -> bool:
        """Whether anything is known of gradients or weights."""
        told = self[AMOUNTS:]
        return any(isinstance(one, torch.Tensor) or math.isfinite(one) for one in told)

    def measured(self) -> dict[str, Any]:
        """What is told of gradients and weights, by name."""
        return dict(zip(self._fields[AMOUNTS:], self[AMOUNTS:], strict=True))

    def here(self) -> Losses:
        """The same on the host, after waiting for it if need be."""
        return depart(self, None).land().losses

    def signal(self) -> Signal:
        """What the schedule sees; the loss is NaN if there was none."""
        total, weight, *consumed = cast("tuple[float, ...]", self[:AMOUNTS])
        loss = total / weight if weight else math.nan
        return Signal(loss, *consumed, **self.measured())

    def pack(self) -> list[float | str]:
        """The numbers as strict JSON-able data, which has a word for infinity and NaN."""
        numbers = cast("tuple[float, ...]", self if self.has_told else self[:AMOUNTS])
        return [number if math.isfinite(number) else repr(number) for number in numbers]

    @classmethod
    def unpack(cls, data: object) -> Losses:
        """What ``pack`` wrote. Raises ValueError if it is damaged."""
        with suppress(TypeError, ValueError, OverflowError):
            losses = cls(*(float(number) for number in cast("list[Any]", data)))
            if isinstance(data, list) and losses.pack() == data:
                return losses
        raise ValueError(f"the state is damaged: {data!r} are no losses")


NOTHING = Losses()


class OneLoss(list[float]):
    """Stands in for a `Signal` of which the schedule reads the loss alone, at a sixth of its cost.

    One object serves every step, since a schedule keeps numbers, not signals.
    """

    __slots__ = ("loss",)
    loss: float  # item 0 as well

    def __init__(self) -> None:
        super().__init__(Signal())


def losses_of(
    loss: object, count: float | None, consumed: Mapping[str, float | None], *, waits: bool
) -> Losses:
    """One loss, the mean of ``count``, and what its batch consumed, checked.

    waits: a loss on a device is read at once; otherwise it stays there as a copy, without a graph.
    """
    weight = 1.0 if count is None else _amount("count", count)
    numbers = {name: _amount(name, value) for name, value in consumed.items() if value is not None}
    if isinstance(loss, torch.Tensor):
        if loss.numel() != 1:
            raise ValueError(
                f"loss must be one number, got a tensor of shape {tuple(loss.shape)}; pass its mean"
            )
        if loss.is_complex() or loss.is_meta:
            raise TypeError(f"loss must be a real number with a value, got {loss!r}")
        number = loss.detach()
        if not waits and not is_host(number):
            number = number.reshape(()).to(wide(number.device))
        else:
            number = float(number)
    else:
        number = _number(loss)
    # A batch without anything in it has no loss, whatever its mean says.
    # The product is a copy, so that a loss which the next replay of a graph overwrites may be told.
    return Losses(number * weight if weight else 0.0, weight, **numbers)


def at_hand(loss: object) -> float | None:
    """A loss that is one number in a tensor; None if it is anything else."""
    if isinstance(loss, torch.Tensor) and loss.numel() == 1:
        return float(loss.detach())
    return None


def unread(loss: object) -> float:
    """What a schedule that reads no loss is given."""
    del loss
    return math.nan


def lag_of(loss: object) -> int | None:
    """The lag that a loss on a device asks for; None if it can be read at once."""
    is_away = isinstance(loss, torch.Tensor) and not is_host(loss)
    return DEVICE_LAG if is_away else None


def is_host(tensor: torch.Tensor) -> bool:
    """Whether reading the tensor waits for nothing."""
    return tensor.device.type == "cpu"


def wide(device: torch.device) -> torch.dtype:
    """Double precision, in which the sum of a few single-precision losses is exact."""
    return torch.float32 if device.type == "mps" else torch.float64  # which has no doubles


class Landed(NamedTuple):
    """Losses that are on the host."""

    losses: Losses
    skipped: bool  # the optimizer step was, so they are part of the next observation

    def land(self) -> Landed:
        """Nothing to wait for."""
        return self


class Copy:
    """A small tensor on its way to the host."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._here, self._event = tensor, None
        if not is_host(tensor):
            on_accelerator = torch.accelerator.is_available()
            self._here = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=on_accelerator)
            self._here.copy_(tensor, non_blocking=True)
            if on_accelerator:
                self._event = torch.Event(tensor.device)
                self._event.record()

    def numbers(self) -> list[float]:
        """The values, after waiting for them if they have not come yet."""
        if self._event is not None and not self._event.query():
            self._event.synchronize()
        return self._here.tolist()


class Flight:
    """Losses of one process on their way to the host, and whether their step was skipped."""

    def __init__(self, losses: Losses, skipped: torch.Tensor | None) -> None:
        self._losses = losses
        found = losses._asdict() | {"skipped": skipped}
        self._away = {key: one for key, one in found.items() if isinstance(one, torch.Tensor)}
        away = list(self._away.values())
        device = away[0].device
        self._copy = Copy(torch.stack([one.reshape(()).to(device, wide(device)) for one in away]))

    def land(self) -> Landed:
        """What was sent, after waiting for it if need be."""
        numbers = dict(zip(self._away, self._copy.numbers(), strict=True))
        skipped = numbers.pop("skipped", 0.0) > 0
        return Landed(self._losses._replace(**numbers), skipped)


def depart(losses: Losses, skipped: torch.Tensor | None) -> Landed | Flight:
    """Send the losses to the host, where those of a host already are."""
    is_away = any(isinstance(one, torch.Tensor) for one in losses)
    if is_away or not (skipped is None or is_host(skipped)):
        return Flight(losses, skipped)
    return Landed(losses, skipped is not None and bool(skipped > 0))


def _number(loss: object) -> float:
    # A NumPy float is one too, and would end up in checkpoints; float() alone would read a string.
    if isinstance(loss, float | SupportsFloat):
        with suppress(TypeError, ValueError, OverflowError):
            return float(loss)
    raise TypeError(f"loss must be a number or a tensor of one element, got {loss!r}")


def _amount(name: str, value: object) -> float:
    if isinstance(value, float | SupportsFloat) and not isinstance(value, torch.Tensor):
        number = float(value)
        if 0 <= number < math.inf:
            return number
        raise ValueError(f"{name} must be at least 0 and finite, got {value!r}")
    raise TypeError(f"{name} must be a number known to the host, got {value!r}")
