import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lrpilot.nmf import bounds, curvature

sizes = st.floats(0, 1e6).map(lambda x: x if x > 1e-6 else 0.0)
factors = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(float, shape, elements=sizes)
)
UNITS = ["columns", "entries", "rows"]


def wild_factors(count=100):
    """Rows and columns whose sizes span decades, and many zeros."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        r, n = rng.integers(1, 50), rng.integers(1, 100)
        H = rng.gamma(rng.choice([0.02, 0.1, 0.5, 2]), size=(r, n))
        H *= 10.0 ** rng.normal(0, rng.choice([0, 1, 3]), size=(r, 1))
        yield H * (rng.random((r, n)) < rng.choice([0.1, 0.5, 1]))


@given(factors)
def test_the_bound_of_a_block_is_at_most_the_quotient_and_close_to_it(H):
    largest = np.linalg.eigvalsh(H @ H.T)[-1]
    if largest <= 0:
        assert bounds.block(H) == math.inf
    else:
        assert 0.95 * 2 / largest <= bounds.block(H) <= 2 / largest * (1 + 1e-14)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_it_stays_close_for_wild_factors_in_either_precision(dtype):
    for H in wild_factors():
        H = H.astype(dtype)
        exact = H.astype(float)
        largest = np.linalg.eigvalsh(exact @ exact.T)[-1]
        if largest > 1e-30:
            assert 0.95 * 2 / largest <= bounds.block(H) <= 2 / largest * (1 + 1e-14)


@pytest.mark.parametrize("iterations", [0, 1, 2, 3, 10])
def test_the_cheap_eigenvalue_is_an_upper_bound_at_every_count(iterations):
    for H in wild_factors():
        A = H @ H.T
        largest = np.linalg.eigvalsh(A)[-1]
        assert bounds.top_eigenvalue(A, iterations=iterations) >= largest * (1 - 1e-14)


@pytest.mark.parametrize("units", UNITS)
@given(H=factors, data=st.data())
def test_larger_minibatches_and_none_twice_allow_larger_rates(units, H, data):
    rows = 5
    most = {"columns": H.shape[1], "entries": 5 * H.shape[1], "rows": 5}[units]
    batch = data.draw(st.integers(1, most))

    def lr(batch, replace=False):
        return bounds.minibatch(H, batch, units=units, replace=replace, rows=rows)

    assert lr(batch, replace=True) <= lr(batch) * (1 + 1e-12)
    assert lr(1) <= lr(batch) * (1 + 1e-12)
    assert lr(1, replace=True) <= lr(batch, replace=True) * (1 + 1e-12)
    assert lr(batch) <= bounds.block(H) * (1 + 1e-12)


def test_the_estimate_does_not_exceed_the_trace():
    # Rows far apart, of which the power iteration knows little after three products.
    H = torch.tensor([[1.0, 1.0], [0.9, 0.9], [1e-4, 1e-4]], dtype=torch.float64)
    exact = torch.linalg.eigvalsh(H @ H.mT)[-1]
    for iterations in range(4):
        found = curvature.block(H, iterations=iterations)
        assert exact <= found <= exact * (1 + 1e-12)  # of rank one, so that it is the trace


def test_one_column_gives_its_longest_and_all_columns_give_the_block():
    H = np.random.default_rng(0).gamma(1.0, size=(3, 20))
    longest = (H**2).sum(0).max()
    assert bounds.minibatch(H, 1) == pytest.approx(2 / (20 * longest))
    assert bounds.minibatch(H, 20) == pytest.approx(bounds.block(H))
    assert bounds.minibatch(H, 7, units="rows", rows=7) == pytest.approx(bounds.block(H))


@given(st.integers(-6, 6), st.floats(1e-3, 1e3))
def test_rates_scale_as_one_over_the_matrix(power, cap):
    """V -> aV, W, H -> √a W, √a H; powers of 4 round alike."""
    a = 4.0**power
    root = 2.0**power
    rng = np.random.default_rng(1)
    V, W, H = rng.gamma(1.0, size=(5, 8)), rng.gamma(1.0, size=(5, 3)), rng.gamma(1.0, size=(3, 8))
    # The floor of an iterate is relative, so that only the last digits differ.
    same = {"rel": 1e-12}
    assert bounds.block(root * H) * a == pytest.approx(bounds.block(H), **same)
    assert bounds.minibatch(root * H, 2) * a == pytest.approx(bounds.minibatch(H, 2), **same)
    ours = bounds.joint(a * V, root * W, root * H, cap=root * cap) * a
    assert ours == pytest.approx(bounds.joint(V, W, H, cap=cap), **same)
    for mine in (None, cap):
        theirs = None if mine is None else root * mine
        ours = bounds.constant(a * V, 3, cap=theirs) * a
        assert ours == pytest.approx(bounds.constant(V, 3, cap=mine), **same)
    ours = bounds.boxed(a * V, 3, limit=root * cap) * a
    assert ours == pytest.approx(bounds.boxed(V, 3, limit=cap), **same)


def test_neither_order_nor_transposition_changes_a_rate():
    rng = np.random.default_rng(2)
    V, W, H = rng.gamma(1.0, size=(5, 8)), rng.gamma(1.0, size=(5, 3)), rng.gamma(1.0, size=(3, 8))
    turned = bounds.joint(V.T, H.T, W.T, cap=0.1)
    assert turned == pytest.approx(bounds.joint(V, W, H, cap=0.1))
    order, parts = rng.permutation(8), rng.permutation(3)
    shuffled = H[parts][:, order]
    assert bounds.block(shuffled) == pytest.approx(bounds.block(H))
    assert bounds.minibatch(shuffled, 3) == pytest.approx(bounds.minibatch(H, 3))


def test_a_cap_that_does_not_bind_changes_no_rate_and_a_tight_one_raises_it():
    V = np.random.default_rng(0).gamma(1.0, size=(5, 8))
    free = bounds.constant(V, 3)
    assert bounds.constant(V, 3, cap=1e9) == free
    assert bounds.constant(V, 3, cap=1e-9) > 1.01 * free


def test_the_constant_is_that_of_its_theorem_by_hand():
    """‖V‖ = 2 and r = 1, so that s² = 8 and δ = 2s / 5; r = 4 makes that s² = 16 and δ = 2s / 9."""
    V = np.ones((2, 2))
    assert bounds.constant(V, 1) == pytest.approx(2 / (8 * 1.2**2 + 2))
    assert bounds.constant(V, 4) == pytest.approx(2 / (16 * (10 / 9) ** 2 + 2))


def test_a_rate_is_rounded_down():
    for sharpness in np.random.default_rng(0).random(200):
        assert Fraction(bounds.rate(sharpness)) * Fraction(float(sharpness)) <= 2


def test_in_a_box_both_extremes_of_the_residual_count():
    """Where V is 0 the whole residual is WH, and where the box is small it is V."""
    zero, ones = np.zeros((4, 6)), np.ones((4, 6))
    assert bounds.boxed(zero, 3, limit=2.0) == pytest.approx(2 / (12 * (10 + 24**0.5)))
    assert bounds.boxed(ones, 3, limit=1e-9) == pytest.approx(2 / 24**0.5)


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.int32, np.int64, np.uint8, bool])
def test_other_types_of_numbers_are_taken_as_the_numbers_they_are(dtype):
    H = (np.random.default_rng(0).random((3, 9)) * 3).astype(dtype)
    assert bounds.block(H) == pytest.approx(bounds.block(H.astype(float)), rel=1e-5)
    assert isinstance(bounds.block(torch.from_numpy(H)), float)


def test_where_nothing_curves_any_rate_will_do():
    zero = np.zeros((3, 4))
    assert bounds.block(zero) == math.inf
    assert bounds.minibatch(zero, 2) == math.inf
    assert bounds.constant(zero, 2) == math.inf


@pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
def test_entries_that_are_no_sizes_are_refused(bad):
    H = np.ones((2, 3))
    H[1, 1] = bad
    for wrong in (bounds.block, lambda H: bounds.minibatch(H, 1), bounds.top_eigenvalue):
        with pytest.raises(ValueError, match=f"finite entries that are not negative, got {bad}$"):
            wrong(H)


def test_shapes_counts_and_names_are_checked():
    H = np.ones((2, 3))
    with pytest.raises(ValueError, match="batch must lie between 1 and the 3 columns"):
        bounds.minibatch(H, 4)
    with pytest.raises(ValueError, match="units must be columns, entries or rows"):
        bounds.minibatch(H, 1, units="blocks")
    with pytest.raises(ValueError, match="rows must be the number of rows"):
        bounds.minibatch(H, 1, units="entries")
    with pytest.raises(ValueError, match="H must not be empty"):
        bounds.block(np.ones((0, 3)))
    with pytest.raises(ValueError, match="must be a matrix"):
        bounds.block(np.ones(3))
    with pytest.raises(ValueError, match="rank must be at least 1"):
        bounds.constant(H, 0)
    with pytest.raises(ValueError, match=r"must be \(m, n\), \(m, r\) and \(r, n\)"):
        bounds.joint(np.ones((4, 3)), np.ones((5, 2)), H, cap=0.1)
    with pytest.raises(ValueError, match="cap must be at least 0"):
        bounds.joint(np.ones((4, 3)), np.ones((4, 2)), H, cap=math.nan)
    with pytest.raises(ValueError, match="limit must be positive"):
        bounds.boxed(H, 1, limit=0)
    assert bounds.minibatch(H, 4, replace=True) > 0
