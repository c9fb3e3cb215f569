"""What a solver's gradients and factors tell is what `Signal` says, computed here from its past."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from lrpilot.nmf import Settings, Solver, StochasticNMF, random_start
from lrpilot.nmf.windows import coordinates, told
from lrpilot.torch.windows import MOST, Windows

NEEDS = ("alignment", "persistence", "movement", "travel", "evenness")
norm = np.linalg.norm


def solver(**settings) -> Solver:
    rng = np.random.default_rng(0)
    V = torch.from_numpy(rng.gamma(0.5, size=(12, 40)))
    return Solver(V, random_start(V, 3, rng), Settings(batch=8, **settings), rng)


def flat(tensor: torch.Tensor) -> np.ndarray:
    return tensor.numpy().reshape(-1).copy()


def test_it_tells_what_a_signal_says():
    ours = solver(noise=0.5)
    windows = Windows(coordinates(ours.W), NEEDS)
    start = before = flat(ours.W)
    gradients, anchor = [], None
    for step in range(1, 16):
        ours.step(0.3)
        signal = told(windows, ours)
        g, W = flat(ours.gradient), flat(ours.W)
        if gradients:
            total = sum(norm(one) for one in gradients)
            expected = g @ sum(gradients) / (norm(g) * total)
            assert signal.alignment == pytest.approx(expected, abs=1e-12)
        if anchor is not None:
            assert signal.persistence == pytest.approx(g @ anchor / (anchor @ anchor), rel=1e-9)
        moved = W - before
        assert signal.movement == pytest.approx(norm(moved) / norm(W))
        assert signal.travel == pytest.approx(norm(W - start) / norm(start))
        spread = norm(moved, 1) / (norm(moved) * np.sqrt(len(W)))
        assert signal.evenness == pytest.approx(spread)
        gradients.append(g)
        if step % 5 == 0:
            windows.turn()
            anchor, gradients, before = np.mean(gradients, axis=0), [], W


def test_entries_tell_of_the_factor_alone():
    ours = solver(units="entries")
    windows = Windows(coordinates(ours.W), NEEDS)
    ours.step()
    signal = told(windows, ours)
    assert np.isnan([signal.alignment, signal.persistence]).all()
    assert 0 < signal.movement == pytest.approx(signal.travel, rel=0.5)


def test_of_large_factors_a_part_is_looked_at():
    W = torch.arange(2 * 3001 * 64.0).reshape(2, 3001, 64)
    seen = coordinates(W)
    assert len(seen) == 2
    assert 0.8 * MOST < seen.shape[1] <= MOST
    assert len(set((seen[0] % 64).tolist())) == 64, "of all components"
    assert torch.equal(coordinates(W[:, :20]), W[:, :20].flatten(-2))


def test_a_schedule_is_shown_it_in_fit_and_from_piece_to_piece():
    seen = []

    class State(NamedTuple):
        scale: float
        reason: str
        decisions: int

    class Watching:
        needs = NEEDS

        def init(self):
            return State(1.0, "start", 0)

        def update(self, state, signal):
            seen.append(signal)
            return state._replace(decisions=len(seen) // 3)

    X = np.random.default_rng(0).gamma(0.5, size=(60, 12))
    model = StochasticNMF(3, schedule=Watching(), batch_size=10, random_state=0, max_iter=2)
    model.fit(X)
    assert len(seen) == 12
    known = [np.isfinite(signal.persistence) for signal in seen]
    assert known == [False] * 3 + [True] * 9, "once there is a window to compare with"
    assert all(0 < signal.travel < np.inf for signal in seen)
    seen.clear()
    model = StochasticNMF(3, schedule=Watching(), batch_size=10, random_state=0)
    for piece in np.array_split(X, 3):
        model.partial_fit(piece)
    assert [np.isfinite(signal.persistence) for signal in seen] == [False] * 3 + [True] * 3
