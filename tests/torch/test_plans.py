"""What a scheduler says about its rates, and how its plan is changed while it trains."""

import math

import pytest
import torch
from torch import nn, optim

from lrpilot.schedules import Constant, Cosine, Linear, OpenLoop, Plateau
from lrpilot.schedules.durations import tokens
from lrpilot.schedules.guard import Guard
from lrpilot.schedules.phases import cooldown, phase, warmup
from lrpilot.torch import ScheduledLR
from lrpilot.torch.snapshots import Snapshots
from scheduled import LOSSES, Seen, alert, lrs, resumed, sgd, through_json


def trained(scheduler: ScheduledLR, losses) -> list[float]:
    """The rate of each step."""
    rates = []
    for loss in losses:
        rates += lrs(scheduler.optimizer)[:1]
        scheduler.optimizer.step()
        scheduler.step(loss)
    return rates


def test_it_explains_each_move_with_the_step_at_which_it_was_decided():
    scheduler = ScheduledLR(sgd(0.1), alert())
    trained(scheduler, LOSSES)
    told = [line.split() for line in scheduler.explain().splitlines()]
    assert [line[:4] for line in told if line and line[0].isdigit()] == [
        ["2", "0.1", "->", "0.4"],
        ["4", "0.4", "->", "0.1"],
        ["6", "0.1", "->", "0.2"],
        ["7", "0.2", "->", "0.025"],
    ]
    assert "now 0.025" in scheduler.explain()


def test_losses_that_are_not_finite_are_counted():
    scheduler = ScheduledLR(sgd(0.1), alert())
    trained(scheduler, [4.0, 3.0, math.nan, math.inf, 2.0, math.nan, 1.0])
    assert "ignored losses: 3; steps: 7" in scheduler.explain()
    assert "ignored 2 losses that were not finite, the last at step 4" in scheduler.explain()


def test_where_groups_have_different_bases_it_explains_in_scales():
    scheduler = ScheduledLR(sgd(0.1, 0.02), Seen())
    trained(scheduler, LOSSES[:2])
    assert "1 -> 0.81" in scheduler.explain()
    assert "base rates of the groups now: 0.1, 0.02" in scheduler.explain()


def test_a_phase_that_begins_without_a_move_is_told():
    plan = warmup(2) >> phase(Constant(), 2) >> phase(Constant(), 2) >> alert()
    scheduler = ScheduledLR(sgd(0.1), plan)
    trained(scheduler, LOSSES)
    assert [line for line in scheduler.explain().splitlines() if "phase 3 began" in line]


def test_the_log_goes_on_where_it_was_on_resume():
    whole, head = (ScheduledLR(sgd(0.1), alert()) for _ in range(2))
    trained(whole, LOSSES)
    trained(head, LOSSES[:5])
    tail = resumed(head)
    trained(tail, LOSSES[5:])
    assert tail.explain() == whole.explain()
    assert tail.log.decisions == whole.log.decisions


def test_rates_are_foretold_where_no_loss_decides_them():
    scheduler = ScheduledLR(sgd(0.1, 0.02), OpenLoop(Cosine(), 8))
    foretold = scheduler.preview(8)
    assert [scheduler.lr_at(t) for t in range(8)] == foretold
    assert [rates[0] for rates in foretold] == trained(scheduler, range(8))
    with pytest.raises(ValueError, match="loss"):
        ScheduledLR(sgd(0.1), Plateau()).preview(3)


@pytest.mark.parametrize("how", ["keep", "stretch"])
def test_a_horizon_is_extended_and_the_resumed_run_has_it_in_its_code(how):
    plan = warmup(2) >> alert() >> cooldown(0.25)
    scheduler = ScheduledLR(sgd(0.1), plan.over(12))
    losses = [float(9 - t) for t in range(24)]
    trained(scheduler, losses[:6])
    scheduler.extend(24, how=how)
    state = through_json(scheduler.state_dict())
    rates = trained(scheduler, losses[6:])
    assert lrs(scheduler.optimizer) == [pytest.approx(0.0, abs=1e-9)]
    assert rates[-7] > 0
    assert "the horizon was changed" in scheduler.explain()
    if how == "stretch":
        other = ScheduledLR(sgd(0.1), plan.over(24))
        other.load_state_dict(state)
        assert trained(other, losses[6:]) == rates


