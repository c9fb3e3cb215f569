"""Stacks of runs under policies, schedules and fixed trajectories, one for each copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from lrpilot.bench.batched.schedules import Scales
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.runs import Floats, Runs, log_measure
from lrpilot.schedules import Schedule
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import BASES, Action, Policy


class Played(NamedTuple):
    """Where runs ended, and by which way.

    finals: ln of the measure (copies, problems); infinite for a run that diverged. offsets: ln of
    the rate over the base schedule's, at each step (steps, copies, problems). steps: at which ln of
    the measure was watched (times,); watched: what it was (times, copies, problems).
    """

    finals: Floats
    offsets: Floats
    steps: Floats
    watched: Floats


def under_policies(runs: Runs, policies: Sequence[Policy], *, watch: int = 0) -> Played:
    """Each copy of the problems under a policy of its own; all have one base and action.

    watch: decisions from one look at the measure to the next; 0 looks at the end alone.
    """
    first = policies[0]
    if any((one.base, one.action) != (first.base, first.action) for one in policies):
        raise ValueError("policies that are judged together need the same base and action")
    episodes = Episodes(runs, first.base, first.action)
    offsets: list[Floats] = []
    steps: list[int] = []
    watched: list[Floats] = []
    while not episodes.over:
        seen = episodes.observe().reshape(len(policies), -1, len(NAMES))
        actions = [
            [policy.act(tuple(one)) for one in shown]
            for policy, shown in zip(policies, seen, strict=True)
        ]
        before = episodes.step
        held = episodes.act(np.array(actions).reshape(-1))
        offsets.append(np.tile(held, (episodes.step - before, 1)))
        if episodes.over or (watch and episodes.decisions % watch == 0):
            steps.append(episodes.step)
            watched.append(np.where(episodes.lost, np.inf, log_measure(runs)))
    # Runs that have all diverged end early; what they would have done is not asked.
    offsets.append(np.tile(episodes.offsets, (runs.total_steps - episodes.step, 1)))
    shape = len(policies), -1
    return Played(
        watched[-1].reshape(shape),
        np.concatenate(offsets).reshape(runs.total_steps, *shape),
        np.array(steps),
        np.stack(watched).reshape(len(steps), *shape),
    )


def under_base(runs: Runs, base: str, action: Action) -> Floats:
    """ln of the measure (runs,) under an untrained policy: the base, which retreats like others."""
    episodes = Episodes(runs, base, action)
    while not episodes.over:
        episodes.act(np.zeros(runs.count))
    return np.where(episodes.lost, np.inf, log_measure(runs))


def under_schedules(
    runs: Runs, schedules: Sequence[Schedule[Any]], factors: Sequence[float] | None = None
) -> Floats:
    """ln of the measure (copies, problems), each copy under its schedule times its factor, or 1.

    Infinite for a run that is lost, which one that was put back is not.
    """
    factors = [1.0] * len(schedules) if factors is None else factors
    problems = runs.count // len(schedules)
    each = [schedule for schedule in schedules for _ in range(problems)]
    scales, lrs = Scales(each, runs.total_steps), np.repeat(np.asarray(factors), problems)
    for _ in range(runs.total_steps):
        losses = runs.step(lrs * scales.current().numpy())
        scales.update(torch.from_numpy(losses), None)
    return log_measure(runs).reshape(len(schedules), -1)


def under_offsets(runs: Runs, base: str, offsets: Floats) -> Floats:
    """ln of the measure (copies, problems) under the base times exp of the offsets (steps, copies).

    For what a policy would do if it were blind: a fixed trajectory for all problems.
    """
    copies = offsets.shape[1]
    shape, total_steps = BASES[base], runs.total_steps
    scales = np.exp(np.repeat(offsets, runs.count // copies, axis=1))
    for step in range(total_steps):
        runs.step(shape(step / total_steps) * scales[step])
    return log_measure(runs).reshape(copies, -1)
