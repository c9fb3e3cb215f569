"""Rates: what the user sets by hand is respected; groups come, and must not vanish."""

import json
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import optim

from lrpilot.schedules import Linear, OpenLoop
from lrpilot.torch import ScheduledLR
from scheduled import LOSSES, Seen, greedy_lr, lrs, parameters, resumed, sgd


def by_float(group, lr):
    group["lr"] = lr


def in_place(group, lr):
    group["lr"].fill_(lr)


def by_a_new_tensor(group, lr):
    group["lr"] = torch.tensor(lr)


KINDS = [
    (lambda: sgd(0.1, 0.01), by_float),
    (lambda: sgd(torch.tensor(0.1), torch.tensor(0.01)), in_place),
    (lambda: sgd(torch.tensor(0.1), torch.tensor(0.01)), by_a_new_tensor),
    (lambda: sgd(torch.tensor(0.1), torch.tensor(0.01)), by_float),
]


@pytest.mark.parametrize(("make", "change"), KINDS)
@pytest.mark.parametrize(
    "look", [lambda s: None, lambda s: s.get_last_lr(), lambda s: s.state_dict()]
)
def test_a_rate_set_by_hand_is_where_the_schedule_goes_on_from(make, change, look):
    scheduler = ScheduledLR(make(), Seen())
    for loss in (4.0, 3.0):
        scheduler.step(loss)
    change(scheduler.optimizer.param_groups[1], 0.5)
    look(scheduler)
    scheduler.step(2.0)
    assert lrs(scheduler.optimizer) == pytest.approx([0.1 * 0.9**3, 0.5 * 0.9], rel=1e-6)
    assert scheduler.base_lrs == pytest.approx([0.1, 0.5 / 0.9**2], rel=1e-6)
    manual = [entry for entry in scheduler.log.decisions if entry.reason == "manual"]
    facts = [dict(entry.statistics) for entry in manual]
    assert facts == [{"group": 1, "lr": pytest.approx(0.5)}]
    assert manual[0].new / manual[0].old == pytest.approx(0.5 / (0.01 * 0.9**2))
    assert "set by hand (group 1)" in scheduler.explain()


@pytest.mark.parametrize("factor", [0.3, 0.02])  # of the latter, base * scale misses a digit
def test_a_rate_set_by_hand_is_known_at_once_to_the_digit(factor):
    scheduler = ScheduledLR(sgd(0.1, 0.01), Seen())
    for loss in (4.0, 3.0):
        scheduler.step(loss)
    scheduler.optimizer.param_groups[0]["lr"] *= factor
    by_hand = lrs(scheduler.optimizer)
    assert scheduler.get_last_lr() == scheduler.get_lr() == by_hand
    assert resumed(scheduler).get_last_lr() == by_hand
    assert len(scheduler.log.decisions) == 2


@pytest.mark.parametrize("make", [float, torch.tensor, partial(torch.tensor, dtype=torch.float64)])
def test_what_the_scheduler_wrote_itself_is_no_change_by_hand(make):
    """A single-precision tensor does not hold 0.1, nor 0.09."""
    rate = make(0.1)
    scheduler, base = ScheduledLR(sgd(rate), Seen()), float(rate)
    for loss in LOSSES:
        scheduler.step(loss)
        scheduler.get_last_lr()
        scheduler.optimizer.param_groups[0]["lr"] *= 1
    assert scheduler.base_lrs == [base]
    assert [entry.reason for entry in scheduler.log.decisions] == ["lower"]


@given(st.lists(st.sampled_from(("step", "halve", "double", "look", "resume")), max_size=25))
def test_the_rate_is_what_the_schedule_and_the_user_made_it_together(names):
    scheduler, factor = ScheduledLR(sgd(0.1), Seen()), 1.0
    for at, name in enumerate(names):
        group = scheduler.optimizer.param_groups[0]
        match name:
            case "step":
                scheduler.step(float(at))
            case "look":
                scheduler.get_last_lr()
            case "resume":
                scheduler = resumed(scheduler)
            case _:
                by = 0.5 if name == "halve" else 2.0
                factor *= by
                group["lr"] *= by
        expected = 0.1 * factor * scheduler.state.scale
        assert lrs(scheduler.optimizer) == [pytest.approx(expected, rel=1e-12)]