def test_what_came_before_the_first_step_is_decided_before_the_horizon_changes():
    scheduler, twin = (ScheduledLR(sgd(0.1), OpenLoop(Linear(), 10)) for _ in range(2))
    for _ in range(3):
        scheduler.step()  # micro-batches
    for one in (scheduler, twin):
        one.optimizer.step()
    scheduler.extend(20, how="stretch")
    twin.extend(20, how="stretch")
    for one in (scheduler, twin):
        one.step()
    assert lrs(scheduler.optimizer) == lrs(twin.optimizer) == [pytest.approx(0.1 * 19 / 20)]


def test_a_cooldown_begins_when_it_is_asked_for():
    scheduler = ScheduledLR(sgd(0.1), alert(max_scale=1.0))
    trained(scheduler, LOSSES[:3])
    scheduler.cool_down(4)
    rates = trained(scheduler, LOSSES[3:8])
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0])
    assert "the cooldown began" in scheduler.explain()
    with pytest.raises(ValueError, match="has begun already"):
        scheduler.cool_down(4)


def test_a_cooldown_is_not_taken_back_when_the_optimizer_is_first_seen():
    scheduler = ScheduledLR(sgd(0.1), alert())
    scheduler.step(4.0)
    scheduler.cool_down(4)
    scheduler.optimizer.step()
    scheduler.step(4.0)
    assert lrs(scheduler.optimizer) == [pytest.approx(0.075)]


def test_a_rate_set_by_hand_outlives_a_change_of_plan():
    scheduler = ScheduledLR(sgd(0.1), OpenLoop(Linear(), 10))
    trained(scheduler, range(5))
    scheduler.optimizer.param_groups[0]["lr"] = 0.5
    scheduler.extend(20, how="stretch")
    assert lrs(scheduler.optimizer) == [pytest.approx(0.5 / 0.5 * 0.75)]


def test_a_horizon_in_tokens_is_reached_by_what_the_steps_consume():
    scheduler = ScheduledLR(sgd(0.1), phase(Linear(), tokens(1000)))
    for _ in range(4):
        scheduler.optimizer.step()
        scheduler.observe(None, tokens=100)
        scheduler.step(tokens=100)
    assert lrs(scheduler.optimizer) == [pytest.approx(0.02)]


class Exploding:
    """A training in which one batch throws the weights away."""

    def __init__(self, *, lag: int = 0) -> None:
        torch.manual_seed(0)
        self.model = nn.Linear(3, 1)
        self.optimizer = optim.AdamW(self.model.parameters(), lr=0.05)
        self.snapshots = Snapshots(self.model, self.optimizer, every=5)
        guard = Guard(OpenLoop(Constant(), 100), recovery=1000)
        self.scheduler = ScheduledLR(self.optimizer, guard, lag=lag, snapshots=self.snapshots)

    def step(self, at: int, factor: float = 1.0) -> float:
        inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(at))
        loss = (self.model(inputs) - inputs.sum(dim=1, keepdim=True) * factor).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(loss)
        return loss.item()


@pytest.mark.parametrize("lag", [0, 2])
def test_a_brake_puts_the_weights_back_and_the_log_says_so(lag):
    training = Exploding(lag=lag)
    for at in range(20):
        training.step(at)
    accepted = training.snapshots.accepted
    for at in range(20, 21 + lag):
        training.step(at, factor=math.nan)
        if training.scheduler.state.reason == "brake":
            break
    assert all(weight.isfinite().all() for weight in training.model.parameters())
    assert lrs(training.optimizer) == [pytest.approx(0.05 / 4)]
    rollback = training.scheduler.log.decisions[-1]
    assert rollback.reason == "rollback"
    assert dict(rollback.statistics)["attempt"] == 1
    assert dict(rollback.statistics)["to"] == accepted > 0
    assert math.isfinite(training.step(30))


