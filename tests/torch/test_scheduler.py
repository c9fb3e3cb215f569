import copy
import gc
import json
import pickle
import warnings
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
)

from contracts import run, scales
from lrpilot.schedules import Cosine, Greedy, Linear, OpenLoop, Plateau
from lrpilot.torch import GreedyLR, ScheduledLR
from scheduled import ALERT, LOSSES, greedy_lr, lrs, parameters, sgd

RATES = (5e-5, 0.1)
at_the_rates_people_use = pytest.mark.parametrize("lr", RATES)


def rates_over(optimizer: optim.Optimizer, scheduler: LRScheduler, steps: int) -> list[float]:
    rates = lrs(optimizer)[:1]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        rates += lrs(optimizer)[:1]
    return rates


def test_it_is_an_lr_scheduler():
    assert issubclass(GreedyLR, LRScheduler)
    assert issubclass(GreedyLR, ScheduledLR)
    assert isinstance(ScheduledLR(sgd(0.1), Plateau()), LRScheduler)


@at_the_rates_people_use
@pytest.mark.parametrize(
    "schedule",
    [Greedy(**ALERT), Greedy(), Plateau(patience=0, window=1), OpenLoop(Cosine(), 6)],
    ids=["alert", "greedy", "plateau", "cosine"],
)
def test_the_rate_is_the_base_rate_times_the_scale(schedule, lr):
    optimizer = sgd(lr)
    scheduler = ScheduledLR(optimizer, schedule)
    rates = [optimizer.param_groups[0]["lr"]]
    for loss in LOSSES:
        optimizer.step()
        scheduler.step(loss)
        rates.append(optimizer.param_groups[0]["lr"])
        assert scheduler.get_last_lr() == scheduler.get_lr() == rates[-1:]
    assert rates == [lr * scale for scale in scales(run(schedule, LOSSES))]


def test_greedy_lr_passes_every_argument_on():
    named = {
        "factor": 0.6,
        "patience": 4,
        "window": 7,
        "threshold": 0.02,
        "warmup": 3,
        "cooldown": 5,
        "min_scale": 0.3,
        "max_scale": 2.5,
        "mode": "max",
    }
    assert GreedyLR(sgd(0.1), **named).schedule == Greedy(**named)
    assert GreedyLR(sgd(0.1)).schedule == Greedy()


@pytest.mark.parametrize(
    "number",
    [
        float,
        int,
        np.float32,
        np.float64,
        np.array,
        torch.tensor,
        lambda loss: torch.tensor([loss]),
        lambda loss: torch.tensor([[loss]], dtype=torch.float64),
        lambda loss: torch.tensor(loss, dtype=torch.bfloat16),
        lambda loss: torch.tensor(loss, requires_grad=True) * 1,
    ],
)
def test_any_kind_of_number_is_a_loss(number):
    scheduler = greedy_lr(sgd(0.1))
    for loss in LOSSES:
        scheduler.step(number(loss))
    assert scheduler.state == run(scheduler.schedule, LOSSES)[-1]
    assert type(scheduler.state.best) is float


def test_the_graph_of_the_loss_is_not_kept_alive():
    scheduler = greedy_lr(sgd(0.1), window=10)
    weights = torch.ones(3, requires_grad=True)
    loss = (weights * 2).sum()
    held_by_the_graph = weakref.ref(weights)
    scheduler.step(loss)
    del weights
    assert held_by_the_graph() is not None
    del loss
    gc.collect()
    assert held_by_the_graph() is None


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        ("0.5", TypeError, "'0.5'"),
        ("low", TypeError, "'low'"),
        ([1.0], TypeError, r"\[1.0\]"),
        ([None], TypeError, "None"),
        (np.ones(2), TypeError, r"array\(\[1., 1.\]\)"),
        (torch.ones(2), ValueError, r"shape \(2,\); pass its mean"),
        (torch.ones(0), ValueError, r"shape \(0,\)"),
    ],
)
def test_a_loss_that_is_no_number_is_refused_and_changes_nothing(loss, error, message):
    optimizer = sgd(0.1)
    scheduler = greedy_lr(optimizer)
    before = (scheduler.state_dict(), lrs(optimizer))
    with pytest.raises(error, match=message):
        scheduler.step(loss)
    assert (scheduler.state_dict(), lrs(optimizer)) == before


