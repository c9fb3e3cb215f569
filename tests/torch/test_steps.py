"""What counts as a step: the optimizer's, whoever calls what in what order and how often."""

import math
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim
from torch.amp.grad_scaler import GradScaler

from lrpilot.schedules import Linear, OpenLoop
from lrpilot.schedules.guard import Guard
from lrpilot.torch import ScheduledLR
from scheduled import LOSSES, Seen, amp_step, greedy_lr, lrs, resumed, sgd

WINDOWS = [[4.0, 3.0], [2.0], [5.0, 6.0, 1.0], [0.5]]
MEANS = (3.5, 2.0, 4.0, 0.5)


def seen(optimizer: optim.Optimizer | None = None, **settings) -> ScheduledLR:
    return ScheduledLR(optimizer or sgd(0.1), Seen(), **settings)


def each_micro_batch_then_the_optimizer(scheduler, window):
    for loss in window[:-1]:
        scheduler.step(loss)
    scheduler.optimizer.step()
    scheduler.step(window[-1])


def handed_in_and_stepped_bare(scheduler, window):
    for loss in window:
        scheduler.observe(loss)
    scheduler.optimizer.step()
    scheduler.step()


def only_at_the_optimizers_step(scheduler, window):
    scheduler.optimizer.step()
    scheduler.step(sum(window) / len(window))


def tensors_with_a_graph(scheduler, window):
    losses = [torch.tensor(loss, requires_grad=True) * 1 for loss in window]
    each_micro_batch_then_the_optimizer(scheduler, losses)


def before_the_optimizers_step(scheduler, window):
    for loss in window:
        scheduler.step(loss)
    scheduler.optimizer.step()


@pytest.mark.parametrize(
    "loop",
    [
        each_micro_batch_then_the_optimizer,
        handed_in_and_stepped_bare,
        only_at_the_optimizers_step,
        tensors_with_a_graph,
    ],
)
def test_the_losses_of_accumulated_gradients_are_one_observation(loop):
    scheduler = seen()
    for window in WINDOWS:
        loop(scheduler, window)
    assert scheduler.state.losses == MEANS
    assert scheduler.last_epoch == len(WINDOWS)
    assert lrs(scheduler.optimizer) == [pytest.approx(0.1 * 0.9**4)]
    assert [entry.step for entry in scheduler.log.decisions] == [1]  # four moves, one entry
    assert scheduler.log.steps == 4


def test_losses_that_come_before_the_optimizers_step_are_observed_at_the_next_call():
    scheduler = seen()
    for loss in LOSSES:
        scheduler.step(loss)
        scheduler.optimizer.step()
    # The first call was taken back when the first step was seen, so its loss joined the second's.
    assert scheduler.state.losses == (3.5, *LOSSES[2:])
    assert scheduler.last_epoch == len(LOSSES) - 1


@pytest.mark.parametrize("order", ["optimizer first", "scheduler first"])
def test_every_step_of_the_optimizer_has_the_same_rate_in_either_order(order):
    scheduler, rates = ScheduledLR(sgd(0.1), OpenLoop(Linear(), 9)), []
    for _ in range(6):
        if order == "scheduler first":
            scheduler.step()
        rates += lrs(scheduler.optimizer)
        scheduler.optimizer.step()
        if order == "optimizer first":
            scheduler.step()
    # Torch's schedulers are ahead by one throughout; ours is before it has seen a step.
    first = 1 if order == "optimizer first" else 8 / 9
    assert rates == pytest.approx([0.1 * first, *(0.1 * (1 - t / 9) for t in range(1, 6))])


def test_several_steps_of_the_optimizer_are_one_of_the_schedule_if_it_is_called_once():
    scheduler = seen()
    for loss in (4.0, 3.0):
        scheduler.optimizer.step()
        scheduler.optimizer.step()
        scheduler.step(loss)
    assert scheduler.state.losses == (4.0, 3.0)
    assert scheduler.last_epoch == 2


