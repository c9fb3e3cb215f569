"""A policy in a training loop."""

import math

import numpy as np
import pytest
import torch
from torch import nn, optim

from lrpilot.schedules import Guard, Learned, Signal
from lrpilot.schedules.learned.policy import as_tensors
from lrpilot.schedules.learned.tensor_file import write_tensors
from lrpilot.torch import LearnedLR, ScheduledLR, Snapshots
from policies import random_policy, still_policy
from scheduled import lrs, sgd, through_json

POLICY = random_policy(6)
LOSSES = [2 + 1 / (1 + step / 20) + 0.05 * math.sin(37 * step) for step in range(80)]


def trained(scheduler, losses) -> list[list[float]]:
    rates = []
    for loss in losses:
        rates.append(lrs(scheduler.optimizer))
        scheduler.optimizer.step()
        scheduler.step(loss)
    return rates


def test_the_rates_are_those_of_the_guarded_schedule():
    scheduler = LearnedLR(sgd(0.1, 0.02), 80, policy=POLICY)
    assert isinstance(scheduler, ScheduledLR)
    assert scheduler.schedule == Guard(Learned(80, POLICY))
    rates = trained(scheduler, LOSSES)
    state = scheduler.schedule.init()
    for loss, (first, second) in zip(LOSSES, rates, strict=True):
        assert (first, second) == (pytest.approx(0.1 * state.scale), pytest.approx(first / 5))
        state = scheduler.schedule.update(state, Signal(loss))
    assert scheduler.state == state
    assert "by the policy against its base schedule" in scheduler.explain()


def test_the_settings_are_passed_on(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(write_tensors(as_tensors(POLICY)))
    assert LearnedLR(sgd(0.1), None, policy=path, guard=False).schedule == Learned(None, POLICY)
    assert LearnedLR(sgd(0.1), 10).schedule == Guard(Learned(10, "net"))
    model = nn.Linear(1, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    snapshots = Snapshots(model, optimizer)
    scheduler = LearnedLR(optimizer, 10, policy=POLICY, lag=3, ranks="given", snapshots=snapshots)
    assert (scheduler.lag, scheduler.snapshots) == (3, snapshots)
    with pytest.raises(ValueError, match="no policy 'nett'; did you mean 'net'"):
        LearnedLR(sgd(0.1), 10, policy="nett")


@pytest.mark.parametrize("guard", [True, False])
@pytest.mark.parametrize("cut", [1, 17, 60])
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(guard, cut):
    def made():
        return LearnedLR(sgd(0.1), 80, policy=POLICY, guard=guard)

    whole, head, tail = made(), made(), made()
    rates = trained(whole, LOSSES)
    assert trained(head, LOSSES[:cut]) == rates[:cut]
    tail.optimizer.load_state_dict(head.optimizer.state_dict())
    tail.load_state_dict(through_json(head.state_dict()))
    assert trained(tail, LOSSES[cut:]) == rates[cut:]
    assert through_json(tail.state_dict()) == through_json(whole.state_dict())


def test_another_policy_on_resume_is_told():
    before, after = (
        LearnedLR(sgd(0.1), 80, policy=POLICY),
        LearnedLR(sgd(0.1), 80, policy=random_policy(6, seed=1)),
    )
    trained(before, LOSSES[:10])
    with pytest.warns(UserWarning, match="settings"):
        after.load_state_dict(through_json(before.state_dict()))


def test_losses_may_be_tensors_or_not_finite():
    numbers = LearnedLR(sgd(0.1), 80, policy=POLICY)
    tensors = LearnedLR(sgd(0.1), 80, policy=POLICY)
    losses = [*LOSSES[:20], math.nan, *LOSSES[20:40]]
    rates = trained(numbers, losses)
    doubles = [torch.tensor(loss, dtype=torch.float64) for loss in losses]
    assert trained(tensors, doubles) == rates
    assert rates[21][0] < 0.3 * rates[20][0], "the guard brakes"
    assert "ignored losses" in numbers.explain()


@pytest.mark.parametrize("lag", [0, 3])
def test_a_retreat_puts_the_weights_back_to_where_the_loss_was_low(lag):
    model = nn.Linear(1, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    snapshots = Snapshots(model, optimizer, every=5)
    scheduler = LearnedLR(optimizer, 200, policy=still_policy(), lag=lag, snapshots=snapshots)
    rates = trained(scheduler, LOSSES)
    good = snapshots.accepted
    assert good > 50
    rates += trained(scheduler, [2.9 + 0.05 * math.sin(step) for step in range(20)])
    assert "half of what was gained was lost again" in scheduler.explain()
    moves = [one for one in scheduler.log.decisions if one.reason == "rollback"]
    assert [dict(move.statistics)["to"] for move in moves] == [pytest.approx(good, abs=15)]
    assert rates[-1][0] < 0.11 * rates[len(LOSSES)][0]


def test_its_horizon_is_stretched_and_a_cooldown_begins_on_demand():
    scheduler = LearnedLR(sgd(0.1), 80, policy=POLICY)
    trained(scheduler, LOSSES[:40])
    seen = scheduler.state.inner.seen
    scheduler.extend(160, "stretch")
    assert scheduler.schedule == Guard(Learned(160, POLICY))
    assert scheduler.state.inner.seen == seen
    trained(scheduler, LOSSES[40:60])
    assert lrs(scheduler.optimizer)[0] > 0
    scheduler.cool_down(10)
    level = lrs(scheduler.optimizer)[0]
    rates = np.ravel(trained(scheduler, [2.0] * 11))
    assert rates == pytest.approx(np.maximum(level * (1 - np.arange(11) / 10), 0), abs=1e-12)
