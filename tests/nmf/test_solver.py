import math

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from lrpilot.nmf import Factors, Settings, Solver, factorise, random_start
from nmf_states import example as matrix

KINDS = {
    "columns": Settings(batch=8),
    "simultaneous": Settings(batch=8, simultaneous=True),
    "all": Settings(units="all"),
    "all simultaneous": Settings(units="all", simultaneous=True),
    "entries": Settings(units="entries", batch=200),
    "capped": Settings(units="all", simultaneous=True, cap=0.05),
    "noisy": Settings(units="all", noise=0.3),
    "by the bound": Settings(batch=8, rate="bound", ceiling=1.0),
    "absolute": Settings(batch=8, rate=1e6),
}
every_kind = pytest.mark.parametrize("settings", KINDS.values(), ids=KINDS)
few = hypothesis.settings(max_examples=3)
quiet_kind = pytest.mark.parametrize("name", ["all", "all simultaneous", "capped"])


def run(V, settings, *, steps=120, seed=0, **options):
    rng = np.random.default_rng(seed)
    return factorise(V, 3, steps=steps, rng=rng, settings=settings, **options)


@every_kind
def test_the_loss_falls_far_and_every_rate_is_below_its_ceiling(settings):
    V = matrix()
    found = run(V, settings, steps=250)
    assert found.W.min() >= 0
    assert found.H.min() >= 0
    assert found.repairs == []
    exact = np.square(V - found.W @ found.H).sum() / np.square(V).sum()
    assert found.loss == pytest.approx(exact)
    assert found.loss < 0.1
    assert (found.lrs <= settings.ceiling * found.bounds * (1 + 1e-12)).all()


@quiet_kind
def test_with_all_of_the_matrix_the_loss_never_rises(name):
    solver_rng = np.random.default_rng(0)
    V = torch.from_numpy(matrix())
    settings = KINDS[name]
    solver = Solver(V, random_start(V, 3, solver_rng), settings, solver_rng)
    before = solver.loss().item()
    for _ in range(200):
        solver.step()
        after = solver.loss().item()
        assert after <= before * (1 + 1e-12)
        before = after


@every_kind
def test_the_same_seed_gives_the_same_run_bit_for_bit_and_another_another(settings):
    V = matrix()
    first, second, third = (run(V, settings, steps=30, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.W, second.W)
    assert np.array_equal(first.losses, second.losses)
    assert not np.array_equal(first.W, third.W)


@every_kind
@given(power=st.integers(-5, 5))
@few
def test_the_scale_of_the_matrix_does_not_matter(settings, power):
    """V -> aV takes W and H to √a times themselves, and rates to 1/a."""
    if settings.cap is not None or not isinstance(settings.rate, str):
        return  # in units of V
    a, V = 4.0**power, matrix()
    ours, theirs = run(V, settings, steps=20), run(a * V, settings, steps=20)
    np.testing.assert_allclose(theirs.W, 2.0**power * ours.W, rtol=1e-7)
    np.testing.assert_allclose(theirs.losses, ours.losses, rtol=1e-7)
    np.testing.assert_allclose(a * theirs.lrs, ours.lrs, rtol=1e-7)


@every_kind
@given(power=st.integers(-5, 5))
@few
def test_how_a_start_is_shared_between_the_factors_does_not_matter(settings, power):
    """(W, H) -> (tW, H/t), since both are balanced."""
    V, t, rng = matrix(), 2.0**power, np.random.default_rng(0)
    W, H = rng.random((15, 3)), rng.random((3, 40))
    ours = run(V, settings, steps=20, init=(W, H))
    theirs = run(V, settings, steps=20, init=(t * W, H / t))
    np.testing.assert_allclose(theirs.W, ours.W, rtol=1e-7)
    np.testing.assert_allclose(theirs.losses, ours.losses, rtol=1e-7)


@quiet_kind
def test_the_order_of_rows_columns_and_components_does_not_matter(name):
    V, rng = matrix(), np.random.default_rng(0)
    W, H = rng.random((15, 3)), rng.random((3, 40))
    rows, columns, parts = (rng.permutation(size) for size in (15, 40, 3))
    ours = run(V, KINDS[name], steps=30, init=(W, H))
    theirs = run(
        V[rows][:, columns], KINDS[name], steps=30, init=(W[rows][:, parts], H[parts][:, columns])
    )
    np.testing.assert_allclose(theirs.W, ours.W[rows][:, parts], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(theirs.H, ours.H[parts][:, columns], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "noisy"])
def test_single_precision_ends_where_double_does(name):
    """But for the noise, which torch draws differently in either."""
    V, settings = matrix(), KINDS[name]
    single = run(V.astype(np.float32), settings, steps=100)
    assert single.W.dtype == single.H.dtype == np.float32
    double = run(V, settings, steps=100)
    assert single.loss == pytest.approx(double.loss, rel=0.02, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "noisy"])
