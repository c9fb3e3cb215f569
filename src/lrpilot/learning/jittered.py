"""Runs of the training problems under rates that nobody chose, for others to learn from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lrpilot.learning.distributions import ACTION_OF, BASE_OF, STACKS
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.guarded import GuardedRuns
from lrpilot.learning.net_runs import NetRuns
from lrpilot.learning.past import PastRun
from lrpilot.learning.runs import Floats, Mask, Runs, log_measure

COPIES = 16  # runs of each problem
FARTHEST = 2.5  # that an offset is drawn from, ln
JITTER = 0.3  # standard deviation of an action around the one that leads to that offset


class Recorder:
    """`Runs` that remember every loss and scale."""

    def __init__(self, runs: Runs) -> None:
        self.runs = runs
        self.losses: list[Floats] = []
        self.scales: list[Floats] = []

    @property
    def count(self) -> int:
        """How many runs there are."""
        return self.runs.count

    @property
    def retreats(self) -> bool:
        """As the runs have it."""
        return self.runs.retreats

    @property
    def total_steps(self) -> int:
        """Optimizer steps of each."""
        return self.runs.total_steps

    def step(self, scales: Floats) -> Floats:
        """One step of each."""
        losses = self.runs.step(scales)
        self.scales.append(scales.copy())
        self.losses.append(losses.copy())
        return losses

    def told(self) -> tuple[Floats, Floats] | None:
        """As the runs have it."""
        return self.runs.told()

    def travelled(self) -> Floats | None:
        """As the runs have it."""
        return self.runs.travelled()

    def turn(self) -> None:
        """As the runs have it."""
        self.runs.turn()

    def put_back(self, which: Mask) -> None:
        """As the runs have it."""
        self.runs.put_back(which)

    def measure(self) -> Floats:
        """As the runs have it."""
        return self.runs.measure()


def jittered(kind: str, stack: int, seed: int = 0) -> Iterator[PastRun]:
    """Runs of one stack of training problems, each problem `COPIES` times.

    Each heads for an offset of its own from the base schedule, and every action is off by chance,
    without which what a run did and what it saw cannot be told apart. "task" in the description
    names the problem, "base_lr" its base rate; its one evaluation is the final measure.
    """
    rng = np.random.default_rng([seed, stack, 7])
    runs = STACKS[kind](np.random.default_rng([seed, stack]), COPIES)
    if isinstance(runs, GuardedRuns):
        runs = runs.runs  # a record has the rates that were asked for
    recorder, action = Recorder(runs), ACTION_OF[kind]
    episodes = Episodes(recorder, BASE_OF[kind], action)
    targets = rng.uniform(-FARTHEST, FARTHEST, runs.count)
    while not episodes.over:
        towards = (targets - episodes.offsets) / action.size
        episodes.act((towards.clip(-1, 1) + rng.normal(0, JITTER, runs.count)).clip(-1, 1))
    finals = np.exp(log_measure(runs))
    lrs = runs.base_lrs.numpy() if isinstance(runs, NetRuns) else np.ones(runs.count)
    problems, steps = runs.count // COPIES, range(1, len(recorder.losses) + 1)
    losses, scales = np.array(recorder.losses), np.array(recorder.scales)
    for at in range(runs.count):
        task = f"{kind} {seed}-{stack}-{at % problems}"
        yield PastRun(
            name=f"{task}-{at // problems}",
            source="lrpilot",
            kind="jittered",
            description={"task": task, "base_lr": repr(float(lrs[at]))},
            columns={"losses": "loss", "rates": "lr", "evaluations": "measure"},
            series={
                "losses": list(zip(steps, losses[:, at].tolist(), strict=True)),
                "rates": list(zip(steps, (lrs[at] * scales[:, at]).tolist(), strict=True)),
                "evaluations": [(steps[-1], float(finals[at]))],
            },
        )
