"""The theorems of docs/nmf.md at thousands of random states: not one violation below a bound.

Expectations over minibatches are taken over all minibatches, not over a sample.
"""

from itertools import combinations, product

import numpy as np
import pytest
import torch

from lrpilot.nmf import balanced, bounds, curvature, scaled
from lrpilot.nmf.factors import stepped
from nmf_states import inner, loss, squared, states

COUNT = 4000
SHARES = (0.05, 0.5, 0.95, 1.0)

every_share = pytest.mark.parametrize("share", SHARES)


def never_rises(after, before):
    """Up to the rounding of a sum of squares."""
    assert int((after > before * (1 + 1e-12)).sum()) == 0


def block_rate(H):
    return 2 / curvature.block(H, iterations=5)


def noise_of(like, seed, size):
    """Noise with norm ``size`` (count,), of which the negative is as likely."""
    generator = torch.Generator().manual_seed(seed)
    xi = torch.randn(like.shape, generator=generator, dtype=like.dtype)
    return xi * (size / squared(xi).sqrt())[:, None, None]


@pytest.mark.parametrize("cap", [None, 1e-3, 1.0])
def test_a_projected_and_clipped_step_goes_down_the_gradient(cap):
    """T0."""
    _, (x, _) = states(COUNT)
    generator = torch.Generator().manual_seed(1)
    g, other = (torch.randn(x.shape, generator=generator, dtype=x.dtype) for _ in range(2))
    lr = 10 ** (4 * torch.rand(COUNT, generator=generator, dtype=x.dtype) - 2)
    new = stepped(x, g, lr, cap)
    d = new - x
    slack = 1e-12 * (squared(x) + squared(d))
    assert bool((new >= 0).all())
    assert bool((inner(g, d) <= -squared(d) / lr + slack / lr).all())
    apart = squared(new - stepped(x, other, lr, cap)).sqrt()
    assert bool((apart <= lr * squared(g - other).sqrt() + slack.sqrt()).all())
    if cap is not None:
        assert d.abs().max() <= cap * (1 + 1e-6)


@every_share
@pytest.mark.parametrize("cap", [None, 1e-2])
def test_an_exact_step_of_one_block_never_raises_the_loss(share, cap):
    """T1, for W and for H."""
    V, (W, H) = states(COUNT)
    new = stepped(W, (W @ H - V) @ H.mT, share * block_rate(H), cap)
    never_rises(loss(V, new, H), loss(V, W, H))
    new = stepped(H, W.mT @ (W @ H - V), share * block_rate(W.mT), cap)
    never_rises(loss(V, W, new), loss(V, W, H))


def test_the_bound_of_one_block_is_sharp():
    """T1: one per cent above it the error grows without end, one per cent below it does not."""
    V, (W, H) = states(200, scales=False)
    A = H @ H.mT
    largest = torch.linalg.eigvalsh(A)[..., -1, None, None]
    best = (V @ H.mT) @ torch.linalg.pinv(A)
    ends = {}
    for share in (0.99, 1.01):
        x = W.clone()
        for _ in range(2000):
            x = x - share * 2 / largest * (x @ H - V) @ H.mT
        ends[share] = squared((x - best) @ A).sqrt()
    assert ends[0.99].max() < 1e-12 * ends[1.01].min()
    assert (ends[1.01] > 1e6 * squared((W - best) @ A).sqrt()).all()


@every_share
def test_noise_raises_the_expected_loss_of_a_block_by_no_more_than_its_variance_times_the_rate(
    share,
):
    """T2, for noise that is ξ or −ξ."""
    V, (W, H) = states(COUNT)
    g, lr = (W @ H - V) @ H.mT, share * block_rate(H)
    size = squared(g).sqrt() * torch.logspace(-3, 3, COUNT, dtype=V.dtype)
    xi = noise_of(W, 2, size)
    after = sum(loss(V, stepped(W, g + sign * xi, lr), H) for sign in (1, -1)) / 2
    assert bool((after <= (loss(V, W, H) + lr * size**2) * (1 + 1e-12)).all())


