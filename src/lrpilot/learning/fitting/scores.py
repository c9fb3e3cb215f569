"""How good a schedule is on a case: ln of its final loss over that of the best stored schedule."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lrpilot.bench.trial import Outcome

# A run that is lost counts as ten times the loss, and no run counts for more, in either direction.
WORST = math.log(10)


class Score(NamedTuple):
    """lr: the best rate of those tried. logs: ln of the final loss at it, by seed."""

    lr: float
    logs: tuple[float, ...]

    def against(self, other: Score) -> tuple[float, ...]:
        """ln of the ratio to ``other``, by seed; a seed that both lost counts 0."""
        return tuple(
            0.0 if math.isinf(a) and math.isinf(b) else min(max(a - b, -WORST), WORST)
            for a, b in zip(self.logs, other.logs, strict=True)
        )


def score(by_lr: Mapping[float, Sequence[Outcome]]) -> Score:
    """The score of outcomes by rate, each in the order of the seeds.

    The best rate is that with the fewest lost runs, and among these the lowest mean ln loss.
    """
    logs = {lr: tuple(map(_log, outcomes)) for lr, outcomes in by_lr.items()}

    def rank(lr: float) -> tuple[int, float]:
        ended = [log for log in logs[lr] if math.isfinite(log)]
        return len(logs[lr]) - len(ended), statistics.fmean(ended) if ended else math.inf

    best = min(logs, key=rank)
    return Score(best, logs[best])


def _log(outcome: Outcome) -> float:
    loss = outcome.validation_loss
    if outcome.status != "done" or loss is None or not math.isfinite(loss):
        return math.inf
    return math.log(max(loss, 1e-300))


def by_task(values: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Means over a task's optimizers, so that every task weighs the same."""
    groups: dict[str, list[float]] = {}
    for (task, _), value in values.items():
        groups.setdefault(task, []).append(value)
    return {task: statistics.fmean(group) for task, group in groups.items()}
