"""A loss that lies on a device is read a fixed number of steps later, and never waited for.

There is no device here: a predicate says that some tensors lie on one, and a dispatch mode stands
guard over reading.
"""

import gc
import math
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.amp.grad_scaler import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode

from contracts import run
from lrpilot.schedules import Linear, OpenLoop, Plateau
from lrpilot.torch import ScheduledLR, losses
from scheduled import LOSSES, Seen, alert, amp_step, lrs, resumed, sgd

READS = ("_local_scalar_dense", "is_nonzero", "equal", "nonzero")


class NoReading(TorchDispatchMode):
    """Raises where a program waits for a device to tell it a number."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name().removeprefix("aten::").split(".")[0] in READS:
            raise AssertionError(f"{func.name()} reads a tensor on the host")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def device(monkeypatch):
    """Every tensor lies on a device."""
    monkeypatch.setattr(losses, "is_host", lambda tensor: False)


def trained(scheduler: ScheduledLR, numbers, *, tensor=torch.tensor) -> list[float]:
    """The rate after each step."""
    rates = []
    for number in numbers:
        scheduler.optimizer.step()
        scheduler.step(tensor(number))
        rates += lrs(scheduler.optimizer)
    return rates


def test_the_guard_sees_what_reads():
    for read in (float, bool, torch.Tensor.item):
        with NoReading(), pytest.raises(AssertionError, match="reads a tensor"):
            read(torch.tensor(1.0))


def test_step_never_reads_a_loss_on_a_device(device):
    scheduler = ScheduledLR(sgd(torch.tensor(0.1)), Seen())
    numbers = [torch.tensor(loss, requires_grad=True) for loss in LOSSES]
    with NoReading():
        for number in numbers:
            scheduler.step(number * 1)
            scheduler.optimizer.step()
            scheduler.observe(number * 1)
            scheduler.get_last_lr()
    assert len(scheduler.state.losses) > 3  # and yet it was seen


def test_a_loss_on_the_host_is_read_at_once():
    scheduler = ScheduledLR(sgd(0.1), Seen())
    with NoReading(), pytest.raises(AssertionError, match="reads a tensor"):
        scheduler.step(torch.tensor(1.0))


@pytest.mark.parametrize("lag", [None, 0, 1, 3])
def test_the_lag_of_a_device_is_four_unless_it_is_given(device, lag):
    scheduler = ScheduledLR(sgd(0.1), Seen(), lag=lag)
    trained(scheduler, LOSSES)
    assert scheduler.lag == (4 if lag is None else lag)
    assert scheduler.state.losses == LOSSES[: len(LOSSES) - scheduler.lag]
    assert scheduler.last_epoch == len(LOSSES) - scheduler.lag


def test_the_lag_of_the_host_is_none_and_is_fixed_at_the_first_loss(monkeypatch):
    scheduler = ScheduledLR(sgd(0.1), Seen())
    assert scheduler.lag is None
    trained(scheduler, LOSSES[:2], tensor=float)
    monkeypatch.setattr(losses, "is_host", lambda tensor: False)
    trained(scheduler, LOSSES[2:])
    assert scheduler.lag == 0
    assert scheduler.state.losses == LOSSES


finite = st.floats(-(2.0**99), 2.0**99, width=32)
numbers = st.lists(finite | st.sampled_from((math.nan, math.inf, -math.inf)), max_size=25)


@pytest.mark.parametrize("lag", [0, 1, 3])
@given(numbers=numbers, micro=st.integers(1, 3))
def test_decisions_on_host_and_device_are_the_same_for_the_same_lag(lag, numbers, micro):
    """Losses of micro-batches are summed on the device, and the sums are the same to the bit."""
    results = []
    for is_host, tensor in ((True, float), (True, torch.tensor), (False, torch.tensor)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(losses, "is_host", lambda tensor, is_host=is_host: is_host)
            scheduler = ScheduledLR(sgd(0.1), alert(window=2), lag=lag)
            for at, number in enumerate(numbers):
                scheduler.observe(tensor(number), count=1 + at % 4)
                if at % micro == 0:
                    scheduler.optimizer.step()
                    scheduler.step()
            results.append((scheduler.state_dict(), lrs(scheduler.optimizer)))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("lag", [1, 4])
def test_decisions_are_those_without_a_lag_only_later(device, lag):
    rates = trained(ScheduledLR(sgd(0.1), alert(), lag=lag), LOSSES)
    expected = [0.1 * state.scale for state in run(alert(), LOSSES)]
    assert rates == expected[:1] * lag + expected[1 : len(LOSSES) - lag + 1]


def test_a_copy_is_sent_so_that_a_loss_may_be_overwritten(device):
    """As the output of a CUDA graph is, at its next replay."""
    scheduler, output = ScheduledLR(sgd(0.1), Seen(), lag=2), torch.zeros((), dtype=torch.double)
    for loss in (1.0, 2.0, 3.0, 4.0):
        output.fill_(loss)
        scheduler.optimizer.step()
        scheduler.observe(output)
        output.fill_(math.nan)
        scheduler.step()
    assert scheduler.state.losses == (1.0, 2.0)


@pytest.mark.parametrize("micro", [1, 2])
def test_neither_the_graph_nor_the_loss_is_kept_alive(device, micro):
    scheduler = ScheduledLR(sgd(0.1), Seen())
    weights = torch.ones(3, requires_grad=True)
    kept = weakref.ref(weights)
    for _ in range(micro):
        loss = (weights * 2).sum()
        scheduler.observe(loss)
    scheduler.optimizer.step()
    scheduler.step()
    del weights, loss
    gc.collect()
    assert kept() is None


def test_a_schedule_that_reads_no_loss_is_not_delayed(device):
    scheduler = ScheduledLR(sgd(0.1), OpenLoop(Linear(), 10), lag=3)
    rates = trained(scheduler, LOSSES[:4])
    assert rates == pytest.approx([0.09, 0.08, 0.07, 0.06])


OVERFLOWS = (False, True, True, False, True, False, False, False)


def test_that_a_fused_step_was_skipped_is_learned_with_the_lag(device):
    optimizer, scaler = sgd(0.1, fused=True), GradScaler("cpu")
    scheduler = ScheduledLR(optimizer, Seen(), lag=2)
    for at, overflows in enumerate(OVERFLOWS):
        amp_step(optimizer, scaler, overflows=overflows)
        with NoReading():
            scheduler.step(torch.tensor(float(at)))
    # Of eight steps the first six are known; 1 and 2 are part of 3, as 4 is of 5.
    assert scheduler.state.losses == (0.0, 2.0, 4.5)
    assert scheduler.last_epoch == 3


def test_a_schedule_that_reads_no_loss_makes_up_for_skipped_steps_later(device):
    optimizer, scaler = sgd(0.1, fused=True), GradScaler("cpu")
    scheduler = ScheduledLR(optimizer, OpenLoop(Linear(), 10))
    counted = []
    for overflows in OVERFLOWS:
        amp_step(optimizer, scaler, overflows=overflows)
        with NoReading():
            scheduler.step()
        counted.append(scheduler.last_epoch)
    assert scheduler.lag == 4
    assert counted == [1, 2, 3, 4, 5, 5, 5, 6]
    for _ in range(4):
        amp_step(optimizer, scaler, overflows=False)
        scheduler.step()
    assert scheduler.last_epoch == 12 - sum(OVERFLOWS)


def test_a_lag_longer_than_the_run_decides_nothing_and_says_so(device):
    scheduler = ScheduledLR(sgd(0.1), alert(), lag=100)
    rates = trained(scheduler, LOSSES)
    assert set(rates) == {0.1}
    assert "no decisions" in scheduler.explain()
    assert "losses not seen yet, by the lag of 100: 9" in scheduler.explain()


@given(cut=st.integers(0, 9), lag=st.sampled_from((1, 2, 100)))
def test_losses_on_their_way_are_part_of_a_checkpoint(cut, lag):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "is_host", lambda tensor: False)
        whole, head = (ScheduledLR(sgd(0.1), alert(), lag=lag) for _ in range(2))
        rates = trained(whole, LOSSES)
        assert trained(head, LOSSES[:cut]) == rates[:cut]
        tail = resumed(head, lag=lag)
        assert trained(tail, LOSSES[cut:]) == rates[cut:]
        assert tail.state_dict() == whole.state_dict()


def test_a_resumed_run_keeps_the_lag_that_the_first_loss_fixed(device):
    scheduler = ScheduledLR(sgd(0.1), Seen())
    trained(scheduler, LOSSES[:6])
    assert resumed(scheduler).lag == 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "is_host", lambda tensor: True)
        assert resumed(scheduler).lag == 4


def test_a_shorter_lag_on_resume_catches_up_at_the_next_step(device):
    scheduler = ScheduledLR(sgd(0.1), Seen(), lag=3)
    trained(scheduler, LOSSES[:5])
    shorter = resumed(scheduler, lag=0)
    trained(shorter, LOSSES[5:6])
    assert shorter.state.losses == LOSSES[:6]


def test_a_loss_that_is_not_finite_is_on_its_way_in_strict_json(device):
    scheduler = ScheduledLR(sgd(0.1), Seen(), lag=2)
    trained(scheduler, (math.nan, math.inf, -math.inf))
    scheduler.observe(torch.tensor(math.nan))
    tail = resumed(scheduler, lag=2)
    assert tail.state_dict() == scheduler.state_dict()
    trained(tail, (1.0, 2.0, 3.0))
    assert tail.state.ignored == 4
    assert tail.state.losses == ()


@pytest.mark.parametrize(("lag", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_an_impossible_lag_is_refused(lag, error):
    with pytest.raises(error, match="lag must be"):
        ScheduledLR(sgd(0.1), Plateau(), lag=lag)
