"""Runs under a policy: what it sees, what its actions do; the many-run twin of `Learned`."""

from __future__ import annotations

import numpy as np

from lrpilot.learning.runs import Floats, Runs
from lrpilot.schedules.learned.features import (
    NOTHING,
    Seen,
    begun,
    features,
    has_lost_everything,
    seen_with,
)
from lrpilot.schedules.learned.learned import FALLING_BACK, Sums, closed, window_after
from lrpilot.schedules.learned.policy import BASES, Action, moved


class Episodes:
    """Decide after each window of a stack of runs, until all have ended.

    A run has ended when its steps are over or it has diverged: a loss was not finite.

    step: optimizer steps taken. lost: which runs have diverged (runs,).
    """

    def __init__(self, runs: Runs, base: str, action: Action) -> None:
        self.runs, self.base, self.action = runs, BASES[base], action
        self.step = 0
        self.decisions = 0
        self.lost = np.zeros(runs.count, dtype=np.bool_)
        self.trusted = np.ones(runs.count, dtype=np.bool_)
        self.offsets, self.actions = np.zeros(runs.count), np.zeros(runs.count)
        self.seen = Seen()
        self._count = 0

    @property
    def over(self) -> bool:
        """Whether there is nothing left to decide."""
        return self.step >= self.runs.total_steps or bool(self.lost.all())

    def observe(self) -> Floats:
        """What a policy sees: (runs, features); of diverged runs what they last showed."""
        if not self.decisions:
            return np.tile(NOTHING, (self.runs.count, 1))
        progress = min(self.step / self.runs.total_steps, 1.0)
        share = self.offsets / self.action.limit
        found = features(self.seen, self._count, progress, share, self.actions, np)
        return np.stack(np.broadcast_arrays(*found), axis=-1)

    def act(self, actions: Floats) -> None:
        """Move each offset by its action in [-1, 1], and train to the end of the next window."""
        wanted = moved(self.action, self.offsets, actions, np)
        fallen = np.minimum(self.offsets, self.offsets * FALLING_BACK)
        self.offsets = np.where(self.trusted, wanted, fallen)
        self.actions = np.where(self.trusted, actions, 0.0)
        self._train(window_after(self.step, self.runs.total_steps))

    def _train(self, count: int) -> None:
        total_steps = self.runs.total_steps
        count = min(count, total_steps - self.step)
        total, squares = np.zeros(self.runs.count), np.zeros(self.runs.count)
        factors, before = np.exp(self.offsets), None
        finite = np.ones(self.runs.count, dtype=np.bool_)
        aligned, persisted = Sums(), Sums()
        for _ in range(count):
            losses = self.runs.step(self.base(self.step / total_steps) * factors)
            self.step += 1
            finite &= np.isfinite(losses)
            losses = np.where(finite, losses, 0.0)
            total += losses
            squares += 0.0 if before is None else np.square(losses - before)
            before = losses
            told = self.runs.told()
            if told is not None:
                aligned = _plus(aligned, told[0]) if self.step > 1 else aligned
                persisted = _plus(persisted, told[1]) if self.decisions else persisted
        self.runs.turn()
        window = closed(count, total, squares, aligned, persisted, np)
        seen = seen_with(self.seen, window, np) if self.decisions else begun(window)
        self.lost |= ~finite
        self.seen = _chosen(self.lost, self.seen, seen) if self.decisions else seen
        self.trusted &= ~has_lost_everything(self.seen, np)
        self.decisions += 1
        self._count = count


def _plus(sums: Sums, numbers: Floats) -> Sums:
    known = np.isfinite(numbers)
    return sums.plus(np.where(known, numbers, 0.0), known)


def _chosen(condition: np.ndarray, one: Seen, other: Seen) -> Seen:
    return Seen(*(np.where(condition, a, b) for a, b in zip(one, other, strict=True)))