def test_many_problems_at_once_are_solved_as_one_by_one(name):
    V = np.stack([matrix(seed=seed) * 4.0 ** (seed - 1) for seed in range(3)])
    rng = np.random.default_rng(0)
    start = rng.random((3, 15, 3)), rng.random((3, 3, 40))
    together = run(V, KINDS[name], steps=40, init=start)
    for k in range(3):
        alone = run(V[k], KINDS[name], steps=40, init=(start[0][k], start[1][k]))
        np.testing.assert_allclose(together.W[k], alone.W, rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(together.losses[:, k], alone.losses, rtol=1e-7)


def test_each_of_many_problems_may_have_a_scale_of_its_own():
    V = torch.from_numpy(np.stack([matrix()] * 2))
    rng = np.random.default_rng(0)
    start = random_start(V[0], 3, rng)
    start = Factors(*(torch.stack([x, x]) for x in start))
    solver = Solver(V, start, Settings(rate="bound"), rng)
    solver.step(torch.tensor([1.0, 0.0], dtype=V.dtype))
    record = solver.history()
    assert record.lr[0, 1] == 0
    assert record.lr[0, 0] == pytest.approx((0.75 * record.bound[0, 0]).item())


@pytest.mark.parametrize("name", ["columns", "simultaneous", "all", "noisy"])
def test_a_sparse_matrix_gives_the_run_of_the_dense_one(name):
    V = sparse.random(15, 40, density=0.3, random_state=0, format="csr")
    these, those = (run(x, KINDS[name], steps=40) for x in (V, V.toarray()))
    np.testing.assert_allclose(these.W, those.W, rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(these.losses, those.losses, rtol=1e-7)


@pytest.mark.parametrize("name", ["columns", "simultaneous", "all", "entries", "noisy"])
def test_entries_behind_the_mask_do_not_matter(name):
    V = matrix()
    mask = np.random.default_rng(1).random(V.shape) < 0.6
    found = run(np.where(mask, V, np.nan), KINDS[name], steps=300, mask=mask)
    other = run(np.where(mask, V, 1e9), KINDS[name], steps=300, mask=mask)
    assert np.array_equal(found.W, other.W)
    left = np.square((V - found.W @ found.H)[mask]).sum() / np.square(V[mask]).sum()
    assert found.loss == pytest.approx(left)
    # What it has not seen it fills in, since the rank is right.
    hidden = np.square((V - found.W @ found.H)[~mask]).sum() / np.square(V[~mask]).sum()
    assert hidden < 0.2


def test_of_a_sparse_matrix_drawn_by_entries_the_stored_ones_count():
    mask = np.random.default_rng(1).random((15, 40)) < 0.6
    V = matrix()
    found = run(sparse.csr_array(V * mask), KINDS["entries"], steps=200)
    left = np.square((V - found.W @ found.H)[mask]).sum() / np.square(V[mask]).sum()
    assert found.loss == pytest.approx(left)
    assert left < 0.02


def test_a_schedule_decides_step_by_step_and_is_told_the_loss():
    told = []

    def scale(progress, loss):
        told.append((progress, loss))
        return 0.5

    found = run(matrix(), Settings(batch=8, rate="bound", ceiling=1.0), steps=4, scale=scale)
    np.testing.assert_allclose(found.lrs, 0.5 * found.bounds)
    assert [progress for progress, _ in told] == [0, 0.25, 0.5, 0.75]
    assert math.isnan(told[0][1])
    assert [loss for _, loss in told[1:]] == pytest.approx(list(found.losses[:-1]))


def test_an_absolute_rate_is_taken_where_the_bound_allows_it():
    found = run(matrix(), Settings(rate=1e-6), steps=10, scale=lambda progress, loss: 1.0)
    np.testing.assert_allclose(found.lrs, 1e-6)


def test_no_steps_leave_the_start():
    found = run(matrix(), Settings(), steps=0)
    assert found.losses.shape == (0,)
    assert 0 < found.loss < 1


def test_a_matrix_of_zeros_is_factorised_as_zeros():
    for settings in KINDS.values():
        found = run(np.zeros((5, 7)), settings, steps=20)
        assert found.loss == 0
        assert not (found.W @ found.H).any()
        assert np.isfinite(found.W).all()
        assert found.repairs == []


def test_empty_rows_and_columns_stay_empty():
    V = matrix()
    V[3], V[:, 5] = 0, 0
    found = run(V, KINDS["all"], steps=500)
    assert (found.W @ found.H)[3].max() < 1e-3 * V.max()
    assert (found.W @ found.H)[:, 5].max() < 1e-3 * V.max()


def damaged(harm, settings):
    rng = np.random.default_rng(0)
    V = torch.from_numpy(matrix())
    solver = Solver(V, random_start(V, 3, rng), settings, rng)
    for _ in range(20):
        solver.step()
    harm(solver)
    for _ in range(250):
        solver.step()
    return solver


def explode(solver):
    solver.W *= 1e3
    solver.H *= 1e3


def kill(solver):
    solver.W.zero_()
    solver.H.zero_()


def poison(solver):
    solver.W[0, 0] = math.nan


def kill_component(solver):
    solver.W[:, 1] = 0
    solver.H[1] = 0


@pytest.mark.parametrize(
    ("harm", "name", "failure"),
    [
        (explode, "all simultaneous", "oscillation"),
        (poison, "columns", "oscillation"),
        (poison, "entries", "oscillation"),
        (kill, "columns", "dead factors"),
        (kill_component, "columns", "dead components"),
    ],
)
def test_what_goes_wrong_is_mended_and_reported(harm, name, failure):
    solver = damaged(harm, KINDS[name])
    assert solver.repairs[0].failure == failure
    assert solver.repairs[0].step <= 26
    assert solver.loss() < 0.05


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"units": "rows"}, "units must be"),
        ({"rate": "fast"}, "rate must be"),
        ({"rate": 0.0}, "rate must be positive"),
        ({"rate": math.nan}, "rate must be positive"),
        ({"ceiling": 1.5}, "above 1 no theorem holds"),
        ({"ceiling": 0}, "ceiling must lie"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"h_steps": 0}, "h_steps must be at least 1"),
        ({"cap": -1.0}, "cap must be positive"),
        ({"anchor": math.inf}, "anchor must be positive"),
        ({"noise": -1.0}, "noise must be"),
        ({"noise": math.inf}, "noise must be finite"),
        ({"rate": np.float32(-1)}, "rate must be positive"),
        ({"units": "entries", "simultaneous": True}, "entries step W and H in turn"),
    ],
)
def test_settings_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        Settings(**options)


@pytest.mark.parametrize("name", ["batch", "h_steps", "anchor", "rate", "cap", "ceiling", "noise"])
def test_settings_must_be_numbers(name):
    for wrong in ("8" if name != "rate" else [8], True, [8]):
        with pytest.raises(TypeError, match=f"{name} must be a (whole )?number, got"):
            Settings(**{name: wrong})


@pytest.mark.parametrize("rate", ["anchored", "bound", 0.1])
@pytest.mark.parametrize("scale", [-1.0, math.nan, math.inf, 1e300])
def test_whatever_a_schedule_asks_for_the_rate_is_neither_negative_nor_above_its_ceiling(
    rate, scale
):
    found = run(matrix(), Settings(rate=rate), steps=5, scale=lambda progress, loss: scale)
    expected = 0.75 * found.bounds if scale > 0 else np.zeros(5)
    np.testing.assert_allclose(found.lrs, expected)
    assert np.isfinite(found.W).all()
