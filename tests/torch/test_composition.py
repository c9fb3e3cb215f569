"""With other schedulers, other optimizers, and wrappers around optimizers."""

import copy
import pickle
import warnings
from functools import partial

import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from contracts import run, scales
from lrpilot.schedules import Cosine, OpenLoop
from lrpilot.torch import ScheduledLR
from scheduled import LOSSES, Seen, alert, lrs, sgd, through_json


def sequential(optimizer: optim.Optimizer, first: str = "warm-up") -> SequentialLR:
    warmup = LinearLR(optimizer, start_factor=0.1, total_iters=3)
    driven = ScheduledLR(optimizer, Seen())
    both = [warmup, driven] if first == "warm-up" else [driven, ConstantLR(optimizer, 0.5, 100)]
    return SequentialLR(optimizer, both, milestones=[3])


def train(optimizer: optim.Optimizer, scheduler: SequentialLR, losses) -> list[float]:
    driven = next(one for one in scheduler._schedulers if isinstance(one, ScheduledLR))
    rates = []
    for loss in losses:
        rates += lrs(optimizer)
        optimizer.step()
        driven.observe(loss)
        scheduler.step()
    return rates


def test_a_loss_driven_schedule_takes_over_from_a_warm_up_in_sequential_lr():
    optimizer = sgd(0.1)
    scheduler = sequential(optimizer)
    rates = train(optimizer, scheduler, LOSSES)
    driven = scheduler._schedulers[1]
    # Its turn begins at the base rate, without the losses of the warm-up.
    assert rates[:3] == pytest.approx([0.01, 0.04, 0.07])
    assert rates[3:] == pytest.approx([0.1 * 0.9**n for n in range(6)])
    assert driven.state.losses == LOSSES[3:]
    assert (driven.last_epoch, scheduler.last_epoch) == (6, 9)
    assert driven.base_lrs == [0.1]
    assert [entry.reason for entry in driven.log.decisions] == ["lower"]


def test_a_loss_driven_schedule_hands_over_in_sequential_lr():
    optimizer = sgd(0.1)
    rates = train(optimizer, sequential(optimizer, first="ours"), LOSSES)
    assert rates == pytest.approx([0.1, 0.09, 0.081, *[0.05] * 6])


@pytest.mark.parametrize("first", ["warm-up", "ours"])
@pytest.mark.parametrize("scheduler_first", [True, False])
@pytest.mark.parametrize("cut", range(7))
def test_sequential_lr_resumes_exactly_on_either_side_of_the_milestone(first, scheduler_first, cut):
    optimizer = sgd(0.1)
    whole = train(optimizer, sequential(optimizer, first), LOSSES)
    optimizer = sgd(0.1)
    head = sequential(optimizer, first)
    train(optimizer, head, LOSSES[:cut])
    states = through_json(head.state_dict()), optimizer.state_dict()
    optimizer = sgd(0.1)
    tail = sequential(optimizer, first)
    if scheduler_first:
        tail.load_state_dict(states[0])
    optimizer.load_state_dict(states[1])
    if not scheduler_first:
        tail.load_state_dict(states[0])
    assert train(optimizer, tail, LOSSES[cut:]) == whole[cut:]


@pytest.mark.parametrize("order", [1, -1])
def test_in_chained_scheduler_the_rate_is_the_product(order):
    optimizer = sgd(0.1)
    driven = ScheduledLR(optimizer, Seen())
    chained = ChainedScheduler([driven, ExponentialLR(optimizer, 0.5)][::order])
    for loss in LOSSES[:5]:
        optimizer.step()
        driven.observe(loss)
        chained.step()
    assert lrs(optimizer) == [pytest.approx(0.1 * 0.9**5 * 0.5**5)]
    assert driven.state.losses == LOSSES[:5]


def test_a_schedule_and_torchs_plateau_on_one_optimizer_multiply():
    optimizer = sgd(0.1)
    driven, plateau = ScheduledLR(optimizer, Seen()), ReduceLROnPlateau(optimizer, patience=0)
    for loss in (1.0, 2.0, 3.0):
        optimizer.step()
        driven.step(loss)
        plateau.step(loss)
    assert lrs(optimizer) == [pytest.approx(0.1 * 0.9**3 * 0.1**2)]


def test_several_optimizers_each_count_their_own_steps():
    optimizers = sgd(0.1), sgd(0.2)
    schedulers = [ScheduledLR(optimizer, Seen()) for optimizer in optimizers]
    for at, loss in enumerate(LOSSES):  # as a GAN trains its generator every third step
        optimizers[0].step()
        if at % 3 == 0:
            optimizers[1].step()
        for scheduler in schedulers:
            scheduler.step(loss)
    assert [scheduler.last_epoch for scheduler in schedulers] == [9, 3]
    assert schedulers[1].state.losses == (4.0, 10 / 3, 5.0)
    assert lrs(optimizers[1]) == [pytest.approx(0.2 * 0.9**3)]


class AccelerateLike(optim.Optimizer):
    """Is an Optimizer, but never ran its constructor."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def param_groups(self):
        return self.optimizer.param_groups

    def step(self, closure=None):
        return self.optimizer.step(closure)


class ZeroLike:
    """Is no Optimizer, and steps the one inside once per group, as ZeRO does."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.optim = optimizer
        self.param_groups = optimizer.param_groups

    def step(self, closure=None):
        for group in self.param_groups:
            self.optim.param_groups = [group]
            self.optim.step()
        self.optim.param_groups = self.param_groups


