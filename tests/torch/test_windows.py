"""What a scheduler is told of gradients and weights, and goes on from after a checkpoint."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn, optim

from contracts import run
from lrpilot.learning.net_runs import runs_at
from lrpilot.learning.playing import under_policies
from lrpilot.schedules import Guard, Learned, cooldown, warmup
from lrpilot.schedules.protocol import decisions_of
from lrpilot.tasks import find_task
from lrpilot.testing import assert_resume_equivalent
from lrpilot.torch import LearnedLR
from lrpilot.torch.windows import MOST, OptimizerWindows, sampled
from policies import random_policy, reading_policy
from scheduled import sgd, through_json

READING = reading_policy(6)


def training(seed=0, policy=READING):
    """Regression on fresh minibatches, and what each step showed."""

    class Training:
        def __init__(self):
            torch.manual_seed(seed)
            self.model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
            self.optimizer = optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
            self.scheduler = LearnedLR(self.optimizer, 60, policy=policy)
            self.rng = np.random.default_rng(seed)

        def step(self):
            x = torch.from_numpy(self.rng.normal(size=(8, 3))).float()
            loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.scheduler.step(loss)
            return {"loss": loss.item(), "lr": self.scheduler.get_last_lr()[0]}

        def state_dict(self):
            parts = self.model, self.optimizer
            return copy.deepcopy(
                {
                    "parts": [part.state_dict() for part in parts],
                    "scheduler": through_json(self.scheduler.state_dict()),
                    "rng": self.rng.bit_generator.state,
                }
            )

        def load_state_dict(self, state):
            model, optimizer = state["parts"]
            self.model.load_state_dict(model)
            self.optimizer.load_state_dict(optimizer)
            self.scheduler.load_state_dict(state["scheduler"])
            self.rng.bit_generator.state = state["rng"]

    return Training()


def test_a_policy_sees_them_and_acts_on_them():
    seeing, blind = training(), training(policy=random_policy(6))
    for one in (seeing, blind):
        for _ in range(40):
            one.step()
    assert seeing.scheduler.state.inner.seen.persistence != 0
    assert seeing.scheduler.state.inner.seen.alignment != 1
    assert 0 < seeing.scheduler.state.inner.seen.movement < seeing.scheduler.state.inner.seen.travel
    assert blind.scheduler.state.inner.seen.persistence == 0
    assert "persistence" in seeing.scheduler.explain()
    assert "persistence" not in blind.scheduler.explain()
    assert blind.scheduler.state_dict()["windows"] is None


def test_an_interrupted_run_goes_on_bit_for_bit():
    assert_resume_equivalent(training, steps=30, through=lambda state: state)


def test_a_checkpoint_between_the_two_steps_keeps_what_was_told():
    whole, cut = training(), training()
    for one in (whole, cut):
        for _ in range(13):
            one.step()
        one.model(torch.ones(2, 3)).sum().backward()
        one.optimizer.step()
    again = training()
    again.load_state_dict(cut.state_dict())
    for one in (whole, again):
        one.scheduler.step(1.5)
    assert again.scheduler.state_dict() == whole.scheduler.state_dict()


def test_a_checkpoint_from_before_windows_were_kept_is_taken():
    state = training().scheduler.state_dict()
    del state["windows"]
    training().scheduler.load_state_dict(state)


@pytest.mark.parametrize(
    "damage",
    [{"gathered": "x"}, {"gathered": 3}, {"anchor": None}, {"start": "x"}, {"latest0": None}],
)
def test_damaged_windows_are_refused(damage):
    one = training()
    for _ in range(9):
        one.step()
    state = through_json(one.scheduler.state_dict())
    state["windows"] |= damage
    with pytest.raises(ValueError, match="the state is damaged: no windows in it"):
        training().scheduler.load_state_dict(state)


def test_training_in_torch_sees_what_training_by_the_stack_does():
    """The same problem under the same policy, as one run and as a tensor program."""
    task = find_task("digits-mlp")
    policy, lr, steps = reading_policy(6, seed=2), 0.05, 120
    runs = runs_at([task.problem(3)], [lr], optimizer="momentum", total_steps=steps)
    offsets = under_policies(runs, [policy]).offsets[:, 0, 0]
    found = []
    scheduled = {}

    def make(parameters, rate):
        optimizer = optim.SGD(parameters, lr=lr, momentum=0.9)
        scheduled["it"] = LearnedLR(optimizer, steps, policy=policy, guard=False)
        return optimizer

    trained = task.start(3, make)
    for _ in range(steps):
        scheduler = scheduled["it"]
        found.append(scheduler.state.offset)
        scheduler.step(trained.step(scheduler.get_last_lr()[0]))
    assert len(set(found)) > 10
    np.testing.assert_allclose(found, offsets, atol=2e-3)


@pytest.mark.parametrize("rows", [950, 1024, 1100])
def test_of_a_large_model_so_many_coordinates_are_looked_at_in_every_column(rows):
    numbered = nn.Parameter(torch.arange(512.0).repeat(rows, 1))
    numbered.grad = numbered.detach().clone()
    optimizer = optim.SGD([numbered], lr=0.1)
    for of in (lambda parameter: parameter, lambda parameter: parameter.grad):
        found = sampled(optimizer, of)
        assert 0.8 * MOST < len(found) <= 1.01 * MOST
        assert len(set(found.tolist())) == 512


def shown(optimizer, needs=("loss", "movement", "travel", "evenness")):
    windows = OptimizerWindows()
    windows.follow(needs)
    windows.watch(optimizer)
    return windows


def stepped(parameters, optimizer):
    for one in parameters:
        one.grad = torch.ones_like(one)
    optimizer.step()


def test_what_is_frozen_counts_for_nothing():
    free, frozen = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(96), requires_grad=False)
    optimizer = optim.Adam([free, frozen], lr=0.1)
    windows = shown(optimizer)
    stepped([free], optimizer)
    told = windows.take()
    assert told.evenness == pytest.approx(1)
    assert told.travel == pytest.approx(0.1)
    assert told.movement == pytest.approx(0.1 / 0.9)
    assert shown(optim.SGD([frozen], lr=0.1)).take() is None
    assert sampled(optim.SGD([frozen], lr=0.1), lambda parameter: parameter).tolist() == [0]


def test_where_a_run_began_is_not_known_once_parameters_are_added():
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
    optimizer = optim.SGD([first], lr=0.1)
    windows = shown(optimizer)
    stepped([first], optimizer)
    assert windows.take().travel == pytest.approx(0.1)
    packed = windows.pack()
    optimizer.add_param_group({"params": second})
    for _ in range(2):
        stepped([first, second], optimizer)
        told = windows.take()
        assert math.isnan(told.travel)
    assert told.movement == pytest.approx(0.1 * math.sqrt(3) / math.hypot(0.7, 0.7, 0.8))
    windows.resume(packed, optimizer)
    stepped([first, second], optimizer)
    assert math.isnan(windows.take().travel)
    windows.resume({"decisions": 0}, optimizer)
    stepped([first, second], optimizer)
    assert windows.take().travel > 0


@pytest.mark.parametrize(
    ("needs", "gradients", "weights"),
    [(("alignment",), True, False), (("loss", "evenness"), False, True)],
)
def test_a_schedule_pays_for_what_it_reads_alone(needs, gradients, weights):
    parameter = nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([parameter], lr=0.1)
    windows = shown(optimizer, needs)
    for _ in range(2):
        stepped([parameter], optimizer)
    told = windows.take()
    assert math.isfinite(told.alignment) == gradients
    assert math.isfinite(told.evenness) == weights
    packed = windows.pack()
    assert ("gathered" in packed, "start" in packed) == (gradients, weights)
    again = shown(optimizer, needs)
    again.resume(through_json(packed), optimizer)
    assert again.pack() == packed


@pytest.mark.parametrize(("lag", "micro"), [(0, 1), (4, 1), (0, 8), (4, 3)])
def test_movement_is_from_one_deciding_step_to_the_next(lag, micro):
    """However late a decision comes, and whatever counted as a step before one was seen."""
    torch.manual_seed(0)
    x = nn.Parameter(torch.ones(4))
    optimizer = optim.SGD([x], lr=0.1)
    policy = reading_policy(3)
    last = np.zeros_like(policy.weights[1]), np.zeros_like(policy.biases[1])
    still = replace(
        policy, weights=(policy.weights[0], last[0]), biases=(policy.biases[0], last[1])
    )
    scheduler = LearnedLR(optimizer, 1000, policy=still, lag=lag)
    weights, decided = [x.detach().clone()], {}
    for step in range(80):
        for at in range(micro):
            loss = (x - 0.01 * step).square().sum() / micro
            loss.backward()
            if at == micro - 1:
                optimizer.step()
                optimizer.zero_grad()
                weights.append(x.detach().clone())
            scheduler.step(loss)
        inner = scheduler.state.inner
        if inner.step:
            decided.setdefault(inner.decisions, (inner.step, inner.seen.movement))
    del decided[0]
    before = 0
    assert len(decided) > 8
    for at, movement in decided.values():
        far = torch.linalg.vector_norm(weights[at] - weights[before])
        assert movement == pytest.approx((far / torch.linalg.vector_norm(weights[at])).item())
        before = at


def test_parameters_without_gradients_count_as_nothing_and_new_ones_begin_anew():
    used, unused = nn.Linear(2, 1), nn.Linear(3, 1)
    optimizer = optim.SGD([*used.parameters(), *unused.parameters()], lr=0.1)
    windows = OptimizerWindows()
    windows.follow(("loss", "persistence"))
    windows.watch(optimizer)
    for _ in range(2):
        used(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    told = windows.take()
    assert told.alignment == pytest.approx(1)
    assert math.isnan(told.persistence)
    assert windows.take() is None
    optimizer.add_param_group({"params": nn.Linear(1, 1).parameters()})
    optimizer.step()
    assert math.isnan(windows.take().alignment)


def test_half_precision_and_complex_numbers_are_read():
    half, wave = nn.Parameter(torch.ones(2).bfloat16()), nn.Parameter(torch.ones(2) * 1j)
    optimizer = optim.SGD([half, wave], lr=0.1)
    half.grad, wave.grad = torch.ones(2).bfloat16(), torch.ones(2) * 2j
    assert sampled(optimizer, lambda parameter: parameter.grad).tolist() == [1, 1, 0, 2, 0, 2]
    assert sampled(optimizer, lambda parameter: parameter).tolist() == [1, 1, 0, 1, 0, 1]


def test_a_scheduler_whose_optimizer_runs_no_hooks_decides_from_the_loss():
    class Odd:
        param_groups = sgd(0.1).param_groups

        def step(self):
            pass

    scheduler = LearnedLR(Odd(), 60, policy=READING)
    for step in range(30):
        scheduler.step(1 / (1 + step))
    assert scheduler.state.inner.decisions == 7
    assert scheduler.state.inner.seen.persistence == 0


def test_decisions_are_counted_through_guards_and_phases():
    learned = Learned(None, READING)
    plan = Guard((warmup(10) >> learned >> cooldown(0.5)).over(100))
    states = run(plan, [1 / (1 + step) for step in range(100)])
    inside = [state.inner.phases[1].inner.decisions for state in states]
    assert [decisions_of(state) for state in states] == inside
    assert inside[10] == 0 < inside[60]