@pytest.mark.filterwarnings("ignore:the loss set off the alarm")
def test_a_brake_without_weights_to_go_back_to_is_told():
    training = Exploding()
    training.step(0, factor=math.nan)
    assert "not rolled back: there is no accepted snapshot" in training.scheduler.explain()


class Told:
    """Stands for snapshots, and keeps what they are told."""

    def __init__(self) -> None:
        self.calls = []

    def observed(self, step, *, healthy, alarm, now):
        self.calls.append((step, healthy, alarm, now))

    def start_at(self, step):
        self.calls.append(step)


@pytest.mark.parametrize("lag", [0, 2])
def test_snapshots_are_told_how_each_loss_looked_and_of_which_step_it_is(lag):
    told = Told()
    guard = Guard(OpenLoop(Constant(), 100))
    scheduler = ScheduledLR(sgd(0.1), guard, lag=lag, snapshots=told)
    losses = [1.0, 1.1, 0.9, 1.0, 1.1, 9.0, 9.0, 9.0, 1.0, *[1.0] * lag]
    trained(scheduler, losses)
    healthy = [True] * 5 + [False] * 3 + [True]
    assert told.calls == [(at, ok, at == 8, at + lag) for at, ok in enumerate(healthy, start=1)]
    other = Told()
    twin = ScheduledLR(sgd(0.1), guard, lag=lag, snapshots=other)
    twin.load_state_dict(through_json(scheduler.state_dict()))
    assert other.calls == [len(losses)]


def guarded() -> ScheduledLR:
    plan = (warmup(10) >> phase(Plateau(patience=1000), None) >> cooldown(0.2)).over(100)
    return ScheduledLR(sgd(0.1), Guard(plan))


def test_a_guarded_plan_cools_down_on_demand_and_stays_guarded():
    scheduler = guarded()
    trained(scheduler, [1.0] * 40)
    scheduler.cool_down()
    rates = trained(scheduler, [1.0] * 20)
    assert rates[0] == pytest.approx(0.1)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.1 / 20)
    scheduler = guarded()
    trained(scheduler, [1.0] * 40)
    scheduler.cool_down()
    trained(scheduler, [1.0] * 5 + [math.nan])
    assert scheduler.state.reason == "brake"


@pytest.mark.parametrize("how", ["stretch", "keep", "recool"])
def test_the_horizon_of_a_guarded_plan_can_be_changed(how):
    scheduler = guarded()
    trained(scheduler, [1.0] * 50)
    scheduler.extend(200, how)
    rates = trained(scheduler, [1.0] * 150)
    begins = 160 if how == "stretch" else 180
    assert rates[begins - 50] == pytest.approx(0.1)
    assert rates[begins - 49] < 0.1
    assert lrs(scheduler.optimizer) == [0.0]


def test_a_schedule_that_counts_tokens_says_so_where_none_come():
    plan = warmup(tokens(100)) >> phase(Plateau(), None)
    scheduler = ScheduledLR(sgd(0.1), plan)
    scheduler.optimizer.step()
    with pytest.warns(UserWarning, match=r"counts tokens and none came.*step\(loss, tokens=...\)"):
        scheduler.step(1.0)


def test_a_rollback_that_is_not_possible_is_warned_of():
    model = nn.Linear(1, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    snapshots = Snapshots(model, optimizer)
    scheduler = ScheduledLR(optimizer, Guard(OpenLoop(Constant(), 9)), snapshots=snapshots)
    optimizer.step()
    with pytest.warns(UserWarning, match="there is no accepted snapshot"):
        scheduler.step(math.nan)


def test_another_horizon_on_resume_is_told_how_to_come_by():
    scheduler = guarded()
    trained(scheduler, [1.0] * 90)
    longer = (warmup(10) >> phase(Plateau(patience=1000), None) >> cooldown(0.2)).over(200)
    other = ScheduledLR(sgd(0.1), Guard(longer))
    with pytest.warns(UserWarning, match="load under the one that was, then call extend"):
        other.load_state_dict(through_json(scheduler.state_dict()))
