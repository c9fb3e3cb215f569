"""How far weights have come: since the last decision, and since the start."""

import numpy as np
import pytest
import torch

from lrpilot.torch.weights import WeightWindows


def by_hand(weights: np.ndarray, turns: list[int]) -> list[tuple[float, float, float]]:
    """Movement, travel and evenness after each step; ``weights`` (steps + 1, n), the first before.

    turns: steps after which a window ends.
    """
    found, before = [], weights[0]
    for step, now in enumerate(weights[1:], start=1):
        since, size = now - before, np.linalg.norm
        even = np.abs(since).mean() / np.sqrt(np.square(since).mean())
        far = size(now - weights[0]) / size(weights[0])
        found.append((size(since) / size(now), far, even))
        if step in turns:
            before = now
    return found


def test_they_are_what_the_definition_says():
    weights = np.random.default_rng(0).normal(1, 1, size=(31, 5)).cumsum(0)
    turns = [3, 4, 20]
    windows, found = WeightWindows(torch.from_numpy(weights[0])), []
    for step, now in enumerate(torch.from_numpy(weights[1:]), start=1):
        found.append([one.item() for one in windows.take(now)])
        if step in turns:
            windows.turn()
    np.testing.assert_allclose(found, by_hand(weights, turns), rtol=1e-9)


def test_many_runs_turn_and_end_when_each_does():
    weights = np.random.default_rng(1).normal(1, 1, size=(31, 3, 5)).cumsum(0)
    turns = [[5, 12], [7, 25], []]
    windows = WeightWindows(torch.from_numpy(weights[0]))
    found, rows = [[], [], []], torch.arange(3)
    for step, now in enumerate(torch.from_numpy(weights[1:]), start=1):
        if step == 20:
            rows = torch.tensor([0, 2])
            windows.keep(rows)
        moved = torch.stack(windows.take(now[rows]), -1)
        for row, numbers in zip(rows.tolist(), moved.tolist(), strict=True):
            found[row].append(numbers)
        windows.turn(torch.tensor([step in turns[row] for row in rows.tolist()]))
    for row in range(3):
        whole = by_hand(weights[:, row], turns[row])
        np.testing.assert_allclose(found[row], whole[: len(found[row])], rtol=1e-9)


def test_signs_are_even_and_one_weight_alone_is_not():
    windows = WeightWindows(torch.ones(100))
    assert windows.take(1 - 0.1 * torch.ones(100)).evenness.item() == pytest.approx(1)
    assert windows.take(torch.eye(100)[0] + 1).evenness.item() == pytest.approx(0.1)


def test_weights_that_stay_or_begin_at_nothing_tell_nothing():
    still = WeightWindows(torch.ones(3)).take(torch.ones(3))
    assert (still.movement, still.travel) == (0, 0)
    assert still.evenness.isnan()
    assert WeightWindows(torch.zeros(3)).take(torch.ones(3)).travel.isinf()
