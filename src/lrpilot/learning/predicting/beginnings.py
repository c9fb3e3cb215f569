"""What the first steps of a run show, in numbers that do not depend on the unit of its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrpilot.schedules.learned.features import NAMES as SEEN
from lrpilot.schedules.learned.features import Numbers, begun, features, seen_with
from lrpilot.schedules.learned.learned import closed

SHARE = 0.05  # of the horizon
FEWEST = 8  # losses that it must hold
WINDOWS = 4
# Of what a policy sees, that which is of the losses alone.
SHOWN = ("evidence", "trend", "speed", "setback", "noise", "noise growth", "level")
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw", "rmsprop")
LEAST_FALL = 1e-4
NAMES = ("lr", "steps", *OPTIMIZERS, "lost", *SHOWN, "fall")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What is known of a run at its start, and the losses of its first 5 %.

    optimizer: its name; an unknown one or "" counts as none of `OPTIMIZERS`. lr: the rate at which
    those losses came about. steps: the horizon.
    """

    optimizer: str
    lr: float
    steps: int
    losses: tuple[float, ...]

    def numbers(self, usual_log: float) -> list[float]:
        """Those of `NAMES`; ``usual_log``: log10 of the rate that the rate is taken against."""
        lost = not all(map(math.isfinite, self.losses))
        return [
            math.log10(self.lr) - usual_log,
            math.log10(self.steps),
            *(float(self.optimizer == name) for name in OPTIMIZERS),
            float(lost),
            *([0.0] * (len(SHOWN) + 1) if lost else [*shown(self.losses), fall(self.losses)]),
        ]


def shown(losses: Sequence[float]) -> list[float]:
    """Those of `SHOWN`, after the losses in four windows of equal size.

    >>> falling, risen = shown([8.0, 7, 6, 5, 4, 3, 2, 1]), shown([1.0, 2, 3, 4, 5, 6, 7, 8])
    >>> falling[SHOWN.index("level")] < 0 < risen[SHOWN.index("level")]
    True
    """
    size = len(losses) // WINDOWS
    windows = [np.asarray(losses[at * size : (at + 1) * size]) for at in range(WINDOWS)]
    made = [closed(size, float(x.sum()), float(np.square(np.diff(x)).sum())) for x in windows]
    seen = begun(made[0])
    for window in made[1:]:
        seen = seen_with(seen, window, Numbers)
    found = dict(zip(SEEN, features(seen, size, SHARE, 0.0, 0.0, Numbers), strict=True))
    return [found[name] for name in SHOWN]


def fall(losses: Sequence[float]) -> float:
    """log10 of the share of the loss that is gone, first window to last; -4 if nothing is.

    Where a rate is too low the loss falls in proportion to it, so this tells by how much.

    >>> fall([4.0] * 4 + [3.6] * 4)
    -1.0
    """
    size = len(losses) // WINDOWS
    first, last = sum(losses[:size]), sum(losses[-size:])
    gone = (first - last) / max(abs(first), 1e-300)
    return round(math.log10(min(max(gone, LEAST_FALL), 1.0)), 12)


def first_losses(series: Sequence[tuple[int, float]], steps: int) -> tuple[float, ...]:
    """The losses of the first 5 % of the horizon, or the first eight if these are fewer.

    series: (step, loss), steps rising. A run that was lost within them ends there.

    Raises ValueError if there are too few.
    """
    early = [loss for step, loss in series if step <= max(SHARE * steps, FEWEST)]
    if len(early) < FEWEST and all(map(math.isfinite, early)):
        raise ValueError(
            f"only {len(early)} losses were logged in the first {SHARE:.0%} of {steps:,} steps; "
            f"at least {FEWEST} are needed, so log more often"
        )
    return tuple(early)
