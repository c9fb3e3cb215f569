"""One observation out of what the ranks of a distributed training saw, so that they agree."""

from __future__ import annotations

import zlib
from typing import Literal, cast

import torch
import torch.distributed as dist

from lrpilot.torch.losses import AMOUNTS, NOTHING, Copy, Landed, Losses, is_host, wide

How = Literal["mean", "first", "given"]

FINGERPRINTS = 2**20  # sums of their squares over thousands of ranks are exact in doubles
SKIPPED = AMOUNTS  # its place in a row
TOLD = len(Losses._fields) - AMOUNTS  # numbers that come after it


def ranks_of(how: How, group: dist.ProcessGroup | None, device: torch.device) -> Ranks | None:
    """The ranks whose losses are to be summed; None if this process is alone or need not ask."""
    is_needed = how != "given" and dist.is_available() and dist.is_initialized()
    return Ranks(how, group, device) if is_needed and dist.get_world_size(group) > 1 else None


class Ranks:
    """The ranks whose losses are summed, in one small all-reduce per observation.

    how: "mean", or "first", for which the other ranks send zeros.
    device: where the parameters are; the reduction takes place there if the backend can.
    """

    def __init__(self, how: How, group: dist.ProcessGroup | None, device: torch.device) -> None:
        self._group = group
        self._device = _meeting_place(group, device)
        self._counts = how == "mean" or dist.get_rank(group) == 0

    def depart(self, losses: Losses, skipped: torch.Tensor | None, agreed: object) -> Reduction:
        """Start to sum the losses.

        agreed: what must be the same on all ranks.
        """
        if not self._counts:
            losses, skipped = Losses(*NOTHING[:AMOUNTS], *([0.0] * TOLD)), None
        total, *consumed = losses[:AMOUNTS]
        fingerprint = zlib.crc32(repr(agreed).encode()) % FINGERPRINTS
        away = isinstance(total, torch.Tensor)
        told = losses[AMOUNTS:]
        known = [0.0 if isinstance(one, torch.Tensor) else one for one in told]
        end = [self._counts, fingerprint, fingerprint**2]
        row = [0.0 if away else total, *consumed, 0.0, *known, *end]
        on_accelerator = self._device.type != "cpu"
        sent = torch.tensor(row, dtype=wide(self._device), pin_memory=on_accelerator)
        sent = sent.to(self._device, non_blocking=True)
        if isinstance(total, torch.Tensor):
            sent[0].copy_(total)
        for at, one in enumerate(told, start=SKIPPED + 1):
            if isinstance(one, torch.Tensor):
                sent[at].copy_(one)
        if skipped is not None:
            sent[SKIPPED].copy_(skipped.reshape(()))
        return Reduction(sent, self._group)


class Reduction:
    """Losses of all ranks on their way to the host."""

    def __init__(self, row: torch.Tensor, group: dist.ProcessGroup | None) -> None:
        self._row, self._ranks = row, dist.get_world_size(group)
        self._work = cast("dist.Work", dist.all_reduce(row, group=group, async_op=True))
        self._copy = None if is_host(row) else self._reduced()  # there, only the device waits

    def land(self) -> Landed:
        """What the ranks saw together, the same on each.

        Raises ValueError, on each, if they have come apart.
        """
        self._copy = self._copy or self._reduced()
        numbers = self._copy.numbers()
        sums, skipped, told = numbers[:SKIPPED], numbers[SKIPPED], numbers[SKIPPED + 1 : -3]
        counted, fingerprints, squares = numbers[-3:]
        if self._ranks * squares != fingerprints**2:  # equal only if all fingerprints are
            raise ValueError(
                "the ranks have come apart: their schedules are not in the same state (steps, "
                "scale, settings or lag); load the same state on every rank, and call step() "
                "equally often on each"
            )
        losses = Losses(*sums, *(one / counted for one in told))
        epochs, seconds = losses.epochs / counted, losses.seconds / counted
        return Landed(losses._replace(epochs=epochs, seconds=seconds), skipped > 0)

    def _reduced(self) -> Copy:
        self._work.wait()
        return Copy(self._row)


def _meeting_place(group: dist.ProcessGroup | None, device: torch.device) -> torch.device:
    """A device for which the group has a backend."""
    backends = dist.get_backend_config(group).split(",")
    types = {backend.split(":")[0] for backend in backends}
    if device.type in types:
        return device
    if "cpu" in types:
        return torch.device("cpu")
    return torch.accelerator.current_accelerator() or device
