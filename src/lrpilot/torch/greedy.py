"""GreedyLR as an ``LRScheduler``."""

from __future__ import annotations

import torch.distributed as dist
from torch.optim import Optimizer

from lrpilot.schedules import Greedy
from lrpilot.schedules.checks import Mode
from lrpilot.schedules.greedy import Test, ThresholdMode, Variant
from lrpilot.torch.ranks import How
from lrpilot.torch.scheduler import ScheduledLR
from lrpilot.torch.snapshots import Snapshots


# A subclass, not a function: users check and annotate with the name of the rule.
class GreedyLR(ScheduledLR):
    """Raise the rate while the loss improves; lower it while it worsens.

    Call ``step(loss)`` once per optimizer step. The settings are those of
    `lrpilot.schedules.Greedy`, which says what each does; None is the variant's default. Bounds are
    multiples of the base rate. A published variant works on absolute rates instead: its
    ``min_scale`` and ``max_scale`` are rates, and the groups must begin at one common rate. The
    other arguments are those of `ScheduledLR`.

    >>> from torch import nn, optim
    >>> model = nn.Linear(2, 1)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> scheduler = GreedyLR(optimizer, factor=0.5, window=1)
    >>> for loss in (9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0):
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr(), scheduler.state.reason
    ([0.2], 'raise')
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        variant: Variant = "blog",
        test: Test | None = None,
        factor: float | None = None,
        patience: int | None = None,
        window: int | None = None,
        evidence: float | None = None,
        threshold: float | None = None,
        threshold_mode: ThresholdMode | None = None,
        warmup: int | None = None,
        cooldown: int | None = None,
        min_scale: float | None = None,
        max_scale: float | None = None,
        eps: float | None = None,
        reset_after: int | None = None,
        spike: bool | None = None,
        adaptive: bool | None = None,
        mode: Mode | None = None,
        lag: int | None = None,
        ranks: How = "mean",
        process_group: dist.ProcessGroup | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        is_published = variant != "blog"
        greedy = Greedy(
            variant=variant,
            test=test,
            factor=factor,
            patience=patience,
            window=window,
            evidence=evidence,
            threshold=threshold,
            threshold_mode=threshold_mode,
            warmup=warmup,
            cooldown=cooldown,
            min_scale=min_scale,
            max_scale=max_scale,
            eps=eps,
            reset_after=reset_after,
            start_scale=_common_rate(optimizer, variant) if is_published else None,
            spike=spike,
            adaptive=adaptive,
            mode=mode,
        )
        super().__init__(
            optimizer,
            greedy,
            base_lr=1.0 if is_published else None,
            lag=lag,
            ranks=ranks,
            process_group=process_group,
            snapshots=snapshots,
        )


def _common_rate(optimizer: Optimizer, variant: str) -> float:
    rates = sorted({float(group["lr"]) for group in getattr(optimizer, "param_groups", ())})
    if len(rates) != 1:
        raise ValueError(
            f"variant {variant!r} has one absolute rate for all parameter groups, got the rates "
            f"{rates}; begin all groups at one rate, or use variant 'blog', which keeps ratios"
        )
    return rates[0]
