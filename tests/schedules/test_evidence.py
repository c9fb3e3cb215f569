import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import LARGEST, awkward, finite, grid
from lrpilot.schedules import improves
from lrpilot.schedules.evidence import mean, windowed

thresholds = st.floats(0, 1, exclude_max=True)
losses = finite | awkward | grid
windows = st.lists(losses, min_size=1, max_size=9).map(tuple)
close_windows = st.lists(st.sampled_from((0.1, 0.2, 0.3)), min_size=2, max_size=9).map(tuple)


@given(best=losses, more=losses.map(abs), threshold=thresholds)
def test_a_loss_no_lower_than_the_best_never_improves(best, more, threshold):
    assert not improves(best + more, best, threshold)


@given(loss=losses, best=losses)
def test_without_a_threshold_any_lower_loss_improves(loss, best):
    assert improves(loss, best, 0.0) == (loss < best)


@pytest.mark.parametrize("size", [1.0, -1.0, 5e-5, -5e-5, 1e30, -1e30])
def test_the_margin_is_a_share_of_the_best_of_either_sign(size):
    assert improves(size - 0.11 * abs(size), size, 0.1)
    assert not improves(size - 0.09 * abs(size), size, 0.1)


def test_a_loss_that_falls_by_exactly_the_margin_does_not_improve():
    assert not improves(0.75, best=1.0, threshold=0.25)
    assert not improves(-1.25, best=-1.0, threshold=0.25)


@given(best=losses, threshold=thresholds)
def test_nan_never_improves(best, threshold):
    assert not improves(math.nan, best, threshold)


@given(window=windows | close_windows)
def test_a_mean_lies_within_its_window_whatever_its_size(window):
    assert min(window) <= mean(window) <= max(window)


@given(loss=losses, size=st.integers(1, 60))
def test_the_mean_of_a_constant_is_the_constant(loss, size):
    assert mean((loss,) * size) == loss


@given(window=windows)
def test_the_mean_of_the_negated_is_the_negated_mean(window):
    assert mean(tuple(-loss for loss in window)) == -mean(window)


def test_a_spike_leaves_no_rounding_error_behind():
    assert mean((1e17, 1.0, -1e17)) == 1 / 3


def test_losses_near_the_largest_float_have_a_mean():
    assert mean((LARGEST, LARGEST, LARGEST / 2)) == pytest.approx(LARGEST / 6 * 5)


@given(stream=st.lists(grid, max_size=20), size=st.integers(1, 6))
def test_a_window_holds_the_last_losses_oldest_first(stream, size):
    window: tuple[float, ...] = ()
    for loss in stream:
        window = windowed(window, loss, size)
    assert list(window) == stream[-size:]


def test_a_window_made_shorter_forgets_the_oldest():
    assert windowed((1.0, 2.0, 3.0, 4.0), 5.0, size=2) == (4.0, 5.0)