def test_a_call_without_a_step_of_the_optimizer_decides_nothing():
    scheduler = seen()
    scheduler.optimizer.step()
    scheduler.step(4.0)
    before = lrs(scheduler.optimizer)
    for loss in (1.0, 2.0, 3.0):
        scheduler.step(loss)
    assert scheduler.state.losses == (4.0,)
    assert lrs(scheduler.optimizer) == before
    scheduler.optimizer.step()
    scheduler.step(6.0)
    assert scheduler.state.losses == (4.0, 3.0)


def test_while_the_optimizer_has_not_been_seen_to_step_each_call_counts():
    scheduler = seen()
    for loss in LOSSES:
        scheduler.step(loss)
    assert scheduler.state.losses == LOSSES
    assert scheduler.last_epoch == len(LOSSES)


def test_what_calls_before_the_first_step_decided_is_taken_back():
    """They were micro-batches; the log does not know of them either."""
    scheduler, twin = seen(), seen()
    for loss in (1.0, 2.0, 3.0):
        scheduler.step(loss)
    assert lrs(scheduler.optimizer) == [pytest.approx(0.1 * 0.9**3)]
    scheduler.optimizer.step()
    scheduler.step(4.0)
    only_at_the_optimizers_step(twin, [2.5])
    assert scheduler.state_dict() == twin.state_dict()
    assert lrs(scheduler.optimizer) == lrs(twin.optimizer) == [pytest.approx(0.09)]


def test_after_a_thousand_calls_without_an_optimizer_each_counts_for_good():
    scheduler = greedy_lr(sgd(0.1))
    for _ in range(1100):
        scheduler.step(1.0)
    before = scheduler.state
    scheduler.optimizer.step()
    scheduler.step(0.5)
    assert scheduler.last_epoch == 1101
    assert scheduler.state != before
    scheduler.step(0.25)  # a micro-batch: from now on the optimizer counts
    assert scheduler.last_epoch == 1101


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("order", ["after", "before"])
def test_a_step_that_the_grad_scaler_skips_is_no_step(fused, order):
    optimizer = sgd(0.1, fused=fused)
    scaler, scheduler = GradScaler("cpu"), seen(optimizer)
    (weight,) = optimizer.param_groups[0]["params"]
    optimizer.step()
    scheduler.step(9.0)
    overflows, moved = [False, True, True, False, True, False], []
    for loss, overflow in zip((1.0, 2.0, 3.0, 4.0, 5.0, 6.0), overflows, strict=True):
        before = weight.clone()
        if order == "before":
            scheduler.step(loss)
        amp_step(optimizer, scaler, overflows=overflow)
        if order == "after":
            scheduler.step(loss)
        moved.append(bool(weight != before))
    assert moved == [not overflow for overflow in overflows]
    if order == "after":
        assert scheduler.state.losses == (9.0, 1.0, 3.0, 5.5)  # those of skipped steps join in
    else:
        assert scheduler.state.losses == (9.0, 1.5, 4.0)
    assert scheduler.last_epoch == len(scheduler.state.losses)


def test_a_schedule_that_reads_no_loss_does_not_count_skipped_steps_either():
    optimizer = sgd(0.1, fused=True)
    scaler, scheduler = GradScaler("cpu"), ScheduledLR(optimizer, OpenLoop(Linear(), 10))
    for overflow in (False, True, True, False):
        amp_step(optimizer, scaler, overflows=overflow)
        scheduler.step()
    assert scheduler.last_epoch == 2
    assert lrs(optimizer) == [pytest.approx(0.08)]


def test_a_skipped_step_among_several_is_no_skipped_observation():
    optimizer = sgd(0.1, fused=True)
    scaler, scheduler = GradScaler("cpu"), seen(optimizer)
    for overflows in ([True, False], [False, True], [True, True]):
        for overflow in overflows:
            amp_step(optimizer, scaler, overflows=overflow)
        scheduler.step(1.0)
    assert scheduler.last_epoch == 2


