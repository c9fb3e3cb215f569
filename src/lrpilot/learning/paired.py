"""Runs under a policy beside the same runs under its base schedule: observations and rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrpilot.learning.episodes import Episodes
from lrpilot.learning.runs import Floats, Runs, log_measure
from lrpilot.schedules.learned.policy import Action

Draw = Callable[[np.random.Generator, int], Runs]
"""Draws a stack of runs: some problems, each so many times over, in the order of the copies."""

WORST = 3.0  # ln of the factor by which a run counts at most, against its base
LOST = 2.0  # penalty of a run that diverges, beyond 1 for the share of the horizon that is left


class Step(NamedTuple):
    """What an action led to: each (problems,) but the observations (problems, features)."""

    seen: Floats
    rewards: Floats
    lost: NDArray[np.bool_]
    over: bool


class Paired:
    """A stack of problems, each twice: under actions, and under the base schedule.

    The reward of a decision is by how much more the logarithm of the measure fell than under the
    base, so that the rewards of a run add up to ln(what the base leaves / what the policy leaves),
    within `WORST` of 0.
    A run that diverges has the reward −2 − (share of the horizon that is left), and none after it.

    every: decisions from one measurement to the next, which costs more than the steps between; what
    was earned since the last one is the reward then, and 0 in between.
    """

    def __init__(
        self, draw: Draw, rng: np.random.Generator, base: str, action: Action, *, every: int = 1
    ) -> None:
        self.every = every
        self.runs = draw(rng, 2)
        self.problems = self.runs.count // 2
        self.episodes = Episodes(self.runs, base, action)
        self._ahead = self._log_ratio()
        self._gone = np.zeros(self.problems, dtype=np.bool_)

    def observe(self) -> Floats:
        """What a policy sees: (problems, features)."""
        return self.episodes.observe()[: self.problems]

    def step(self, actions: Floats) -> Step:
        """Take the actions (problems,), and train until the next decision."""
        episodes = self.episodes
        episodes.act(np.concatenate([actions, np.zeros(self.problems)]))
        lost = episodes.lost[: self.problems] & ~self._gone
        is_measured = episodes.over or episodes.decisions % self.every == 0
        ahead = self._log_ratio() if is_measured else self._ahead
        left = 1 - episodes.step / self.runs.total_steps
        rewards = np.where(lost, -LOST - left, self._ahead - ahead)
        rewards[self._gone] = 0.0
        self._ahead, self._gone = ahead, self._gone | lost
        return Step(self.observe(), rewards, lost, episodes.over or bool(self._gone.all()))

    def _log_ratio(self) -> Floats:
        """ln of the measure over the base's, within `WORST`; a number that is none counts 0."""
        measured = log_measure(self.runs)
        ours, bases = measured[: self.problems], measured[self.problems :]
        known = np.isfinite(ours) & np.isfinite(bases)
        return np.clip(np.where(known, ours, 0.0) - np.where(known, bases, 0.0), -WORST, WORST)
