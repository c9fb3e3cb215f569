"""What single steps of the solver do: down the gradient they speak of, by no more than they may."""

import math

import numpy as np
import pytest
import torch

from lrpilot.nmf import Factors, Settings, Solver, balanced, bounds, health
from lrpilot.nmf.minibatches import column_batches
from nmf_states import example

TINY = 1e-9  # a rate at which a pass is a straight line
WAYS = {
    "in turn": {},
    "simultaneous": {"simultaneous": True},
    "entries": {"units": "entries"},
}
every_way = pytest.mark.parametrize("way", WAYS)


def solver_of(V, rank=3, seed=0, **options):
    rng = np.random.default_rng(seed)
    V = torch.as_tensor(V, dtype=torch.float64)
    m, n = V.shape[-2:]
    start = Factors(*(torch.from_numpy(rng.random(shape)) for shape in ((m, rank), (rank, n))))
    return Solver(V, start, Settings(**options), rng)


def far(a, b):
    """How far ``a`` is from ``b``, as a share of the size of ``b``."""
    return (torch.linalg.norm(a - b) / torch.linalg.norm(b)).item()


@pytest.mark.parametrize("way", ["in turn", "simultaneous"])
def test_a_pass_of_tiny_steps_goes_down_the_gradient_of_the_whole_loss(way):
    V = torch.from_numpy(example())
    solver = solver_of(V, batch=8, rate=TINY, **WAYS[way])
    solver.period = 10**9  # without balancing
    W = solver.W.clone()
    for _ in range(5):
        solver.step()
    gradient = (W @ solver.H - V) @ solver.H.mT
    assert far(W - solver.W, solver.history().lr.sum() * gradient) < 1e-4


def test_tiny_steps_of_entries_go_down_both_gradients_on_average():
    V = torch.from_numpy(example(4, 5))
    solver = solver_of(V, batch=4, rate=TINY, units="entries")
    solver.period = 10**9
    W, H = solver.W.clone(), solver.H.clone()
    for _ in range(1500):
        solver.step()
    R = W @ H - V
    assert far(W - solver.W, 1500 * TINY * R @ H.mT) < 0.1
    assert far(H - solver.H, 1500 * TINY * W.mT @ R) < 0.1


@every_way
def test_what_the_minibatches_of_a_pass_leave_is_what_the_whole_leaves(way):
    entries = way == "entries"
    solver = solver_of(example(), batch=500 if entries else 8, **WAYS[way])
    solver.period = 10**9
    first = solver.loss().item()
    for _ in range(500 if entries else 5):
        solver.step(0.0)
    mean = solver.history().loss.mean().item()
    # In turn the coefficients are fitted at once, whatever the scale.
    expected = solver.loss().item() if way == "in turn" else first
    assert mean == pytest.approx(expected, rel=0.03 if entries else 1e-9)


@every_way
def test_no_entry_moves_by_more_than_the_cap(way):
    cap = 1e-3
    solver = solver_of(1e4 * example(), batch=8, cap=cap, h_steps=2, **WAYS[way])
    solver.period = 10**9
    for _ in range(5):
        W, H = solver.W.clone(), solver.H.clone()
        solver.step()
        assert (solver.W - W).abs().max() <= cap * (1 + 1e-9)
        assert (solver.H - H).abs().max() <= (2 if way == "in turn" else 1) * cap * (1 + 1e-9)


@every_way
def test_with_noise_a_scale_of_zero_moves_nothing(way):
    solver = solver_of(example(), batch=8, noise=0.5, **WAYS[way])
    W, H = solver.W.clone(), solver.H.clone()
    solver.step(0.0)
    assert torch.equal(solver.W, W)
    assert torch.equal(solver.H, H)


@pytest.mark.parametrize("share", [0.5, 3.0])
def test_noise_is_as_large_as_it_is_said_to_be(share):
    V = torch.from_numpy(example(60, 900, 5))
    options = {"units": "all", "simultaneous": True, "rate": 1e-12}
    ends = []
    for noise in (0.0, share):
        solver = solver_of(V, 5, noise=noise, **options)
        solver.period = 10**9
        start = solver.W.clone(), solver.H.clone()
        solver.step()
        ends.append((start[0] - solver.W, start[1] - solver.H))
    for exact, noisy in zip(*ends, strict=True):
        assert far(noisy, exact) == pytest.approx(share, rel=0.2)


def test_another_seed_draws_other_noise():
    V, rng = example(), np.random.default_rng(0)
    start = Factors(*(torch.from_numpy(rng.random(s)) for s in ((15, 3), (3, 40))))
    moves = []
    for seed in (0, 1):
        settings = Settings(units="all", noise=0.5, simultaneous=True, rate=TINY)
        solver = Solver(torch.from_numpy(V), start, settings, np.random.default_rng(seed))
        solver.step()
        moves.append(balanced(*start).W - solver.W)
    assert far(*moves) > 0.1


def test_the_anchor_is_the_curvature_at_the_start():
    """So that the rate stays where it is while the scale does."""
    V, scale = example(), 1e-3
    for way, batch in (("in turn", 8), ("simultaneous", 8), ("entries", 50)):
        solver = solver_of(V, batch=batch, **WAYS[way])
        W, H = solver.W.clone(), solver.H.clone()
        entries = {"units": "entries", "replace": True, "rows": 15} if way == "entries" else {}
        curvature = 2 / bounds.minibatch(H, batch, **entries)
        if way == "simultaneous":  # each of its steps is down the minibatch's own loss
            curvature += 40 / batch * 2 / bounds.block(W.mT)
        for _ in range(20):
            solver.step(scale)
        lrs = solver.history().lr
        assert lrs[0].item() == pytest.approx(10 * scale / curvature, rel=0.02), way
        assert torch.equal(lrs, lrs[:1].expand_as(lrs))


