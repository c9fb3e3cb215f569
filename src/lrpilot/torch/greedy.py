"""GreedyLR as an ``LRScheduler``."""

from __future__ import annotations

from torch.optim import Optimizer

from lrpilot.schedules import Greedy
from lrpilot.schedules.checks import Mode
from lrpilot.torch.scheduler import ScheduledLR

_DEFAULT = Greedy()


# A subclass, not a function: users check and annotate with the name of the rule.
class GreedyLR(ScheduledLR):
    """Raise the rate while the loss improves; lower it while it does not.

    Call ``step(loss)`` once per optimizer step. The arguments are those of
    `lrpilot.schedules.Greedy`, which says what each does; bounds are multiples of the base rate.

    >>> from torch import nn, optim
    >>> model = nn.Linear(2, 1)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1)
    >>> scheduler = GreedyLR(optimizer, factor=0.5, patience=0, window=1)
    >>> for loss in (4.0, 3.0):
    ...     optimizer.step()
    ...     scheduler.step(loss)
    >>> scheduler.get_last_lr()
    [0.2]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        factor: float = _DEFAULT.factor,
        patience: int = _DEFAULT.patience,
        window: int = _DEFAULT.window,
        threshold: float = _DEFAULT.threshold,
        warmup: int = _DEFAULT.warmup,
        cooldown: int = _DEFAULT.cooldown,
        min_scale: float = _DEFAULT.min_scale,
        max_scale: float = _DEFAULT.max_scale,
        mode: Mode = _DEFAULT.mode,
    ) -> None:
        super().__init__(
            optimizer,
            Greedy(
                factor=factor,
                patience=patience,
                window=window,
                threshold=threshold,
                warmup=warmup,
                cooldown=cooldown,
                min_scale=min_scale,
                max_scale=max_scale,
                mode=mode,
            ),
        )
