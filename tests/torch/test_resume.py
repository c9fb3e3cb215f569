"""Resuming a `ScheduledLR`: exact, or refused."""

import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR

from lrpilot.schedules import Constant, Cosine, Greedy, OpenLoop, Plateau
from lrpilot.schedules.guard import Guard
from lrpilot.schedules.phases import cooldown, warmup
from lrpilot.testing import assert_resume_equivalent
from lrpilot.torch import ScheduledLR
from scheduled import ALERT, LOSSES, alert, greedy_lr, lrs, sgd, through_json


def through_torch(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("through", [through_json, through_torch])
@pytest.mark.parametrize(
    "schedule",
    [
        Greedy(**ALERT),
        Greedy(),
        Plateau(),
        OpenLoop(Cosine(), 6),
        OpenLoop(lambda u: np.exp(-u), 6),
    ],
    ids=["alert", "greedy", "plateau", "cosine", "numpy"],
)
@pytest.mark.parametrize("cut", [0, 1, 4])
def test_a_state_survives_json_and_a_weights_only_load(through, schedule, cut):
    scheduler = ScheduledLR(sgd(0.1, 5e-5), schedule)
    for loss in LOSSES[:cut]:
        scheduler.step(loss)
    optimizer = sgd(0.1, 5e-5)
    resumed = ScheduledLR(optimizer, schedule)
    resumed.load_state_dict(through(scheduler.state_dict()))
    assert resumed.state_dict() == scheduler.state_dict()
    assert lrs(optimizer) == resumed.get_last_lr() == scheduler.get_last_lr()
    assert resumed.last_epoch == cut


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def train(model, optimizer, scheduler, steps: range) -> list[float]:
    rates = []
    for step in steps:
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        rates += lrs(optimizer)
    return rates


OPTIONAL = ("settings", "windows")  # what older checkpoints lack

OPTIMIZERS = {
    "momentum": lambda model: optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    "AdamW": lambda model: optim.AdamW(model.parameters(), lr=5e-3),
    "tensor rate": lambda model: optim.AdamW(model.parameters(), lr=torch.tensor(5e-3)),
}


@pytest.mark.parametrize("scheduler_first", [True, False])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("cut", [1, 7, 20])
def test_interrupted_training_equals_uninterrupted_bit_for_bit(cut, name, scheduler_first):
    def make_scheduler(optimizer):
        return greedy_lr(optimizer, factor=0.8, patience=1, window=3, warmup=2, cooldown=2)

    whole = network()
    optimizer = OPTIMIZERS[name](whole)
    rates = train(whole, optimizer, make_scheduler(optimizer), range(40))

    first = network()
    optimizer = OPTIMIZERS[name](first)
    scheduler = make_scheduler(optimizer)
    train(first, optimizer, scheduler, range(cut))
    saved = through_torch(
        {
            "model": first.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scheduler": scheduler.state_dict(),
        }
    )

    second = network()
    second.load_state_dict(saved["model"])
    optimizer = OPTIMIZERS[name](second)
    if scheduler_first:
        scheduler = make_scheduler(optimizer)
        optimizer.load_state_dict(saved["optimizer"])
    else:
        optimizer.load_state_dict(saved["optimizer"])
        scheduler = make_scheduler(optimizer)
    scheduler.load_state_dict(saved["scheduler"])

    assert train(second, optimizer, scheduler, range(cut, 40)) == rates[cut:]
    assert len(set(rates)) > 3
    for ours, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def without(key: str):
    return lambda state: {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: {},
        lambda state: state | {"version": 1},
        lambda state: state | {"schedule": "Plateau"},
        lambda state: state | {"state": {"scale": 1.0}},
        lambda state: state | {"state": state["state"] | {"scale": math.nan}},
        lambda state: state | {"state": None},
        lambda state: state | {"base_lrs": [0.1, 0.1]},
        lambda state: state | {"base_lrs": []},
        lambda state: state | {"base_lrs": ["fast"]},
        lambda state: state | {"base_lrs": [math.inf]},
        lambda state: state | {"base_lrs": None},
        lambda state: state | {"steps": "many"},
        lambda state: state | {"steps": -2},
        lambda state: state | {"steps": 2.5},
        lambda state: state | {"lrs": [0.1, 0.1]},
        lambda state: state | {"initial_lrs": ["0.1"]},
        lambda state: state | {"lag": -1},
        lambda state: state | {"is_seen": 1},
        lambda state: state | {"is_due": None},
        lambda state: state | {"pending": [1.0]},
        lambda state: state | {"pending": None},
        lambda state: state | {"carried": ["zero"] * 6},
        lambda state: state | {"in_flight": None},
        lambda state: state | {"in_flight": [1.0]},
        lambda state: state | {"in_flight": [[0.0] * 6]},
        lambda state: state | {"trial": [1.0]},
        lambda state: state | {"trial": state["trial"] | {"calls": -1}},
        lambda state: state | {"trial": state["trial"] | {"state": {"scale": 1.0}}},
        lambda state: state | {"trial": state["trial"] | {"log": {}}},
        lambda state: state | {"log": None},
        lambda state: state | {"log": state["log"] | {"steps": -1}},
        *(without(key) for key in greedy_lr(sgd(0.1)).state_dict() if key not in OPTIONAL),
        lambda state: ScheduledLR(sgd(0.1), OpenLoop(Constant(), 9)).state_dict(),
        lambda state: CosineAnnealingLR(sgd(0.1), 9).state_dict(),
    ],
)
def test_a_foreign_or_damaged_state_is_refused_and_changes_nothing(damage):
    optimizer = sgd(0.1)
    scheduler = greedy_lr(optimizer)
    scheduler.step(4.0)
    sound = scheduler.state_dict()
    scheduler.step(3.0)
    before = (scheduler.state_dict(), scheduler.get_last_lr(), lrs(optimizer))
    with pytest.raises(ValueError, match=r"state|log is damaged"):
        scheduler.load_state_dict(damage(sound))
    assert (scheduler.state_dict(), scheduler.get_last_lr(), lrs(optimizer)) == before