def test_without_projection_the_expected_loss_falls_exactly_below_the_rate_of_the_theorem():
    """T2: the sign of the change flips at 2‖g‖² / E‖ĝH‖²."""
    V, (W, H) = states(COUNT, scales=False)
    g = (W @ H - V) @ H.mT
    xi = noise_of(W, 3, squared(g).sqrt())
    spread = (squared((g + xi) @ H) + squared((g - xi) @ H)) / 2
    for share, falls in ((0.99, True), (1.01, False)):
        lr = (share * 2 * squared(g) / spread)[:, None, None]
        after = sum(loss(V, W - lr * (g + sign * xi), H) for sign in (1, -1)) / 2
        assert bool(((after < loss(V, W, H)) == falls).all())


SCHEMES = [
    ("columns", True),
    ("columns", False),
    ("entries", True),
    ("entries", False),
    ("rows", True),
    ("rows", False),
]


def operators(H, m, batch, units, replace):
    """What each possible minibatch puts in the place of I ⊗ HHᵀ: (draws, mr, mr)."""
    columns = torch.einsum("aj,bj->jab", H, H)  # (n, r, r)
    ones = torch.eye(m, dtype=H.dtype)
    if units == "columns":
        single = torch.stack([torch.kron(ones, h) for h in columns])
    elif units == "rows":
        single = torch.stack([torch.kron(torch.diag(e), columns.sum(0)) for e in ones])
    else:
        single = torch.stack([torch.kron(torch.diag(e), h) for e in ones for h in columns])
    size = len(single)
    draws = product(range(size), repeat=batch) if replace else combinations(range(size), batch)
    return torch.stack([size / batch * single[list(at)].sum(0) for at in draws])


@pytest.mark.parametrize(("units", "replace"), SCHEMES)
def test_the_second_moment_of_a_minibatch_operator_is_bounded(units, replace):
    """T3, E[Â²] <= calL A in matrix order, for every scheme and batch, by full enumeration."""
    m, n, r = 2, 4, 2
    _, (_, Hs) = states(25, shape=(m, n, r), scales=False)
    for H in Hs:
        A = torch.kron(torch.eye(m, dtype=H.dtype), H @ H.T)
        size = {"columns": n, "rows": m, "entries": m * n}[units]
        for batch in range(1, min(size, 4 if not replace else 3) + 1):
            drawn = operators(H, m, batch, units, replace)
            torch.testing.assert_close(drawn.mean(0), A)
            lr = bounds.minibatch(H, batch, units=units, replace=replace, rows=m)
            # lr = 2 / calL, so that lr E[Â²] <= 2A; this is the one-step contraction as well.
            gap = torch.linalg.eigvalsh(2 * A - lr * (drawn @ drawn).mean(0))
            assert gap.min() >= -1e-12 * A.max()


@pytest.mark.parametrize(("units", "replace"), SCHEMES)
def test_the_expected_distance_to_the_best_factor_never_rises_under_minibatches(units, replace):
    """T3 with projection, where V = W*H, so that the sampling is the only noise."""
    m, n, r, batch = 2, 4, 2, 2
    _, (W, H) = states(100, shape=(m, n, r), scales=False)
    _, (best, _) = states(100, seed=5, shape=(m, n, r), scales=False)
    for start, target, h in zip(W, best, H, strict=True):
        drawn = operators(h, m, batch, units, replace)
        lr = bounds.minibatch(h, batch, units=units, replace=replace, rows=m)
        gradients = (drawn @ (start - target).reshape(-1)).reshape(-1, m, r)
        after = squared(stepped(start, gradients, lr) - target).mean()
        never_rises(after, squared(start - target))


def test_the_bound_for_rows_is_sharp():
    """T3: E[Â²] = calL A, so that one per cent above it the expected error grows."""
    _, (_, Hs) = states(50, shape=(2, 4, 2), scales=False)
    for H in Hs:
        lr = 2 / (2 * torch.linalg.eigvalsh(H @ H.T)[-1])
        top = torch.linalg.eigh(H @ H.T)[1][:, -1]
        error = torch.stack([top, top]).reshape(-1)
        drawn = operators(H, 2, 1, "rows", False)
        for share, grows in ((0.99, False), (1.01, True)):
            after = (error - share * lr * drawn @ error).square().sum(-1).mean()
            assert (after > error.square().sum()) == grows


