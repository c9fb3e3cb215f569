"""A trained policy as an ``LRScheduler``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch.distributed as dist
from torch.optim import Optimizer

import lrpilot.schedules as schedules
from lrpilot.torch.ranks import How
from lrpilot.torch.scheduler import ScheduledLR
from lrpilot.torch.snapshots import Snapshots

if TYPE_CHECKING:  # it needs NumPy, which PyTorch does not
    from lrpilot.schedules.learned import Policy


class LearnedLR(ScheduledLR):
    """Follow a policy's base schedule, and depart from it as the policy decides from the losses.

    Call ``step(loss)`` once per optimizer step. The schedule is `lrpilot.schedules.Learned`, which
    says what the policy sees and what bounds it. The other arguments are those of `ScheduledLR`.

    total_steps: the horizon, in optimizer steps; None if it is not known.
    policy: "net" or "nmf", which come with lrpilot, the path of a file, or a `Policy`.
    snapshots: put the last good weights back where the guard brakes, and where half of what was
        gained is lost again, on which the rate is cut to a tenth.
    guard: cut the rate when the loss spikes or is not finite, as `lrpilot.schedules.Guard` does.

    >>> from torch import nn, optim
    >>> optimizer = optim.SGD(nn.Linear(2, 1).parameters(), lr=0.1)
    >>> scheduler = LearnedLR(optimizer, total_steps=100)
    >>> for loss in (4.0, 3.0, 2.5, 2.2):
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.state.inner.decisions
    1
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int | None,
        *,
        policy: Policy | str | Path = "net",
        guard: bool = True,
        lag: int | None = None,
        ranks: How = "mean",
        process_group: dist.ProcessGroup | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        learned = schedules.Learned(total_steps, policy, retreats=snapshots is not None)
        super().__init__(
            optimizer,
            schedules.Guard(learned) if guard else learned,
            lag=lag,
            ranks=ranks,
            process_group=process_group,
            snapshots=snapshots,
        )
