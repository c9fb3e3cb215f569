"""Networks side by side under a guard, with snapshots: what `LearnedLR` does for one, for many."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lrpilot.bench.batched.optimizers import Rewindable
from lrpilot.learning.net_runs import NetRuns
from lrpilot.learning.runs import Floats, Mask
from lrpilot.schedules import Constant, Guard, OpenLoop
from lrpilot.schedules.guard import GuardState
from lrpilot.tasks.protocol import Split
from lrpilot.torch.snapshots import ATTEMPTS, PROOF

SHARE, FEWEST = 25, 4  # snapshots of a run, and steps between two of them at least


def snapshots_every(total_steps: int) -> int:
    """Steps from one snapshot to the next in a run of ``total_steps``."""
    return max(total_steps // SHARE, FEWEST)


class GuardedRuns:
    """`NetRuns`, each braked by a `Guard` of its own, and put back by `StackedSnapshots`.

    A run is put back when its guard brakes or when it is asked for, once both are known: before
    the next step, or before it is measured.

    The losses are those that were computed, also of weights that have been put back since.
    """

    retreats = True

    def __init__(self, runs: NetRuns) -> None:
        self.runs = runs
        self.count, self.total_steps, self.base_lrs = runs.count, runs.total_steps, runs.base_lrs
        self.told, self.travelled, self.turn = runs.told, runs.travelled, runs.turn
        self.guard = Guard(OpenLoop(Constant(), runs.total_steps))
        self.states = [self.guard.init() for _ in range(runs.count)]
        self.snapshots = StackedSnapshots(runs)
        self._unsettled: tuple[Mask, Mask] | None = None  # healthy and alarms, of the last step

    def step(self, scales: Floats) -> Floats:
        """One step of each at its scale times its brake."""
        self._settle()
        braked = scales * np.array([state.brake for state in self.states])
        losses = self.runs.step(braked)
        seen = zip(self.states, losses.tolist(), braked.tolist(), strict=True)
        self.states = [
            self._after(state._replace(scale=scale), loss) for state, loss, scale in seen
        ]
        healthy = np.array([state.is_healthy for state in self.states])
        alarms = np.array([state.reason == "brake" for state in self.states])
        self._unsettled = healthy, alarms
        return losses

    def put_back(self, which: Mask) -> None:
        """Put back the last weights known to be good."""
        if self._unsettled is None:
            raise RuntimeError("runs are put back after a step, before they are measured")
        healthy, alarms = self._unsettled
        self._unsettled = healthy, alarms | which

    def measure(self, split: Split = "validation") -> Floats:
        """The loss on a held-out split."""
        self._settle()
        return self.runs.measure(split)

    def _settle(self) -> None:
        if self._unsettled is not None:
            self.snapshots.observed(*self._unsettled)
            self._unsettled = None

    def _after(self, state: GuardState, loss: float) -> GuardState:
        new = self.guard.braked(state, loss)
        return GuardState(state.scale, new[0], state.inner, *new[1:])


class StackedSnapshots:
    """`lrpilot.torch.Snapshots` of a stack of runs, whose losses come without lag.

    Values and optimizer states by rows. A run's snapshot is a candidate until `PROOF` healthy
    losses have been computed since, and is accepted then; an alarm puts the accepted one back, at
    most `ATTEMPTS` times in a row.
    """

    def __init__(self, runs: NetRuns) -> None:
        if not isinstance(runs.optimizer, Rewindable):
            raise TypeError(f"{type(runs.optimizer).__name__} cannot be put back")
        self._live = [*runs.values.values(), *runs.optimizer.state()]
        self._candidates = [x.clone() for x in self._live]
        self._accepted = [x.clone() for x in self._live]
        self.every, self.now = snapshots_every(runs.total_steps), 0
        # Of each run, in steps; -1 where there is none.
        self.candidate, self.accepted = np.zeros(runs.count, int), np.full(runs.count, -1)
        self.last = np.zeros(runs.count, int)  # of the last candidate or alarm
        # Healthy losses of the candidate and since the last alarm; and times it was put back.
        self.proven, self.healthy, self.rollbacks = np.zeros((3, runs.count), int)

    def observed(self, healthy: Mask, alarms: Mask) -> None:
        """Learn how the losses of one more step looked (runs,)."""
        self.now += 1
        healthy = healthy & ~alarms
        self.candidate[alarms], self.last[alarms], self.healthy[alarms] = -1, self.now, 0
        back = alarms & (self.accepted >= 0) & (self.rollbacks < ATTEMPTS)
        _copy(self._accepted, self._live, back)
        self.rollbacks[back] += 1
        self.healthy[healthy] += 1
        self.rollbacks[self.healthy >= self.every] = 0
        proving = healthy & (self.candidate >= 0)
        self.proven[proving] += 1
        good = proving & ((self.proven >= PROOF) | (self.accepted < 0))
        _copy(self._candidates, self._accepted, good)
        self.accepted[good], self.candidate[good] = self.candidate[good], -1
        due = healthy & (self.candidate < 0) & (self.now - self.last >= self.every)
        _copy(self._live, self._candidates, due)
        self.candidate[due] = self.last[due] = self.now
        self.proven[due] = 0


def _copy(source: list[Tensor], target: list[Tensor], runs: Mask) -> None:
    if not runs.any():
        return
    rows = torch.from_numpy(runs.nonzero()[0])
    with torch.no_grad():
        for one, other in zip(source, target, strict=True):
            other[rows] = one[rows]