def test_the_bound_for_exact_gradients_is_unsafe_for_small_minibatches():
    """T3: at 0.98 of 2/λmax the expected error explodes; at 0.98 of 2/calL it contracts."""
    rng = np.random.default_rng(0)
    H = torch.from_numpy(rng.gamma(2.0, size=(5, 200)) * rng.pareto(2.0, size=200))
    A = H @ H.T
    ends = []
    for lr in (bounds.block(H), bounds.minibatch(H, 1, replace=True)):
        # The second moment M of the error, one step after another, exactly.
        M = torch.eye(5, dtype=H.dtype)
        squares = H.square().sum(0)
        for _ in range(50):
            inside = (H * (H * (M @ H)).sum(0)) @ H.T  # Σ h hᵀ M h hᵀ
            M = M - 0.98 * lr * (A @ M + M @ A) + (0.98 * lr) ** 2 * H.shape[1] * inside
        ends.append(M.trace().item())
        assert squares.max() > 3 * squares.mean()
    assert ends[0] > 1e6
    assert ends[1] < 5


def test_no_step_of_both_factors_exceeds_the_quadratic_upper_model():
    """T4 for any step: at random ones, and where the residual curves the loss most."""
    V, (W, H) = states(COUNT)
    m, n = V.shape[-2:]
    R = W @ H - V
    U, _, Vh = torch.linalg.svd(R)
    sharpest = U[..., :1].expand_as(W), Vh[..., :1, :].expand_as(H)
    random = torch.ones_like(squared(V))
    length = squared(W).sqrt() * torch.logspace(-3, 3, COUNT, dtype=V.dtype)
    for seed, (dW, dH) in enumerate([(noise_of(W, 10, random), noise_of(H, 11, random)), sharpest]):
        for sign in (1, -1):
            norm = (squared(dW) + squared(dH)).sqrt()
            eW, eH = (d * (length / norm)[:, None, None] for d in (dW, sign * dH))
            cap = length / ((m + n) * W.shape[-1]) ** 0.5
            reach = curvature.reach(m, n, W.shape[-1], 1.0) * cap
            L = curvature.joint(W, H, squared(R).sqrt(), reach=reach, iterations=5)
            model = loss(V, W, H) + inner(R @ H.mT, eW) + inner(W.mT @ R, eH) + L / 2 * length**2
            size = squared(W + eW) * squared(H + eH) + squared(V)  # of what is subtracted
            assert bool((loss(V, W + eW, H + eH) <= model + 1e-12 * size).all()), seed


@every_share
@pytest.mark.parametrize("cap", [1e-3, 1e-1, 10.0])
def test_an_exact_step_of_both_factors_never_raises_the_loss(share, cap):
    """T4."""
    V, (W, H) = states(COUNT)
    m, n = V.shape[-2:]
    R = W @ H - V
    reach = curvature.reach(m, n, W.shape[-1], cap)
    norm = squared(R).sqrt()
    lr = share * 2 / curvature.joint(W, H, norm, reach=reach, iterations=5)
    new = stepped(W, R @ H.mT, lr, cap), stepped(H, W.mT @ R, lr, cap)
    never_rises(loss(V, *new), loss(V, W, H))
    # With noise that is ξ or −ξ, by no more than the rate times the variance.
    size = squared(R @ H.mT).sqrt() * torch.logspace(-3, 3, COUNT, dtype=V.dtype)
    xi, zeta = noise_of(W, 6, size), noise_of(H, 7, size)
    after = sum(
        loss(V, stepped(W, R @ H.mT + s * xi, lr, cap), stepped(H, W.mT @ R + s * zeta, lr, cap))
        for s in (1, -1)
    )
    assert bool((after / 2 <= (loss(V, W, H) + 2 * lr * size**2) * (1 + 1e-12)).all())


