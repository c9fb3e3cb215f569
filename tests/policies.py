"""Policies whose weights are drawn, not trained: the tests depend on no shipped one."""

import itertools
import math

import numpy as np

from lrpilot.schedules import Policy
from lrpilot.schedules.learned import Action
from lrpilot.schedules.learned.features import NAMES


def random_policy(*hidden: int, seed: int = 0, kind: str = "steps", **settings) -> Policy:
    """Large weights, so that actions are large and of either sign; none for what is measured."""
    rng = np.random.default_rng(seed)
    sizes = [len(NAMES), *hidden, 1]
    weights = [rng.normal(size=shape) for shape in itertools.pairwise(sizes)]
    weights[0][NAMES.index("alignment") :] = 0
    return Policy(
        name="random",
        weights=tuple(weights),
        biases=tuple(rng.normal(size=size) for size in sizes[1:]),
        action=Action(kind=kind, size=0.4, limit=math.log(10)),
        **settings,
    )


def still_policy(*hidden: int, **settings) -> Policy:
    """A last layer of zeros."""
    policy = random_policy(*hidden, **settings)
    *first, last = policy.weights
    *biases, bias = policy.biases
    return Policy(
        name="still",
        weights=(*first, np.zeros_like(last)),
        biases=(*biases, np.zeros_like(bias)),
        **settings,
    )


def reading_policy(*hidden: int, seed: int = 0, **settings) -> Policy:
    """Like `random_policy`, with weights for what is measured of gradients and weights."""
    policy = random_policy(*hidden, seed=seed, **settings)
    first, *rest = policy.weights
    first = np.array(first)
    measured = first[NAMES.index("alignment") :]
    measured[:] = np.random.default_rng(seed).normal(size=measured.shape)
    parts = {"biases": policy.biases, "action": policy.action, "base": policy.base}
    return Policy(name="reading", weights=(first, *rest), **parts)