class Opaque:
    """Trains by means of its own."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.param_groups = optimizer.param_groups

    def step(self):
        pass


@pytest.mark.parametrize("wrap", [AccelerateLike, ZeroLike, lambda o: AccelerateLike(ZeroLike(o))])
def test_the_steps_of_a_wrapped_optimizer_are_seen(wrap):
    inner = sgd(0.1, 0.2)
    wrapped = wrap(inner)
    scheduler = ScheduledLR(wrapped, Seen())
    for losses in ((4.0, 3.0), (2.0, 1.0)):
        scheduler.step(losses[0])
        wrapped.step()
        scheduler.step(losses[1])
    assert scheduler.state.losses == (3.5, 1.5)
    assert lrs(inner) == pytest.approx([0.1 * 0.81, 0.2 * 0.81])


def test_with_an_optimizer_that_tells_nothing_each_call_counts():
    optimizer = Opaque(sgd(0.1))
    scheduler = ScheduledLR(optimizer, Seen())
    for loss in LOSSES:
        optimizer.step()
        scheduler.step(loss)
    assert scheduler.state.losses == LOSSES
    assert lrs(optimizer) == [pytest.approx(0.1 * 0.9**9)]


def test_a_checkpoint_of_a_seen_optimizer_goes_on_with_one_that_tells_nothing():
    scheduler = ScheduledLR(sgd(0.1), Seen())
    scheduler.optimizer.step()
    scheduler.step(4.0)
    other = ScheduledLR(Opaque(sgd(0.1)), Seen())
    other.load_state_dict(through_json(scheduler.state_dict()))
    other.step(3.0)
    other.step(2.0)
    assert other.state.losses == (4.0, 3.0, 2.0)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
@pytest.mark.parametrize("rate", [float, torch.tensor])
@pytest.mark.parametrize("lag", [0, 2])
def test_a_copy_is_driven_by_its_own_optimizer_and_no_other(duplicate, rate, lag):
    scheduler = ScheduledLR(sgd(rate(0.1)), Seen(), lag=lag)
    for loss in LOSSES[:4]:
        scheduler.optimizer.step()
        scheduler.step(loss)
    scheduler.observe(7.0)
    assert duplicate(scheduler).state_dict() == scheduler.state_dict()
    twin = duplicate(scheduler)
    twin.optimizer.param_groups[0]["lr"] *= 2  # by hand
    scheduler.optimizer.step()
    twin.step(5.0)  # its optimizer has not stepped
    assert twin.state == scheduler.state
    twin.optimizer.step()
    twin.step(3.0)
    scheduler.step(3.0)
    assert twin.last_epoch == scheduler.last_epoch == 5 - lag
    if not lag:
        assert twin.state.losses == (*LOSSES[:4], 5.0)
        assert scheduler.state.losses == (*LOSSES[:4], 5.0)  # of 7 and 3
    twin.optimizer.step()
    twin.step(2.0)
    assert lrs(twin.optimizer) == [pytest.approx(0.2 * 0.9 ** (6 - lag), rel=1e-6)]
    assert lrs(scheduler.optimizer) == [pytest.approx(0.1 * 0.9 ** (5 - lag), rel=1e-6)]


def test_accelerate_may_count_calls_that_it_leaves_out():
    scheduler = ScheduledLR(sgd(0.1), Seen())
    scheduler._step_count += 1
    scheduler.step(1.0)
    assert (scheduler.last_epoch, scheduler._step_count) == (1, 2)


def test_a_later_scheduler_of_torchs_raises_no_warning():
    """It replaces ``optimizer.step``, which is none of ours to replace."""
    optimizer = sgd(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = ScheduledLR(optimizer, OpenLoop(Cosine(), 10))
        theirs = CosineAnnealingLR(optimizer, 10)
        for _ in range(3):
            optimizer.step()
            ours.step()
            theirs.step()
    assert ours.last_epoch == 3


@pytest.mark.parametrize(
    "settings",
    [{"foreach": True}, {"foreach": False}, {"fused": True}],
    ids=["foreach", "one by one", "fused"],
)
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, partial(optim.AdamW, weight_decay=0.0)])
@pytest.mark.parametrize("rate", [float, torch.tensor])
def test_every_implementation_of_an_optimizer_follows_the_rate(make, settings, rate):
    if rate is torch.tensor and settings.get("foreach") and make is not optim.SGD:
        settings = {}  # torch refuses a tensor there
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
    lr = rate(0.1)
    optimizer = make(weights, lr=lr, **settings)
    scheduler = ScheduledLR(optimizer, alert())
    rates = []
    for loss in LOSSES:
        before = weights[0].detach().clone()
        for weight in weights:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
        rates.append(float((before - weights[0])[0].detach()))  # with a gradient of 1, of Adam too
        scheduler.step(loss)
    expected = [0.1 * scale for scale in scales(run(alert(), LOSSES))][:-1]
    assert rates == pytest.approx(expected, rel=1e-4)
    if rate is torch.tensor:
        assert optimizer.param_groups[0]["lr"] is lr