def test_an_open_loop_schedule_takes_a_step_with_or_without_a_loss():
    schedule = OpenLoop(Linear(), 4)
    one, other = ScheduledLR(sgd(0.1), schedule), ScheduledLR(sgd(0.1), schedule)
    one.step()
    other.step(torch.tensor(3.0))
    assert one.state_dict() == other.state_dict()
    assert one.get_last_lr() == [pytest.approx(0.075)]


@given(st.lists(st.booleans(), max_size=30))
def test_groups_keep_their_ratio_also_at_both_bounds(falls):
    optimizer = sgd(0.1, 5e-5, 3.0)
    scheduler = greedy_lr(optimizer)
    loss = 0.0
    for fall in [True, *falls, *[True] * 5, *[False] * 9]:
        loss = loss - 1 if fall else loss
        scheduler.step(loss)
        assert lrs(optimizer) == [lr * scheduler.state.scale for lr in (0.1, 5e-5, 3.0)]
    assert scheduler.state.scale == ALERT["min_scale"]


def test_a_5e_5_rate_of_adamw_stays_within_its_relative_bounds():
    """Variant E's absolute floor of 1e-3 lets such a rate only rise (fault 1)."""
    optimizer = optim.AdamW(parameters(), lr=5e-5)
    scheduler = greedy_lr(optimizer)
    for loss in [float(n) for n in range(9)]:
        scheduler.step(loss)
    assert lrs(optimizer) == [5e-5 * 0.25]
    for loss in [-float(n) for n in range(1, 9)]:
        scheduler.step(loss)
    assert lrs(optimizer) == [5e-5 * 4.0]


@at_the_rates_people_use
def test_a_tensor_rate_is_written_in_place(lr):
    rate = torch.tensor(lr)
    optimizer = optim.AdamW(parameters(), lr=rate, capturable=False)
    scheduler = greedy_lr(optimizer)
    before = scheduler.get_last_lr()
    kept = before.copy()
    scheduler.step(4.0)
    scheduler.step(3.0)
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(2 * lr, rel=1e-6)
    assert before == kept
    assert all(type(value) is float for value in scheduler.get_last_lr() + scheduler.base_lrs)
    json.dumps(scheduler.state_dict(), allow_nan=False)


def test_two_groups_may_share_one_tensor_rate():
    rate = torch.tensor(0.5)
    optimizer = sgd(rate, rate)
    scheduler = greedy_lr(optimizer)
    for loss in (4.0, 3.0, 2.0):
        scheduler.step(loss)
    assert [group["lr"] is rate for group in optimizer.param_groups] == [True, True]
    assert float(rate) == 2.0
    assert scheduler.base_lrs == [0.5, 0.5]


@pytest.mark.parametrize("look", [lambda s: None, lambda s: s.get_lr(), lambda s: s.state_dict()])
def test_a_group_added_later_follows_from_its_own_base_rate(look):
    optimizer = sgd(0.1)
    scheduler = greedy_lr(optimizer, patience=1)
    for loss in (4.0, 3.0, 2.0):
        scheduler.step(loss)
    optimizer.add_param_group({"params": parameters(), "lr": 5e-5})
    look(scheduler)
    scheduler.step(1.0)  # no move yet, and the new group follows already
    assert lrs(optimizer) == [0.2, 1e-4]
    scheduler.step(0.0)
    assert lrs(optimizer) == [0.4, 2e-4]
    assert scheduler.base_lrs == [0.1, 5e-5]
    assert optimizer.param_groups[1]["initial_lr"] == 5e-5


def test_a_checkpoint_with_a_group_added_later_loads_into_two_groups():
    optimizer = sgd(0.1)
    scheduler = greedy_lr(optimizer)
    for loss in (4.0, 3.0):
        scheduler.step(loss)
    optimizer.add_param_group({"params": parameters(), "lr": 5e-5})
    saved = scheduler.state_dict()
    fresh = sgd(0.1)
    resumed = greedy_lr(fresh)
    fresh.add_param_group({"params": parameters(), "lr": 5e-5})
    resumed.load_state_dict(saved)
    assert lrs(fresh) == [0.2, 1e-4]


