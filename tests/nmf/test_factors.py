import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import nnls
from sklearn.decomposition import NMF

from lrpilot.nmf import Sparse, balanced, coefficients, nndsvd_start, random_start, scaled
from nmf_states import loss, squared, states


def test_balancing_keeps_the_product_and_is_done_once():
    V, (W, H) = states(500)
    once = balanced(W, H)
    assert torch.allclose(once.W @ once.H, W @ H, rtol=1e-12, atol=0)
    twice = balanced(*once)
    assert all(torch.allclose(a, b, rtol=1e-12, atol=0) for a, b in zip(once, twice, strict=True))
    w, h = once.W.norm(dim=-2), once.H.norm(dim=-1)
    alive = (w > 0) & (h > 0)
    assert torch.allclose(w[alive], h[alive], rtol=1e-12)
    assert torch.allclose(loss(V, *once), loss(V, W, H), rtol=1e-9)


def test_a_component_that_is_half_zero_is_left_alone():
    W, H = torch.ones(3, 2), torch.ones(2, 4)
    W[:, 1] = 0
    same = balanced(W, H)
    assert torch.equal(same.H[1], H[1])
    assert torch.equal(same.W[:, 1], W[:, 1])


def test_no_other_scale_of_a_start_is_closer():
    V, (W, H) = states(200)
    best = scaled(V, W, H)
    for factor in (0.99, 1.01):
        assert bool((loss(V, *best) <= loss(V, best.W * factor, best.H) * (1 + 1e-12)).all())
    assert bool((loss(V, *best) <= squared(V) / 2 * (1 + 1e-12)).all())


@pytest.mark.parametrize("start", [random_start, nndsvd_start])
def test_a_sparse_matrix_gives_the_start_of_the_dense_one(start):
    V = sparse.random(20, 30, density=0.3, random_state=0, format="csc")
    these = start(Sparse(V), 4, np.random.default_rng(0))
    those = start(torch.from_numpy(V.toarray()), 4, np.random.default_rng(0))
    assert all(torch.allclose(a, b) for a, b in zip(these, those, strict=True))
    assert all((x > 0).all() for x in these)


def test_singular_vectors_start_as_close_as_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    V = rng.gamma(1.0, size=(40, 5)) @ rng.gamma(0.3, size=(5, 60)) + 0.1 * rng.random((40, 60))
    ours = loss(torch.from_numpy(V), *nndsvd_start(torch.from_numpy(V), 5, rng)).item()
    model = NMF(5, init="nndsvd", max_iter=1, tol=1e9)
    with pytest.warns(Warning, match="Maximum number"):
        theirs = model.fit(V.T).reconstruction_err_
    drawn = loss(torch.from_numpy(V), *random_start(torch.from_numpy(V), 5, rng)).item()
    # Theirs has made a pass of coordinate descent already.
    assert theirs**2 / 2 < ours < drawn


def test_singular_vectors_start_with_the_larger_part_of_each_pair():
    """Boutsidis and Gallopoulos (2008), where nothing has to be filled in much."""
    rng = np.random.default_rng(0)
    V = rng.gamma(1.0, size=(20, 4)) @ rng.gamma(0.3, size=(4, 30))
    U, S, Vh = np.linalg.svd(V)
    parts = []
    for u, s, v in zip(U.T[:4], S, Vh, strict=False):
        plus, minus = (np.outer(a.clip(0), b.clip(0)) for a, b in ((u, v), (-u, -v)))
        parts.append(s * max(plus, minus, key=np.linalg.norm))
    W, H = (x.numpy() for x in nndsvd_start(torch.from_numpy(V), 4, rng))
    times = [
        np.vdot(np.outer(W[:, k], H[k]), part) / np.vdot(part, part) for k, part in enumerate(parts)
    ]
    for k, part in enumerate(parts):
        ours = np.outer(W[:, k], H[k])
        assert np.linalg.norm(ours - times[k] * part) < 0.2 * np.linalg.norm(ours)
    np.testing.assert_allclose(times, times[0], rtol=0.05)
    assert np.linalg.norm(W, axis=0) == pytest.approx(np.linalg.norm(H, axis=1))


