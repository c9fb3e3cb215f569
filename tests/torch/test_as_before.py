"""Nobody can tell that `suggest_lr` ran: what it puts back, and where its draws come from."""

import contextlib
import hashlib
import itertools
import random
import types

import numpy as np
import pytest
import torch
from torch import nn, optim
from torch.amp import GradScaler
from torch.nn.functional import cross_entropy

from lrpilot.torch.suggest import suggest_lr


class Odd(nn.Module):
    """Everything that is hard to put back: batch norm, dropout, ties, odd buffers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.2)
        self.last = nn.Linear(8, 8, bias=False)
        self.last.weight = self.first.weight  # tied
        self.frozen = nn.Parameter(torch.ones(8), requires_grad=False)
        self.register_buffer("mask", torch.ones(1, 8).expand(4, 8))  # one row in four places
        self.register_buffer("moving", torch.zeros(8))
        self.register_buffer("later", None)

    def forward(self, inputs):
        with torch.no_grad():
            self.frozen.mul_(0.999)
        hidden = self.drop(self.norm(self.first(inputs))).relu() * self.frozen * self.mask[0]
        self.moving = 0.9 * self.moving + hidden.detach().mean(dim=0)  # a new tensor each time
        self.later = self.moving.clone()
        return self.last(hidden)


class Training:
    """A model that learns the sign pattern of its inputs, with all global generators in use."""

    def __init__(self, name="momentum"):
        torch.manual_seed(1)
        random.seed(2)
        np.random.seed(3)
        self.model = Odd()
        self.optimizer = TRAININGS[name](self.model)
        self.scaler = GradScaler("cpu", init_scale=2.0**40, growth_interval=4)

    def step(self):
        inputs = torch.randn(64, 8) * random.uniform(0.9, 1.1)
        inputs += torch.from_numpy(np.random.randn(64, 8)).float() * 0.1
        self.model.train()
        targets = inputs.argmax(dim=1)

        def closure():
            self.optimizer.zero_grad(set_to_none=False)
            loss = cross_entropy(self.model(inputs), targets)
            loss.backward()
            return loss

        if isinstance(self.optimizer, optim.LBFGS):
            return self.optimizer.step(closure)
        self.optimizer.zero_grad(set_to_none=False)
        loss = cross_entropy(self.model(inputs), targets)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def suggest(self, step=None, **options):
        return suggest_lr(
            self.model, self.optimizer, step or self.step, scaler=self.scaler, **options
        )


TRAININGS = {
    "momentum": lambda model: optim.SGD(
        [
            {"params": [*model.first.parameters()], "lr": 0.1},
            {"params": [*model.norm.parameters()], "lr": 0.05},
        ],
        momentum=0.9,
    ),
    "tensor rate": lambda model: optim.AdamW(
        model.parameters(), lr=torch.tensor(1e-3), fused=True, amsgrad=True
    ),
    "lbfgs": lambda model: optim.LBFGS(model.parameters(), lr=0.1, max_iter=2),
}


def flat(value, seen=None):
    """Every object that can be reached, by identity, with its contents."""
    if isinstance(value, torch.Tensor):
        bits = value.detach().contiguous().numpy().tobytes()
        return id(value), value.data_ptr(), bits, None if value.grad is None else flat(value.grad)
    if isinstance(value, dict):
        return id(value), [(id(key), flat(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return id(value), [flat(item) for item in value]
    return repr(value)


def everything(training):
    """A hash of each part, which says which one differs, where pytest would compare for minutes."""
    modules = [*training.model.modules()]
    parts = {
        "parameters": [flat(module._parameters) for module in modules],
        "buffers": [flat(module._buffers) for module in modules],
        "modes": [module.training for module in modules],
        "optimizer state": flat(training.optimizer.state),
        "groups": flat(training.optimizer.param_groups),
        "scaler": flat(vars(training.scaler)),
        "random": random.getstate(),
        "NumPy": [np.array(part).tolist() for part in np.random.get_state()],
        "torch": torch.get_rng_state().tolist(),
    }
    return {part: hashlib.sha256(repr(value).encode()).hexdigest() for part, value in parts.items()}


def sweep(training):
    """How many steps a range test takes; L-BFGS learns too little from noise for a suggestion."""
    losses = []
    with contextlib.suppress(ValueError):
        training.suggest(lambda: losses.append(training.step()) or losses[-1], steps=60)
    assert len(set(losses)) == len(losses)
    return len(losses)


@pytest.mark.parametrize("taken", [0, 3])
@pytest.mark.parametrize("name", TRAININGS)
def test_everything_is_as_before_bit_for_bit_and_in_place(name, taken):
    training = Training(name)
    for _ in range(taken):
        training.step()
    training.model.eval()
    training.model.drop.train()
    before = everything(training)
    assert sweep(training) > 40
    assert everything(training) == before


@pytest.mark.parametrize("name", TRAININGS)
def test_training_goes_on_as_if_nobody_had_asked(name):
    plain, asked = Training(name), Training(name)
    losses = [plain.step() for _ in range(6)]
    asked = Training(name)
    head = [asked.step() for _ in range(2)]
    assert sweep(asked) > 40
    assert head + [asked.step() for _ in range(4)] == losses


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_everything_is_as_before_after_an_error(error):
    training = Training()
    training.step()
    before = everything(training)
    calls = itertools.count()

    def step():
        loss = training.step()
        if next(calls) == 70:  # in the middle of the second sweep
            raise error("no more")
        return loss

    with pytest.raises(error, match="no more"):
        training.suggest(step, steps=60)
    assert next(calls) == 71
    assert everything(training) == before


def test_the_generators_of_an_accelerator_are_put_back(monkeypatch):
    state = [torch.tensor([1, 2])]
    seeds = []
    device = types.SimpleNamespace(
        is_initialized=lambda: True,
        get_rng_state_all=lambda: [each.clone() for each in state],
        set_rng_state_all=lambda states: state.__setitem__(slice(None), states),
        manual_seed_all=seeds.append,
    )
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch, "get_device_module", lambda _: device)
    training = Training()

    def step():
        state[0] += 1
        return training.step()

    training.suggest(step, seeds=(3, 4))
    assert seeds == [3, 4]
    assert state[0].tolist() == [1, 2]


@pytest.mark.parametrize("disturb", [random.random, np.random.random, lambda: torch.rand(1)])
def test_the_same_seeds_suggest_the_same_whatever_was_drawn_before(disturb):
    def suggested(*seeds):
        disturb()
        return training.suggest(steps=60, seeds=seeds, low=1e-4)

    training = Training()
    first, second, third = suggested(0, 1), suggested(0, 1), suggested(0, 2)
    assert repr(first) == repr(second)
    assert repr(first.sweeps[0]) == repr(third.sweeps[0])
    assert first.sweeps[1].losses != third.sweeps[1].losses