def test_a_changed_base_rate_is_said_aloud_and_the_codes_is_kept():
    scheduler = greedy_lr(sgd(0.1))
    for loss in (4.0, 3.0):
        scheduler.step(loss)
    optimizer = sgd(0.3)
    resumed = greedy_lr(optimizer)
    with pytest.warns(UserWarning, match=r"\[0.1\] differ from this optimizer's \[0.3\]"):
        resumed.load_state_dict(scheduler.state_dict())
    assert lrs(optimizer) == [0.6]
    assert resumed.base_lrs == [0.3]


@pytest.mark.parametrize(
    "changed", [{"factor": 0.8, "patience": 3}, {"mode": "max"}, {"max_scale": 2.0}]
)
def test_settings_in_the_code_win_on_resume_and_the_mismatch_is_said(changed):
    saved = greedy_lr(sgd(0.1)).state_dict()
    resumed = greedy_lr(sgd(0.1), **changed)
    with pytest.warns(UserWarning, match=r"saved under other settings than Greedy\("):
        resumed.load_state_dict(saved)
    assert resumed.schedule == Greedy(**(ALERT | changed))


def test_a_shape_that_is_a_function_is_no_mismatch_in_another_process():
    first, second = (OpenLoop(lambda progress: 1 - progress, total_steps=10) for _ in range(2))
    assert repr(first) != repr(second)
    ScheduledLR(sgd(0.1), second).load_state_dict(ScheduledLR(sgd(0.1), first).state_dict())


def test_a_state_taken_earlier_does_not_follow_the_scheduler():
    scheduler = greedy_lr(sgd(0.1), window=2)
    early = scheduler.state_dict()
    kept = copy.deepcopy(early)
    for loss in LOSSES:
        scheduler.step(loss)
    assert early == kept


@pytest.mark.parametrize("seen", [True, False])
def test_a_state_loads_into_a_scheduler_that_has_been_used(seen):
    saved, used = greedy_lr(sgd(0.1)), greedy_lr(sgd(0.1))
    for scheduler in (saved, used):
        for loss in LOSSES[:3]:
            if seen or scheduler is used:
                scheduler.optimizer.step()
            scheduler.step(loss)
    saved.observe(9.0)
    used.optimizer.step()
    used.load_state_dict(through_json(saved.state_dict()))
    assert used.state_dict() == saved.state_dict()
    for scheduler in (saved, used):
        scheduler.optimizer.step()
        scheduler.step(1.0)
    assert used.state_dict() == saved.state_dict()


def test_a_state_without_its_fingerprint_loads_with_a_warning():
    scheduler = greedy_lr(sgd(0.1))
    with pytest.warns(UserWarning, match="other settings"):
        scheduler.load_state_dict(without("settings")(scheduler.state_dict()))


class Run:
    """One training, in which a micro-batch is a step."""

    def __init__(self, **settings) -> None:
        self.model = network()
        self.optimizer = optim.AdamW(self.model.parameters(), lr=torch.tensor(5e-3))
        schedule = Guard(warmup(3) >> alert(window=2) >> cooldown(5))
        self.scheduler = ScheduledLR(self.optimizer, schedule, **settings)
        self.at = 0

    def step(self):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(self.at))
        loss = (self.model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
        loss.backward()
        if self.at % 7 == 6:
            loss = loss * math.nan
        self.at += 1
        if self.at % 2 == 0:
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.scheduler.step(loss, count=self.at)
        return loss.item(), lrs(self.optimizer)

    def state_dict(self):
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        gradients = [p.grad for p in self.model.parameters()]
        return {name: part.state_dict() for name, part in parts.items()} | {
            "at": self.at,
            "gradients": gradients,
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.at = state["at"]
        for parameter, gradient in zip(self.model.parameters(), state["gradients"], strict=True):
            parameter.grad = gradient


@pytest.mark.parametrize("lag", [0, 3])
def test_a_whole_training_resumes_exactly_after_any_micro_batch(lag):
    """Phases, guard, smoothing, accumulated gradients, and losses that are not finite."""
    cuts = range(0, 40, 3)
    assert_resume_equivalent(
        lambda: Run(lag=lag), steps=40, cuts=cuts, through=through_torch, live_state=True
    )