def test_a_rate_of_zero_is_left_alone_and_a_base_of_zero_may_come_back():
    scheduler = ScheduledLR(sgd(0.1, 0.0), Seen())
    scheduler.step(4.0)
    scheduler.optimizer.param_groups[0]["lr"] = 0.0
    scheduler.step(3.0)
    assert lrs(scheduler.optimizer) == [0.0, 0.0]
    scheduler.optimizer.param_groups[1]["lr"] = 0.81
    scheduler.step(2.0)
    assert lrs(scheduler.optimizer) == [0.0, pytest.approx(0.729)]


def test_a_rate_set_by_hand_after_an_anneal_to_zero_holds():
    scheduler = ScheduledLR(sgd(0.1), OpenLoop(Linear(), 2))
    for _ in range(2):
        scheduler.step()
    assert lrs(scheduler.optimizer) == [0.0]
    scheduler.optimizer.param_groups[0]["lr"] = 0.05
    for _ in range(3):
        scheduler.step()
    assert lrs(scheduler.optimizer) == scheduler.get_last_lr() == [0.05]
    assert scheduler.base_lrs == [0.1]


@pytest.mark.parametrize("rate", [math.nan, math.inf, -0.1])
def test_an_impossible_rate_set_by_hand_is_refused_before_it_is_multiplied(rate):
    scheduler = ScheduledLR(sgd(0.1, 0.2), Seen())
    scheduler.optimizer.param_groups[1]["lr"] = rate
    with pytest.raises(ValueError, match=r"lr of parameter group 1 was set to .* from outside"):
        scheduler.step(4.0)
    assert scheduler.base_lrs == [0.1, 0.2]


def test_a_change_by_hand_is_kept_on_resume_as_a_multiple_of_a_changed_base_rate():
    scheduler = ScheduledLR(sgd(0.1), Seen())
    scheduler.step(4.0)
    scheduler.optimizer.param_groups[0]["lr"] *= 0.5
    state = scheduler.state_dict()
    optimizer = sgd(0.3)
    other = ScheduledLR(optimizer, Seen())
    with pytest.warns(UserWarning, match=r"\[0.1\] differ from this optimizer's \[0.3\]"):
        other.load_state_dict(state)
    assert lrs(optimizer) == [pytest.approx(0.3 * 0.9 * 0.5)]


@pytest.mark.parametrize("rate", [float, torch.tensor])
@pytest.mark.parametrize("scheduler_first", [True, False])
def test_loading_the_optimizers_state_is_no_change_by_hand(rate, scheduler_first):
    """In whichever order, and although it brings back rates, or new tensors in their place."""
    whole, fresh = (ScheduledLR(sgd(rate(0.1)), Seen()) for _ in range(2))
    for loss in LOSSES[:4]:
        whole.optimizer.step()
        whole.step(loss)
    states = whole.state_dict(), whole.optimizer.state_dict()
    if scheduler_first:
        fresh.load_state_dict(states[0])
    fresh.optimizer.load_state_dict(states[1])
    if not scheduler_first:
        fresh.load_state_dict(states[0])
    assert fresh.state_dict() == whole.state_dict()
    for scheduler in (whole, fresh):
        scheduler.optimizer.step()
        scheduler.step(1.0)
    assert fresh.state_dict() == whole.state_dict()
    assert lrs(fresh.optimizer) == lrs(whole.optimizer)
    assert "manual" not in json.dumps(fresh.state_dict())


def test_an_optimizers_state_does_not_bring_back_other_base_rates():
    """As torch's own schedulers have it: what the code says now is what holds."""
    saved = sgd(0.1).state_dict()
    optimizer = sgd(0.3)
    scheduler = ScheduledLR(optimizer, Seen())
    optimizer.load_state_dict(saved)
    assert lrs(optimizer) == scheduler.get_last_lr() == [0.3]
    assert scheduler.log.decisions == []


def test_a_discarded_scheduler_sets_no_rates():
    optimizer = sgd(0.1)
    saved = sgd(0.2).state_dict()
    ScheduledLR(optimizer, Seen()).step(1.0)
    optimizer.load_state_dict(saved)
    assert lrs(optimizer) == [0.2]


