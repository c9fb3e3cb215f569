"""What gradients tell: whether they point where they pointed a window ago."""

import itertools
import math

import numpy as np
import pytest
import torch

from lrpilot.torch.gradients import GradientWindows


def told_by_hand(gradients: np.ndarray, turns: list[int]) -> list[tuple[float, float]]:
    """Alignment and persistence of each of the gradients (steps, n), window after window."""
    found, anchor = [], None
    for begin, end in itertools.pairwise([0, *turns, len(gradients)]):
        window = gradients[begin:end]
        for at, g in enumerate(window):
            before = window[:at]
            lengths = np.linalg.norm(before, axis=1).sum() * np.linalg.norm(g)
            aligned = g @ before.sum(0) / lengths if at else math.nan
            found.append((aligned, math.nan if anchor is None else g @ anchor / (anchor @ anchor)))
        anchor = window.mean(0)
    return found


def test_they_are_what_the_definition_says():
    gradients = np.random.default_rng(0).normal(0.3, 1, size=(40, 5))
    turns = [4, 9, 30]
    windows, found = GradientWindows(torch.zeros(5, dtype=torch.float64)), []
    for step, gradient in enumerate(gradients):
        if step in turns:
            windows.turn()
        found.append([one.item() for one in windows.take(torch.from_numpy(gradient))])
    np.testing.assert_allclose(found, told_by_hand(gradients, turns), rtol=1e-9)


def test_many_runs_turn_and_end_when_each_does():
    gradients = np.random.default_rng(1).normal(0.3, 1, size=(30, 3, 5))
    turns = [[5, 12], [7, 25], []]
    windows = GradientWindows(torch.zeros(3, 5, dtype=torch.float64))
    found, rows = [[], [], []], torch.arange(3)
    for step, now in enumerate(torch.from_numpy(gradients)):
        if step == 20:
            windows.keep(torch.tensor([0, 2]))
            rows = torch.tensor([0, 2])
        windows.turn(torch.tensor([step in turns[row] for row in rows.tolist()]))
        told = windows.take(now[rows])
        for at, row in enumerate(rows.tolist()):
            found[row].append((told.alignment[at].item(), told.persistence[at].item()))
    for row in range(3):
        whole = told_by_hand(gradients[:, row], turns[row])
        np.testing.assert_allclose(found[row], whole[: len(found[row])], rtol=1e-9)


@pytest.mark.parametrize("odd", [math.inf, math.nan, 0.0])
def test_a_gradient_that_is_infinite_or_nothing_counts_for_nothing(odd):
    gradients = [torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]), torch.tensor([3.0, 1.0])]
    with_odd, without = (GradientWindows(gradients[0]) for _ in range(2))
    for windows in (with_odd, without):
        windows.take(gradients[0])
        if windows is with_odd:
            odd_told = windows.take(torch.tensor([odd, 0.0]))
            assert all(math.isnan(one) for one in odd_told)
        windows.take(gradients[1])
        windows.turn()
    assert with_odd.take(gradients[2]).persistence == without.take(gradients[2]).persistence


def test_a_rate_that_is_too_low_persists_and_one_that_is_too_high_turns_back():
    def persistence(lr):
        x, windows, told = torch.tensor([1.0, 2.0]), GradientWindows(torch.zeros(2)), []
        for step in range(12):
            if step % 3 == 0:
                windows.turn()
            told.append(windows.take(x).persistence.item())
            x = x - lr * x
        return told[-1]

    assert persistence(0.001) == pytest.approx(1, abs=0.01)
    assert persistence(1.9) < 0
