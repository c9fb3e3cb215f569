"""Several policies as one, which does the mean of what they would do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lrpilot.schedules.learned.policy import Array, Policy


def ensemble(name: str, policies: Sequence[Policy]) -> Policy:
    """A policy whose action is the mean of theirs, before it is squashed.

    Its network has theirs side by side: as many layers, and in each hidden one as many units as
    they have together. What all say about themselves it says too.

    Raises ValueError if they differ in depth, squash, base schedule or action.
    """
    kinds = {(len(one.weights), one.squash, one.base, one.action) for one in policies}
    if len(kinds) != 1:
        names = ", ".join(one.name for one in policies) or "none"
        raise ValueError(
            f"an ensemble needs policies with one depth, squash, base schedule and action, got "
            f"{len(kinds)} kinds of them: {names}"
        )
    *hidden, last = range(len(policies[0].weights))
    weights = [
        np.concatenate([one.weights[at] for one in policies], axis=1)
        if at == 0
        else _side_by_side([one.weights[at] for one in policies])
        for at in hidden
    ]
    biases = [np.concatenate([one.biases[at] for one in policies]) for at in hidden]
    votes = [one.weights[last] for one in policies]
    mean = np.concatenate(votes) / np.float32(len(policies)) if hidden else _mean(votes)
    shared = set.intersection(*(set(one.about.items()) for one in policies))
    return Policy(
        name=name,
        weights=(*weights, mean),
        biases=(*biases, _mean([one.biases[last] for one in policies])),
        squash=policies[0].squash,
        base=policies[0].base,
        action=policies[0].action,
        about=dict(sorted(shared)) | {"mean of": ", ".join(map(repr, policies))},
    )


def _mean(arrays: Sequence[Array]) -> Array:
    return np.stack(arrays).mean(axis=0).astype(np.float32)


def _side_by_side(blocks: Sequence[Array]) -> Array:
    """The block-diagonal matrix of ``blocks``."""
    heights, widths = ([block.shape[axis] for block in blocks] for axis in (0, 1))
    whole = np.zeros((sum(heights), sum(widths)), dtype=np.float32)
    row = column = 0
    for block in blocks:
        whole[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return whole
