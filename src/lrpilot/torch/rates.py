"""The rates of an optimizer's groups: written in place, and the user's own changes respected."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch.optim import Optimizer


class Change(NamedTuple):
    """A rate that somebody else has set."""

    group: int
    old: float
    new: float
    base: float  # the group's base rate before


class Rates:
    """What the groups' rates are made of: ``base * scale``.

    Rates are looked up in the optimizer each time, since loading a state replaces tensors.
    """

    initial: list[float]  # the user's: ``initial_lr``, or the rate at the start
    base: list[float]  # the same, after what the user has changed by hand
    current: list[float]  # in force

    def __init__(self, optimizer: Optimizer, scale: float, base_lr: float | None = None) -> None:
        if not hasattr(optimizer, "param_groups"):
            raise TypeError(
                f"{type(optimizer).__name__} is not an Optimizer, nor does it wrap one: it has no "
                f"param_groups; pass the optimizer that trains the model"
            )
        self._optimizer = optimizer
        self._base_lr = base_lr  # of every group, whatever its own; None: its own
        self._marks: list[tuple[Any, int | None]] = []
        self.initial, self.base, self.current = [], [], []
        self.scale = scale  # of the rates in force
        self.adopt()

    @property
    def one(self) -> float | None:
        """The base rate of all groups, if it is one and was one throughout."""
        return self.base[0] if len({*self.base, *self.initial}) == 1 else None

    def notes(self) -> list[str]:
        """What an account of the decisions, which are common to the groups, leaves out."""
        shown = ", ".join(f"{base:.4g}" for base in self.base)
        return [] if self.one is not None else [f"base rates of the groups now: {shown}"]

    def adopt(self, *, writing: bool = True) -> None:
        """Take on groups that are new, and give them their rate."""
        groups, known = self._groups(), len(self.base)
        # All are read before any is written: groups may share one tensor.
        for group in groups[known:]:
            initial, base, current = self._begin(group, groups[:known])
            self.initial.append(initial)
            self.base.append(base)
            self.current.append(current)
        for group, current in zip(groups[known:], self.current[known:], strict=True):
            if writing:
                _put(group, current)
            self._marks.append(_mark(group))

    def _begin(
        self, group: dict[str, Any], known: list[dict[str, Any]]
    ) -> tuple[float, float, float]:
        """Initial, base and current rate of a new group."""
        if "lr" not in group:
            raise ValueError(
                f"a parameter group has no lr, only {', '.join(sorted(group))}; a schedule needs "
                f"one to multiply"
            )
        if isinstance(group["lr"], torch.Tensor):
            # A group added without a rate has the tensor of the optimizer's defaults.
            for at, other in enumerate(known):
                if other["lr"] is group["lr"]:
                    group.setdefault("initial_lr", self.initial[at])
                    return self.initial[at], self.base[at], self.current[at]
        own = _number(group.setdefault("initial_lr", _number(group["lr"])))
        base = own if self._base_lr is None else self._base_lr
        return base, base, base * self.scale

    def heed(self) -> list[Change]:
        """Take over the rates that somebody else has set since they were last written.

        The group's base rate changes in proportion, so that the schedule goes on from there.
        """
        groups = self._groups()
        touched = [
            at
            for at, (group, (lr, version)) in enumerate(zip(groups, self._marks, strict=False))
            if group["lr"] is not lr or (version is not None and lr._version != version)
        ]
        if not touched:
            return []
        found = [(at, groups[at]["lr"], self.current[at]) for at in touched]
        changes = [
            Change(at, old, _number(lr), self.base[at])
            for at, lr, old in found
            if _number(lr) != _stored(lr, old)
        ]
        for change in changes:
            if not 0 <= change.new < math.inf:
                raise ValueError(
                    f"the lr of parameter group {change.group} was set to {change.new} from "
                    f"outside; set a rate that is finite and not negative"
                )
        for at, _, new, _ in changes:
            self.current[at] = new
            if self.scale > 0 and math.isfinite(new / self.scale):
                self.base[at] = new / self.scale
        self.mark()
        return changes

    def write(self, scale: float) -> None:
        """Set every group's rate to its base rate times ``scale``."""
        self.scale = scale
        self.current = [base * scale for base in self.base]
        self.restore()

    def saved(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        found = {"initial_lrs": self.initial, "base_lrs": self.base, "lrs": self.current}
        return {name: list(lrs) for name, lrs in found.items()}

    def resume(
        self, scale: float, initial: list[float], base: list[float], current: list[float]
    ) -> None:
        """Go on from a checkpoint; the initial rates stay those of this optimizer.

        What the user had changed by hand stays changed, as a multiple.
        """
        self.base = [
            now if was == ours or not was else ours * (now / was)
            for ours, was, now in zip(self.initial, initial, base, strict=True)
        ]
        if self.initial != initial:
            self.write(scale)
            return
        # As they were, and not base * scale, which a change by hand may miss by a rounding error.
        self.scale, self.current = scale, list(current)
        self.restore()

    def restore(self) -> None:
        """Set every group's rate to the one in force, whatever it is now."""
        for group, lr in zip(self._groups(), self.current, strict=False):
            _put(group, lr)
        self.mark()

    def mark(self) -> None:
        """Remember the rates, so that a change is noticed."""
        self._marks = [_mark(group) for group in self._groups()]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_marks": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.mark()

    def _groups(self) -> list[dict[str, Any]]:
        groups = self._optimizer.param_groups
        if len(groups) < len(self.base):
            raise ValueError(
                f"the optimizer has {len(groups)} parameter groups where this scheduler drives "
                f"{len(self.base)}: a group has vanished, and which rate is whose is not known; "
                f"keep the group with lr 0, or make a new scheduler"
            )
        return groups


def _number(lr: Any) -> float:
    return float(lr.detach()) if isinstance(lr, torch.Tensor) else float(lr)


def _put(group: dict[str, Any], lr: float) -> None:
    # In place, so that captured graphs and compiled steps see the change.
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].detach().fill_(lr)
    else:
        group["lr"] = lr


def _mark(group: dict[str, Any]) -> tuple[Any, int | None]:
    """A rate and the count of writes into it, by which to see, without reading it, that it is old.

    To read a tensor is to wait for its device.
    """
    lr = group["lr"]
    return lr, lr._version if isinstance(lr, torch.Tensor) else None


def _stored(like: object, lr: float) -> float:
    """The rate ``lr`` as it reads back from where ``like`` is."""
    return torch.tensor(lr, dtype=like.dtype).item() if isinstance(like, torch.Tensor) else lr
