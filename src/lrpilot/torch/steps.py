"""Which optimizer steps have been taken, whoever calls what in what order."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Optimizer


class OptimizerSteps:
    """The optimizer steps that await their observation, seen through the optimizer's own hook.

    An unfused optimizer that a ``GradScaler`` skips runs no hook; a fused one runs it and has the
    verdict in ``found_inf``.
    """

    def __init__(self) -> None:
        self.waiting = 0  # steps seen since the last observation
        # Until a step has been seen, or when none can be, each call of the scheduler is one.
        self.each_call = True
        self.is_replayed = False  # the step is in a CUDA graph, whose replay runs no Python
        self.skipped: torch.Tensor | None = None  # above 0 if all that wait were skipped
        self.groups = 0  # that the scheduler drives
        self.plain = False  # nothing but the next loss bears on the next observation
        self.quick = False  # plain, and an observation is due

    @property
    def due(self) -> bool:
        """Whether the next call of the scheduler makes an observation."""
        return self.each_call or self.waiting > 0

    @property
    def is_skipped(self) -> bool:
        """Whether all that wait were skipped; reads the device."""
        return self.skipped is not None and bool(self.skipped > 0)

    def watch(self, optimizer: Optimizer) -> None:
        """Have ``optimizer`` tell of its steps."""
        optimizer.register_step_post_hook(self._stepped)

    def saved(self) -> dict[str, Any]:
        """What a checkpoint needs; reads the device."""
        is_due, is_skipped = self.waiting > 0, self.is_skipped
        return {"is_seen": not self.each_call, "is_due": is_due, "is_skipped": is_skipped}

    def resume(self, *, is_seen: bool, is_due: bool, is_skipped: bool) -> None:
        """Go on from a checkpoint."""
        self.each_call = self.is_replayed or not is_seen
        self.waiting = int(is_due)
        self.skipped = torch.ones(()) if is_skipped else None
        self.plain = self.quick = False

    def observed(self) -> None:
        """Whatever waited has been observed."""
        self.waiting = 0
        self.skipped = None

    def _stepped(self, optimizer: Any, args: object, kwargs: object) -> None:
        found_inf: torch.Tensor | None = getattr(optimizer, "found_inf", None)
        if not self.waiting:
            self.skipped = found_inf
        elif self.skipped is not None:
            both = found_inf is not None
            self.skipped = torch.minimum(self.skipped, found_inf) if both else None
        self.waiting += 1
        if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
            self.is_replayed = True
        self.each_call = self.is_replayed
        groups = len(optimizer.param_groups)
        self.quick = self.plain and found_inf is None and groups == self.groups


def hooked(optimizer: object) -> Optimizer | None:
    """``optimizer``, or the one inside the wrapper that it is, if it runs hooks."""
    inner: object = optimizer
    for _ in range(8):  # wrappers around wrappers, but not around themselves
        # A wrapper may be an Optimizer that never ran Optimizer's constructor, and has no hooks.
        if isinstance(inner, Optimizer) and hasattr(inner, "_optimizer_step_post_hooks"):
            return inner
        inner = getattr(inner, "optimizer", None) or getattr(inner, "optim", None)
    return None
