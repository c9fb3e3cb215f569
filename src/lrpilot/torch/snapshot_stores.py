"""Where snapshots are kept: in memory, or as files in a folder."""

from __future__ import annotations

import copy
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, distributed

FILE_VERSION = 1

Slot = Literal["accepted", "candidate"]
_Place = Literal["device", "pinned", "cpu"]


class Contents(NamedTuple):
    """Weights and optimizer state after ``step`` optimizer steps."""

    step: int
    weights: dict[str, Tensor]
    states: dict[str, dict[str, Any]]  # of the optimizers, a dictionary for each parameter


class Memory:
    """Two snapshots in memory, written into the same tensors again and again."""

    def __init__(self, *, on_cpu: bool) -> None:
        self._place: _Place = "pinned" if on_cpu else "device"
        self._slots: dict[Slot, Contents] = {}

    def write(self, slot: Slot, live: Contents) -> None:
        """Copy ``live`` into the slot."""
        self._slots[slot] = _copied(live, self._slots.get(slot), self._place)

    def accept(self) -> None:
        """Make the candidate the accepted one."""
        accepted = self._slots.pop("accepted", None)
        self._slots["accepted"] = self._slots.pop("candidate")
        if accepted is not None:
            self._slots["candidate"] = accepted  # for its tensors, which the next one reuses

    def read(self, slot: Slot) -> Contents | None:
        """What is in the slot; nothing at first."""
        return self._slots.get(slot)

    def saved(self, slot: Slot, step: int) -> dict[str, Any]:
        """The slot as data for a checkpoint."""
        del step
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # copies into pinned memory may be under way
        return self._slots[slot]._asdict()

    def find(self, slot: Slot, saved: object) -> Contents | None:
        """What ``saved`` gave; None if its tensors were in a folder."""
        del slot
        return _as_contents(saved, "the state") if _has_weights(saved) else None


class Folder:
    """Two snapshots as files, replaced whole or not at all; of each rank its own."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._path.mkdir(parents=True, exist_ok=True)

    def write(self, slot: Slot, live: Contents) -> None:
        """Write ``live`` to the slot's file."""
        contents = _copied(live, None, "cpu")
        unfinished = self._file(slot).with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            torch.save({"version": FILE_VERSION, **contents._asdict()}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self._file(slot))

    def accept(self) -> None:
        """Make the candidate the accepted one."""
        self._file("candidate").replace(self._file("accepted"))

    def read(self, slot: Slot) -> Contents | None:
        """What is in the slot's file, if there is one."""
        path = self._file(slot)
        if not path.exists():
            return None
        try:
            with zipfile.ZipFile(path) as archive:  # torch.load does not compare checksums
                damaged = archive.testzip()
            saved = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file may raise anything
            raise ValueError(_damaged(path, repr(error))) from error
        if damaged or not isinstance(saved, Mapping) or saved.get("version") != FILE_VERSION:
            raise ValueError(_damaged(path, f"part {damaged}" if damaged else "no snapshot in it"))
        return _as_contents(saved, str(path))

    def saved(self, slot: Slot, step: int) -> dict[str, Any]:
        """Which snapshot the slot's file holds."""
        del slot
        return {"step": step}

    def find(self, slot: Slot, saved: object) -> Contents | None:
        """What ``saved`` names or holds; None if the slot's file now holds another one."""
        if _has_weights(saved):
            return _as_contents(saved, "the state")
        contents = self.read(slot)
        step = cast("Mapping[str, Any]", saved).get("step") if isinstance(saved, Mapping) else None
        return contents if contents is not None and contents.step == step else None

    def _file(self, slot: Slot) -> Path:
        together = distributed.is_available() and distributed.is_initialized()
        ranked = together and distributed.get_world_size() > 1
        rank = f"-rank{distributed.get_rank()}" if ranked else ""
        return self._path / f"{slot}{rank}.pt"


def local(value: Any) -> Any:
    """A tensor without its graph, of a sharded one this rank's shard; both share its memory."""
    if not isinstance(value, Tensor):
        return value
    to_local = getattr(value.detach(), "to_local", None)
    return value.detach() if to_local is None else to_local()


def _copied(live: Contents, into: Contents | None, place: _Place) -> Contents:
    """A copy of ``live``, in the tensors of ``into`` where they fit."""
    weights = {} if into is None else into.weights
    states = {} if into is None else into.states
    return Contents(
        live.step,
        {name: _copy(value, weights.get(name), place) for name, value in live.weights.items()},
        {
            key: {
                name: _copy(value, states.get(key, {}).get(name), place)
                for name, value in state.items()
            }
            for key, state in live.states.items()
        },
    )


def _copy(value: Any, into: Any, place: _Place) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    device = value.device if place == "device" else torch.device("cpu")
    pinned = place == "pinned" and value.is_cuda
    fits = isinstance(into, Tensor) and (into.shape, into.dtype, into.device) == (
        value.shape,
        value.dtype,
        device,
    )
    if not fits:
        into = torch.empty_like(value, device=device, pin_memory=pinned)
    return into.copy_(value, non_blocking=pinned)


def _has_weights(saved: object) -> bool:
    return isinstance(saved, Mapping) and "weights" in saved


def _as_contents(saved: object, origin: str) -> Contents:
    """``saved`` as a snapshot, if it is one."""
    data = cast("Mapping[str, Any]", saved)
    step, weights, states = data.get("step"), data.get("weights"), data.get("states")
    if (
        type(step) is not int
        or not isinstance(weights, dict)
        or not isinstance(states, dict)
        or not all(isinstance(weight, Tensor) for weight in weights.values())
        or not all(isinstance(state, dict) for state in states.values())
    ):
        raise ValueError(_damaged(origin, f"step is {step!r}, and weights or states are missing"))
    return Contents(step, cast("dict[str, Tensor]", weights), states)


def _damaged(origin: object, what: str) -> str:
    return f"the snapshot in {origin} is damaged ({what}); delete it to go on without it"
