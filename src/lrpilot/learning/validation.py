"""How good a policy is on problems that it is chosen by, and not trained on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lrpilot.bench.held_out import ratios
from lrpilot.learning.distributions import VALIDATION_STACKS, validation_draw
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.runs import Floats, log_measure
from lrpilot.schedules.learned.policy import Policy


class Validated(NamedTuple):
    """A policy against its base schedule, on the same problems.

    gain: mean ln of (left by the policy / left by the base); below 0 the policy is better.
    lost: runs that diverged under the policy; base_lost: under its base.
    """

    gain: float
    lost: int
    base_lost: int


def validate(policy: Policy, kind: str) -> Validated:
    """Play every validation stack of ``kind`` under the policy and under its base."""
    ahead: list[Floats] = []
    lost = np.zeros(2, dtype=int)
    for number in range(VALIDATION_STACKS[kind]):
        runs = validation_draw(kind, number)(np.random.default_rng(0), 2)
        episodes, half = Episodes(runs, policy.base, policy.action), runs.count // 2
        while not episodes.over:
            actions = np.zeros(runs.count)
            actions[:half] = [policy.act(tuple(seen)) for seen in episodes.observe()[:half]]
            episodes.act(actions)
        ended = np.where(episodes.lost, np.inf, log_measure(runs))
        lost += [int(np.isinf(part).sum()) for part in (ended[:half], ended[half:])]
        ahead.append(ratios(ended[:half], ended[half:]))
    return Validated(float(np.concatenate(ahead).mean()), int(lost[0]), int(lost[1]))