def test_the_losses_of_a_skipped_step_join_the_next_one_without_a_scaler_too():
    scheduler = seen(sgd(0.1, fused=True))
    for loss in (1.0, 2.0):
        scheduler.optimizer.step()
        scheduler.step(loss)
    amp_step(scheduler.optimizer, GradScaler("cpu"), overflows=True)
    scheduler.step(3.0)
    assert scheduler.state_dict()["is_skipped"] is False  # that is dealt with
    for loss in (4.0, 5.0):
        scheduler.optimizer.step()
        scheduler.step(loss)
    assert scheduler.state.losses == (1.0, 2.0, 3.5, 5.0)


def test_a_closure_that_is_evaluated_many_times_is_one_step():
    weight = nn.Parameter(torch.tensor([3.0]))
    optimizer = optim.LBFGS([weight], lr=0.1, max_iter=5)
    scheduler, evaluated = seen(optimizer), 0

    def closure():
        nonlocal evaluated
        evaluated += 1
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss

    for _ in range(3):
        scheduler.step(optimizer.step(closure))
    assert evaluated > 3
    assert scheduler.last_epoch == len(scheduler.state.losses) == 3


def test_a_captured_step_that_is_replayed_without_python_counts_each_call(monkeypatch):
    """A CUDA graph's replay runs no hook; the schedule must not stand still."""
    scheduler = seen()
    scheduler.optimizer.step()  # the usual warm-up
    scheduler.step(4.0)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    scheduler.optimizer.step()
    monkeypatch.undo()
    for loss in (3.0, 2.0, 1.0):
        scheduler.step(loss)
    assert scheduler.state.losses == (4.0, 3.0, 2.0, 1.0)


@pytest.mark.parametrize("calls", [0, 3])
@pytest.mark.parametrize("schedule", [Seen(), Guard(Seen())], ids=["bare", "guarded"])
def test_a_step_without_any_loss_is_no_observation_and_is_said_once(schedule, calls):
    """Least of all one of a loss that is not finite, on which a guard would brake."""
    scheduler = ScheduledLR(sgd(0.1), schedule)
    for loss in LOSSES[:calls]:
        scheduler.optimizer.step()
        scheduler.step(loss)
    before = scheduler.state
    scheduler.optimizer.step()
    with pytest.warns(UserWarning, match=r"stands still; call step\(loss\), or observe\(loss\)"):
        scheduler.step()
    for _ in range(3):  # warnings are errors here
        scheduler.optimizer.step()
        scheduler.step()
    assert scheduler.state == before
    assert scheduler.last_epoch == calls


def test_no_order_of_calls_raises_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loop in (before_the_optimizers_step, each_micro_batch_then_the_optimizer):
            scheduler = seen()
            for window in WINDOWS:
                loop(scheduler, window)
            scheduler.get_lr()


operations = st.lists(
    st.sampled_from(("micro", "observe", "optimizer", "skip", "bare", "both")), max_size=30
)


def perform(scheduler: ScheduledLR, names: list[str], first: int) -> None:
    for at, name in enumerate(names, start=first):
        loss = math.nan if at % 11 == 10 else 1.0 + at * 0.37 % 1
        match name:
            case "micro":
                scheduler.step(loss, count=1 + at % 3)
            case "observe":
                scheduler.observe(torch.tensor(loss))
            case "optimizer":
                scheduler.optimizer.step()
            case "skip":  # as a fused optimizer's is
                scheduler.optimizer.found_inf = torch.ones(())
                scheduler.optimizer.step()
                del scheduler.optimizer.found_inf
            case "both":
                scheduler.optimizer.step()
                scheduler.step(loss)
            case _:
                scheduler.step()


@pytest.mark.filterwarnings("ignore:step.. came without a loss")
@pytest.mark.parametrize("lag", [0, 2])
@given(names=operations, cut=st.integers(0, 30))
def test_interrupted_equals_uninterrupted_whatever_is_pending(lag, names, cut):
    whole, head = (seen(sgd(0.1, fused=True), lag=lag) for _ in range(2))
    perform(whole, names, 0)
    perform(head, names[:cut], 0)
    tail = resumed(head)
    perform(tail, names[cut:], len(names[:cut]))
    assert tail.state_dict() == whole.state_dict()
    assert lrs(tail.optimizer) == lrs(whole.optimizer)
