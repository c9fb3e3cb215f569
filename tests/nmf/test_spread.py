import pytest
import torch

from lrpilot.nmf.spread import Spread
from nmf_states import squared, states


def moved_about(steps, *, empty=False):
    """A factor whose columns have moved, a few at a time, beside what is known of it."""
    generator = torch.Generator().manual_seed(0)
    H = states(1, shape=(6, 30, 5), scales=False)[1].H[0]
    spread = Spread(H)
    for _ in range(steps):
        at = torch.randperm(30, generator=generator)[:7]
        new = torch.rand(5, 7, generator=generator, dtype=H.dtype) * (not empty)
        old = H[:, at]
        H = H.index_copy(-1, at, new)
        spread.move(at, old, new)
        yield H, spread


def test_it_knows_the_products_and_lengths_wherever_columns_have_moved():
    for H, spread in moved_about(20):
        torch.testing.assert_close(spread.gram, H @ H.T)
        torch.testing.assert_close(spread.squares, H.square().sum(0))
        torch.testing.assert_close(spread.longest(), H.square().sum(0).max())


def test_its_estimate_follows_the_eigenvalue_from_above():
    for H, spread in moved_about(20):
        exact = torch.linalg.eigvalsh(H @ H.T)[-1]
        assert exact <= spread.top() <= 1.01 * exact


def test_no_product_falls_below_zero_where_columns_vanish():
    for _, spread in moved_about(20, empty=True):
        assert (spread.gram >= 0).all()


def test_taking_the_whole_factor_in_again_forgets_the_one_before():
    *_, (H, spread) = moved_about(3)
    spread.refresh(2 * H)
    assert torch.equal(spread.gram, 4 * (H @ H.T))
    assert torch.equal(spread.squares, 4 * H.square().sum(0))


def test_the_first_estimate_is_close_for_factors_of_any_scale():
    _, (_, Hs) = states(50, shape=(6, 30, 5))
    for H in Hs[squared(Hs) > 0]:
        exact = torch.linalg.eigvalsh(H @ H.T)[-1]
        assert Spread(H).top() == pytest.approx(exact.item(), rel=0.05)


def test_columns_and_all_of_them_are_bounded_by_the_longest_and_the_whole():
    *_, (H, spread) = moved_about(3)
    one = spread.sampled(size=30, batch=1, replace=False)
    assert one == pytest.approx((30 * H.square().sum(0).max()).item())
    everything = spread.sampled(size=30, batch=30, replace=False)
    assert everything == pytest.approx(torch.linalg.eigvalsh(H @ H.T)[-1].item(), rel=0.01)