@pytest.mark.parametrize("start", [random_start, nndsvd_start])
def test_a_start_has_the_best_scale_and_is_balanced(start):
    rng = np.random.default_rng(0)
    V = torch.from_numpy(rng.gamma(1.0, size=(20, 30)))
    W, H = start(V, 4, rng)
    assert loss(V, W, H) < min(loss(V, W * factor, H) for factor in (0.99, 1.01))
    torch.testing.assert_close(W.norm(dim=0), H.norm(dim=1))


def test_singular_vectors_that_do_not_exist_leave_a_start_without_nan():
    V = torch.ones(6, 5, dtype=torch.float64)
    for x in nndsvd_start(V, 3, np.random.default_rng(0)):
        assert torch.isfinite(x).all()
        assert (x > 0).all()
    for x in nndsvd_start(torch.zeros(6, 5), 3, np.random.default_rng(0)):
        assert torch.equal(x, torch.zeros_like(x))


@pytest.mark.parametrize("start", [random_start, nndsvd_start])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_sparse_matrix_keeps_its_precision(start, dtype):
    V = Sparse(sparse.random(20, 30, density=0.3, random_state=0, format="csc", dtype=dtype))
    assert all(x.dtype == V.dtype for x in start(V, 4, np.random.default_rng(0)))
    assert {x.dtype for x in (V.squared_norm(), V.largest(), V.mean())} == {V.dtype}


@pytest.mark.parametrize("masked", [False, True])
def test_coefficients_are_those_of_non_negative_least_squares(masked):
    rng = np.random.default_rng(3)
    W = rng.gamma(0.5, size=(12, 5)) * 10.0 ** rng.integers(-2, 3, size=5)
    V = rng.gamma(1.0, size=(12, 8))
    known = rng.random(V.shape) < 0.7 if masked else np.ones(V.shape, bool)
    H = coefficients(
        torch.from_numpy(V),
        torch.from_numpy(W),
        mask=torch.from_numpy(known) if masked else None,
        max_iter=5000,
        tol=1e-12,
    )
    for j in range(8):
        seen = known[:, j]
        best, left = nnls(W[seen], V[seen, j])
        np.testing.assert_allclose(H[:, j], best, rtol=1e-5, atol=1e-7 * best.max())
        assert np.linalg.norm(W[seen] @ H[:, j].numpy() - V[seen, j]) <= left * (1 + 1e-9)


def test_the_scale_of_the_matrix_scales_the_coefficients_and_a_start_that_fits_stays():
    rng = np.random.default_rng(0)
    W, V = (torch.from_numpy(rng.gamma(1.0, size=(12, k))) for k in (4, 9))
    H = coefficients(V, W, tol=1e-12)
    for scale in (1e-8, 1e8):
        torch.testing.assert_close(coefficients(scale * V, W) / scale, H, rtol=1e-3, atol=1e-5)
    stays = coefficients(
        V,
        W * torch.tensor([1.0, 4.0, 0.1, 30.0]),
        max_iter=1,
        start=H / torch.tensor([[1.0], [4.0], [0.1], [30.0]]),
    )
    torch.testing.assert_close(
        stays * torch.tensor([[1.0], [4.0], [0.1], [30.0]]), H, atol=1e-6, rtol=1e-6
    )


def test_a_column_of_zeros_gets_coefficients_of_zero():
    W = torch.ones(4, 2, dtype=torch.float64)
    W[:, 1] = 0
    H = coefficients(torch.ones(4, 3, dtype=torch.float64), W)
    assert torch.allclose(H, torch.tensor([[1.0], [0.0]], dtype=torch.float64).expand(2, 3))
    assert torch.equal(coefficients(torch.ones(4, 3), torch.zeros(4, 2)), torch.zeros(2, 3))


def test_sparse_coefficients_are_the_dense_ones():
    V = sparse.random(20, 30, density=0.3, random_state=0, format="csc")
    W = torch.from_numpy(np.random.default_rng(0).random((20, 3)))
    dense = coefficients(torch.from_numpy(V.toarray()), W)
    assert torch.allclose(coefficients(Sparse(V), W), dense)
