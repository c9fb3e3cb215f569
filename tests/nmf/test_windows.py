"""What a solver's gradients and factors tell is what `Signal` says, computed here from its past."""

from typing import NamedTuple

import numpy as np
import pytest
import torch

from lrpilot.learning.episodes import Episodes
from lrpilot.learning.nmf_runs import NMFRuns
from lrpilot.nmf import Settings, Solver, StochasticNMF, noisy_anchor, random_start
from lrpilot.nmf.estimator import advance
from lrpilot.nmf.windows import coordinates, told
from lrpilot.schedules import Learned
from lrpilot.torch.windows import MOST, Windows
from policies import reading_policy

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


def test_a_policy_sees_in_use_what_it_saw_in_training():
    """`NMFRuns` under `Episodes`, and a `Solver` that the estimator's loop drives."""
    policy, steps = reading_policy(6, seed=3), 60
    V = torch.from_numpy(np.random.default_rng(1).gamma(0.5, size=(1, 12, 40))).float()
    runs = NMFRuns(V, 3, total_steps=steps, rng=np.random.default_rng(2), batch=8)
    episodes = Episodes(runs, policy.base, policy.action)
    while not episodes.over:
        episodes.act(np.array([policy.act(tuple(seen)) for seen in episodes.observe()]))
    rng = np.random.default_rng(2)
    start = random_start(V[0], 3, rng)
    ours = Solver(V[0], start, Settings(batch=8, anchor=noisy_anchor(3, 0.0, steps)), rng)
    schedule = Learned(steps, policy)
    windows = Windows.of(coordinates(ours.W), schedule.needs)
    state = advance(ours, schedule, schedule.init(), windows, steps)
    assert ours.period < steps / 4, "balanced several times on the way"
    assert state.offset == pytest.approx(episodes.offsets[0], abs=1e-4)
    assert abs(state.offset) > 0.1
    np.testing.assert_allclose(ours.W, runs.solver.W[0, 0], rtol=1e-3, atol=1e-5)


def test_a_schedule_is_shown_it_in_fit_and_in_each_piece():
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
    for piece in (X[:40], X[40:]):
        model.partial_fit(piece)
    known = [np.isfinite(signal.persistence) for signal in seen]
    assert known == [False] * 3 + [True] + [False] * 2, "within a piece"
    assert [np.isfinite(signal.travel) for signal in seen] == [True] * 4 + [False] * 2
    assert seen[4].movement < seen[5].movement, "of this piece"