def test_it_keeps_the_conventions_of_an_lr_scheduler():
    optimizer = sgd(0.1, 0.01)
    scheduler = greedy_lr(optimizer)
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert scheduler.optimizer is optimizer
    assert scheduler.base_lrs == [0.1, 0.01]
    assert (scheduler.last_epoch, scheduler.get_last_lr()) == (0, [0.1, 0.01])
    logged = []
    for loss in (4.0, 3.0):
        scheduler.step(loss)
        logged.append(scheduler.get_last_lr())
    assert scheduler.last_epoch == 2
    assert logged == [[0.1, 0.01], [0.2, 0.02]]


def test_the_base_rate_is_the_initial_rate_that_an_earlier_scheduler_left():
    optimizer = sgd(0.1)
    LinearLR(optimizer, start_factor=0.1)
    assert lrs(optimizer) == [pytest.approx(0.01)]
    assert greedy_lr(optimizer).base_lrs == [0.1]
    assert lrs(optimizer) == [0.1]


def test_something_else_than_an_optimizer_is_refused():
    with pytest.raises(TypeError, match="dict is not an Optimizer"):
        GreedyLR({})


def test_a_step_of_the_scheduler_before_the_optimizers_raises_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = greedy_lr(sgd(0.1))
        for loss in LOSSES:
            scheduler.step(loss)


@at_the_rates_people_use
@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW])
def test_open_loop_cosine_equals_cosine_annealing_lr(make, lr):
    ours, theirs = make(parameters(), lr=lr), make(parameters(), lr=lr)
    rates = rates_over(ours, ScheduledLR(ours, OpenLoop(Cosine(), 50)), 50)
    expected = rates_over(theirs, CosineAnnealingLR(theirs, 50), 50)
    assert rates == pytest.approx(expected, rel=1e-12, abs=1e-12 * lr)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_an_open_loop_schedule_takes_either_place_in_sequential_lr(order):
    def sequence(make) -> list[float]:
        optimizer = sgd(0.1)
        schedulers = [LinearLR(optimizer, start_factor=0.1, total_iters=3), make(optimizer)]
        both = SequentialLR(optimizer, [schedulers[at] for at in order], milestones=[3])
        return rates_over(optimizer, both, 8)

    ours = sequence(lambda optimizer: ScheduledLR(optimizer, OpenLoop(Linear(), 10)))
    theirs = sequence(lambda optimizer: LambdaLR(optimizer, lambda t: 1 - t / 10))
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copied_scheduler_goes_on_with_a_copied_optimizer(duplicate):
    scheduler = greedy_lr(sgd(0.1))
    for loss in LOSSES[:3]:
        scheduler.step(loss)
    twin = duplicate(scheduler)
    assert twin.optimizer is not scheduler.optimizer
    for loss in LOSSES[3:]:
        twin.optimizer.step()
        twin.step(loss)
    assert scheduler.last_epoch == 3
    assert lrs(scheduler.optimizer) == [0.4]
    assert lrs(twin.optimizer) == [0.1 * run(scheduler.schedule, LOSSES)[-1].scale]


@at_the_rates_people_use
def test_greedy_lr_trains_a_network_on_digits(lr):
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    make = optim.SGD if lr == 0.1 else optim.AdamW
    optimizer = make(model.parameters(), lr=lr)
    scheduler = GreedyLR(optimizer)
    losses = []
    for step in range(300):
        batch = torch.randint(len(targets), (64,), generator=torch.Generator().manual_seed(step))
        loss = cross_entropy(model(inputs[batch]), targets[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        losses.append(loss.item())
    assert sum(losses[-50:]) < 0.98 * sum(losses[:50])
    low, high = scheduler.schedule.min_scale, scheduler.schedule.max_scale
    assert low * lr <= lrs(optimizer)[0] <= high * lr


def test_a_schedule_that_needs_no_loss_does_not_read_it():
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    ScheduledLR(optimizer, OpenLoop(Linear(), total_steps=10)).step(torch.zeros(3))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.09)


def test_a_shape_in_place_of_a_schedule_is_refused_with_the_cure():
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    for wrong in (Linear(), Greedy):
        with pytest.raises(TypeError, match=r"such as Greedy\(\) or OpenLoop.*got .*(Lin|Gree)"):
            ScheduledLR(optimizer, wrong)