def test_a_tensor_rate_that_requires_a_gradient_is_written_in_place():
    rate = torch.tensor(0.1, requires_grad=True)
    scheduler = ScheduledLR(optim.SGD(parameters(), lr=rate), Seen())
    scheduler.step(1.0)
    assert scheduler.optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.09)


def test_groups_that_share_a_tensor_share_what_is_done_to_it_by_hand():
    rate = torch.tensor(0.5)
    scheduler = ScheduledLR(sgd(rate, rate), Seen())
    scheduler.step(1.0)
    rate *= 0.5
    scheduler.step(1.0)
    assert float(rate) == pytest.approx(0.5 * 0.81 * 0.5)
    assert scheduler.base_lrs == pytest.approx([0.25, 0.25])


def test_a_group_added_to_an_optimizer_with_a_tensor_rate_shares_it():
    """It gets the tensor of the optimizer's defaults, which the schedule has moved already."""
    rate = torch.tensor(0.5)
    scheduler = ScheduledLR(optim.SGD(parameters(), lr=rate), Seen())
    scheduler.step(1.0)
    scheduler.optimizer.add_param_group({"params": parameters()})
    assert scheduler.optimizer.param_groups[1]["lr"] is rate
    scheduler.step(1.0)
    assert float(rate) == pytest.approx(0.5 * 0.81)
    assert scheduler.base_lrs == [0.5, 0.5]
    assert "manual" not in json.dumps(scheduler.state_dict())


def test_a_group_added_does_not_undo_what_was_set_by_hand():
    scheduler = ScheduledLR(sgd(0.1), Seen())
    scheduler.step(1.0)
    scheduler.optimizer.param_groups[0]["lr"] = 0.5
    scheduler.optimizer.add_param_group({"params": parameters(), "lr": 0.01})
    assert scheduler.get_last_lr() == lrs(scheduler.optimizer) == [0.5, pytest.approx(0.009)]


def test_one_base_rate_may_stand_for_all_groups():
    """For a schedule whose scale is the rate itself."""
    scheduler = ScheduledLR(sgd(0.1, 0.2), Seen(), base_lr=1.0)
    assert lrs(scheduler.optimizer) == [1.0, 1.0]
    scheduler.optimizer.add_param_group({"params": parameters(), "lr": 0.3})
    scheduler.step(1.0)
    assert lrs(scheduler.optimizer) == scheduler.get_last_lr() == [0.9] * 3
    assert scheduler.base_lrs == [1.0] * 3


@pytest.mark.parametrize("seen", [True, False])
def test_a_group_that_is_unfrozen_later_follows_at_once(seen):
    scheduler = greedy_lr(sgd(0.1), patience=1)
    for loss in (4.0, 3.0, 2.0):
        if seen:
            scheduler.optimizer.step()
        scheduler.step(loss)
    scheduler.optimizer.add_param_group({"params": parameters(), "lr": 5e-5})
    if seen:
        scheduler.optimizer.step()
    scheduler.step(1.0)  # no move
    assert lrs(scheduler.optimizer) == [0.2, 1e-4]
    assert scheduler.get_last_lr() == [0.2, 1e-4]


@pytest.mark.parametrize("seen", [True, False])
def test_a_group_that_has_vanished_is_said_where_a_rate_would_be_written(seen):
    optimizer = sgd(0.1, 0.2, 0.3)
    scheduler = ScheduledLR(optimizer, Seen())
    for loss in (4.0, 3.0):
        if seen:
            optimizer.step()
        scheduler.step(loss)
    del optimizer.param_groups[1]
    if seen:
        optimizer.step()
    for look in (lambda: scheduler.step(2.0), scheduler.get_last_lr, scheduler.state_dict):
        with pytest.raises(
            ValueError, match=r"has 2 parameter groups where this scheduler drives 3"
        ):
            look()


def test_a_group_without_a_rate_is_refused():
    optimizer = sgd(0.1)
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(ValueError, match="has no lr, only "):
        ScheduledLR(optimizer, Seen())
