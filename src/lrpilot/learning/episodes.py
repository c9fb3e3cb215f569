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
    has_lost_ground,
    seen_with,
    standing_at,
    worst_counted,
)
from lrpilot.schedules.learned.learned import (
    FALLING_BACK,
    LARGEST,
    NOT_MOVED,
    Sums,
    closed,
    retreat,
    window_after,
)
from lrpilot.schedules.learned.policy import BASES, Action, moved


class Episodes:
    """Decide after each window of a stack of runs, until all have ended.

    Runs that retreat are put back where they lose ground, whatever the actions. One has ended when
    its steps are over or it has diverged: no loss of a window was finite.

    step: optimizer steps taken. lost: which runs have diverged (runs,).
    """

    def __init__(self, runs: Runs, base: str, action: Action) -> None:
        self.runs, self.base, self.action = runs, BASES[base], action
        self.step = 0
        self.decisions = 0
        self.lost = np.zeros(runs.count, dtype=np.bool_)
        self.trusted = np.ones(runs.count, dtype=np.bool_)
        self.offsets, self.actions = np.zeros(runs.count), np.zeros(runs.count)
        self.retreated = np.zeros(runs.count, dtype=np.bool_)  # at the last decision
        self.seen = Seen()
        self._counts = np.ones(runs.count, dtype=int)  # finite losses in the last window

    @property
    def over(self) -> bool:
        """Whether there is nothing left to decide."""
        return self.step >= self.runs.total_steps or bool(self.lost.all())

    def observe(self) -> Floats:
        """What a policy sees: (runs, features); of diverged runs next to what they last showed."""
        if not self.decisions:
            return np.tile(NOTHING, (self.runs.count, 1))
        progress = min(self.step / self.runs.total_steps, 1.0)
        share = self.offsets / self.action.limit
        found = features(self.seen, self._counts, progress, share, self.actions, np)
        return np.stack(np.broadcast_arrays(*found), axis=-1)

    def act(self, actions: Floats) -> Floats:
        """Move each offset by its action in [-1, 1], and train to the end of the next window.

        Returns the offsets that it trained with (runs,); those that hold now may be lower.
        """
        wanted = moved(self.action, self.offsets, actions, np)
        fallen = np.minimum(self.offsets, self.offsets * FALLING_BACK)
        self.offsets = np.where(self.trusted, wanted, fallen)
        self.actions = np.where(self.trusted, actions, 0.0)
        offsets = self.offsets
        self._train(window_after(self.step, self.runs.total_steps))
        return offsets

    def _train(self, count: int) -> None:
        total_steps = self.runs.total_steps
        is_whole = self.step + count <= total_steps
        count = min(count, total_steps - self.step)
        total, squares, before = np.zeros((3, self.runs.count))
        counts = np.zeros(self.runs.count, dtype=int)
        factors = np.exp(self.offsets)
        most = worst_counted(self.seen, np) if self.decisions else np.inf
        aligned, persisted = Sums(), Sums()
        for _ in range(count):
            losses = self.runs.step(self.base(self.step / total_steps) * factors)
            self.step += 1
            finite = np.abs(losses) < LARGEST
            losses = np.where(finite, np.minimum(losses, most), before)
            total += np.where(finite, losses, 0.0)
            squares += np.where(counts > 0, np.square(losses - before), 0.0)
            counts, before = counts + finite, losses
            told = self.runs.told()
            if told is not None:
                alignment, persistence = np.where(finite, told, np.nan)
                aligned = _plus(aligned, alignment) if self.step > 1 else aligned
                persisted = _plus(persisted, persistence) if self.decisions else persisted
        far = self.runs.travelled()
        weights = NOT_MOVED if far is None else tuple(np.where(far < LARGEST, far, 0.0))
        self.runs.turn()
        self.lost |= counts == 0
        self._counts = np.maximum(counts, 1)
        window = closed(self._counts, total, squares, aligned, persisted, np, weights)
        seen = seen_with(self.seen, window, np) if self.decisions else begun(window)
        self.seen = _chosen(self.lost, self.seen, seen) if self.decisions else seen
        if is_whole and self.runs.retreats:
            self._retreat()
        self.trusted &= ~has_lost_everything(self.seen, np)
        self.decisions += 1

    def _retreat(self) -> None:
        """Put back the runs that have lost ground; where that was in vain, what is lost is lost."""
        seen, retreated = self.seen, self.retreated
        lost = has_lost_ground(seen, retreated, np) & self.trusted & ~self.lost
        self.retreated = back = lost & ~retreated
        if lost.any():
            self.seen = _chosen(lost, standing_at(np.where(back, seen.best, seen.last), seen), seen)
        if back.any():
            cut = retreat(self.offsets, self.action.limit, np)
            self.offsets = np.where(back, cut, self.offsets)
            self.runs.put_back(back)


def _plus(sums: Sums, numbers: Floats) -> Sums:
    known = np.isfinite(numbers)
    return sums.plus(np.where(known, numbers, 0.0), known)


def _chosen(condition: np.ndarray, one: Seen, other: Seen) -> Seen:
    return Seen(*(np.where(condition, a, b) for a, b in zip(one, other, strict=True)))