@pytest.mark.parametrize("cap", [None, 1e-2])
def test_a_start_that_is_scaled_and_balanced_makes_one_rate_safe_for_ever(cap):
    """T5."""
    V, start = states(200)
    W, H = balanced(*scaled(V, *start))
    rank = W.shape[-1]
    lr = torch.tensor([bounds.constant(v, rank, cap=cap) for v in V], dtype=V.dtype)
    lr[torch.isinf(lr)] = 0.0
    before = loss(V, W, H)
    assert bool((before <= squared(V) / 2 * (1 + 1e-12)).all())
    for _ in range(300):
        R = W @ H - V
        W, H = balanced(stepped(W, R @ H.mT, lr, cap), stepped(H, W.mT @ R, lr, cap))
        after = loss(V, W, H)
        never_rises(after, before)
        before = after


@every_share
def test_in_a_box_any_noise_raises_the_expected_loss_by_its_variance_times_the_rate_at_most(share):
    """T5, from any state in the box."""
    V, (W, H) = states(COUNT, scales=False)
    limit = 1.5
    lr = share * torch.tensor([bounds.boxed(v, 3, limit=limit) for v in V], dtype=V.dtype)
    R = W @ H - V
    size = squared(R @ H.mT).sqrt() * torch.logspace(-3, 4, COUNT, dtype=V.dtype)
    xi, zeta = noise_of(W, 8, size), noise_of(H, 9, size)
    after = sum(
        loss(
            V,
            stepped(W, R @ H.mT + s * xi, lr).clamp(max=limit),
            stepped(H, W.mT @ R + s * zeta, lr).clamp(max=limit),
        )
        for s in (1, -1)
    )
    assert bool((after / 2 <= (loss(V, W, H) + 2 * lr * size**2) * (1 + 1e-12)).all())


@pytest.mark.parametrize("units", ["block", "columns", "entries", "rows"])
def test_a_stale_bound_holds_wherever_the_factor_may_have_gone(units):
    """T6, at the worst place, where every entry went as far as it could, and at random ones."""
    _, (_, Hs) = states(100, shape=(4, 7, 3), scales=False)
    generator = torch.Generator().manual_seed(4)

    def bound(H, moved=0.0):
        if units == "block":
            return bounds.block(H, moved=moved)
        return bounds.minibatch(H, 3, units=units, rows=4, moved=moved)

    for H in Hs:
        for moved in (0.01, 0.3):
            far = moved * torch.rand(H.shape, generator=generator, dtype=H.dtype)
            for D in (moved * torch.ones_like(H), far):
                # Both sides are estimates from above, within 1 % of the truth.
                assert bound(H, moved) <= bound(H + D) * (1 + 1e-2)
        assert bound(torch.zeros_like(H), 0.1) == pytest.approx(
            bound(torch.full_like(H, 0.1)), rel=1e-2
        )


def test_the_mean_loss_over_a_run_is_below_the_speed_and_floor_of_the_theorem():
    """T7, columns with replacement, 2,000 runs of 40 steps."""
    _, (W, H) = states(1, shape=(4, 12, 2), scales=False)
    V = (states(1, seed=3, shape=(4, 12, 2), scales=False)[0] + W @ H)[0]
    W, H = W[0], H[0]
    n, batch, chains, steps = 12, 3, 2000, 40
    best = V @ H.T @ torch.linalg.inv(H @ H.T)
    R = best @ H - V
    variance = n / batch * (R.square().sum(0) * H.square().sum(0)).sum()
    lowest = loss(V, best, H)
    calL = 2 / bounds.minibatch(H, batch, replace=True)
    generator = torch.Generator().manual_seed(2)
    for share in (0.1, 0.3, 0.6, 0.9):
        lr = share / calL
        x, total = W.expand(chains, *W.shape), torch.tensor(0.0, dtype=V.dtype)
        for _ in range(steps):
            total = total + (loss(V, x, H) - lowest).mean()
            at = torch.randint(n, (chains, batch), generator=generator)
            Hj, Vj = H.T[at].mT, V.T[at].mT  # (chains, r, batch), (chains, m, batch)
            x = x - lr * n / batch * (x @ Hj - Vj) @ Hj.mT
        slack = 1 - lr * calL
        bound = squared(W - best) / (4 * lr * slack * steps) + lr * variance / (2 * slack)
        assert total / steps < bound