def test_the_bound_is_that_of_the_minibatch_that_was_drawn():
    solver = solver_of(example(), batch=12)
    for drawn in (12, 12, 12):
        solver.step(0.1)
        now = bounds.minibatch(solver.H, drawn)
        assert solver.records[-1].bound.item() == pytest.approx(now, rel=0.02)
    before = solver.records[-1].bound
    solver.step(0.1)  # the four that are left
    assert solver.records[-1].bound < 0.7 * before


def test_the_bound_of_entries_is_that_of_entries():
    solver = solver_of(example(), batch=50, units="entries")
    for _ in range(3):
        solver.step(1e-3)
        H = solver.H
    now = bounds.minibatch(H, 50, units="entries", replace=True, rows=15)
    assert solver.records[-1].bound.item() <= now * 1.001
    assert solver.records[-1].bound.item() == pytest.approx(now, rel=0.1)


def test_both_at_once_are_held_by_the_bound_of_columns_too():
    """Where one column of H is far longer than the one that was drawn."""
    W, H = torch.eye(4, dtype=torch.float64), torch.full((4, 40), 1e-3, dtype=torch.float64)
    H[:, 0] = 1
    start = Factors(W, H)
    settings = Settings(batch=1, simultaneous=True)
    solver = Solver(W @ H, start, settings, np.random.default_rng(0))
    for _ in range(5):
        H = solver.H.clone()
        solver.step(0.0)
        assert solver.records[-1].bound.item() <= bounds.minibatch(H, 1) * (1 + 1e-9)


def test_steps_that_cannot_be_long_get_a_larger_bound_for_both_at_once():
    def bound(**options):
        solver = solver_of(100 * example(), units="all", simultaneous=True, **options)
        solver.step(0.0)
        return solver.records[-1].bound.item()

    assert bound(cap=1e-6) > 1.01 * bound()
    exact = solver_of(100 * example(), units="all", simultaneous=True, cap=1e-6)
    joint = bounds.joint(exact.V, exact.W, exact.H, cap=1e-6)
    assert bound(cap=1e-6) == pytest.approx(joint, rel=0.02)


def test_with_entries_the_factors_are_looked_after_once_per_row_and_column_drawn():
    assert solver_of(example(), batch=10, units="entries").period == math.ceil((15 + 40) / 10)
    assert solver_of(example(), batch=12).period == 4


def test_all_of_the_matrix_is_what_a_larger_batch_is():
    ends = []
    for options in ({"batch": 40}, {"batch": 1000}, {"batch": 1, "units": "all"}):
        solver = solver_of(example(), **options)
        for _ in range(10):
            solver.step(1e-2)
        ends.append(solver.W)
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


def test_after_an_oscillation_the_rate_stays_below_half_of_its_ceiling():
    solver = solver_of(example(), units="all", simultaneous=True)
    solver.step()
    solver.W, solver.H = 1e3 * solver.W, 1e3 * solver.H
    for _ in range(50):
        solver.step()
    assert [repair.failure for repair in solver.repairs] == ["oscillation"]
    record = solver.history()
    assert (record.lr[10:] <= 0.375 * record.bound[10:] * (1 + 1e-9)).all()
    assert (record.lr[:1] > 0.374 * record.bound[:1]).all()


def test_vanished_components_are_given_another_chance_a_few_times_only():
    """A rank that the matrix does not have keeps components at 0 for good."""
    solver = solver_of(example(), batch=40)
    for _ in range(30):
        solver.W[:, 1] = 0
        solver.H[1] = 0
        solver.step()
    assert [repair.failure for repair in solver.repairs] == ["dead components"] * 3


def test_small_is_not_dead():
    size = torch.tensor(1.0)
    W, H = torch.ones(4, 2), torch.ones(2, 5)
    for tiny, is_dead in ((0.0, True), (1e-13, True), (1e-9, False)):
        for small in (Factors(tiny * W, H), Factors(W, tiny * H)):
            assert bool(health.dead(*small, size)) == is_dead
            assert health.dead_components(*small, size).tolist() == [is_dead] * 2
            assert not health.dead(*small, torch.tensor(0.0))


def test_a_reseeded_component_is_small_in_both_factors_and_the_others_stay():
    W, H, fresh = torch.ones(4, 2), torch.ones(2, 5), Factors(torch.ones(4, 2), torch.ones(2, 5))
    W[:, 0], H[0] = 0, 0
    new = health.reseeded(W, H, torch.tensor([True, False]), fresh)
    assert torch.equal(new.W, torch.tensor([0.01, 1.0]).expand(4, 2))
    assert torch.equal(new.H, torch.tensor([[0.01], [1.0]]).expand(2, 5))


def test_the_factors_are_balanced_after_every_pass_and_at_the_start():
    solver = solver_of(example(), batch=8)
    for _ in range(3):
        same = balanced(solver.W, solver.H)
        torch.testing.assert_close(solver.W, same.W)
        torch.testing.assert_close(solver.H, same.H)
        for _ in range(5):
            solver.step()


def test_every_pass_draws_each_column_once_and_in_an_order_of_its_own():
    draws = column_batches(10, 4, np.random.default_rng(0))
    first, second = (torch.cat([next(draws) for _ in range(3)]) for _ in range(2))
    assert torch.equal(first.sort().values, torch.arange(10))
    assert torch.equal(second.sort().values, torch.arange(10))
    assert not torch.equal(first, second)
