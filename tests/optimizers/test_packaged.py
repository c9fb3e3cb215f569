"""Optimizers by name: each trains from a closure, and what the bench does to all of them."""

import importlib
import inspect
import math
import subprocess
import sys

import pytest
import torch

from lrpilot.optimizers import BASELINES, PACKAGED, SHIPPED_LR

EVERY = {**BASELINES, **PACKAGED}
LRS = {**dict.fromkeys(BASELINES, 0.01), **SHIPPED_LR}
STEPS = 120
CLASSES = {
    "schedule-free-sgd": ("schedulefree", "SGDScheduleFree"),
    "schedule-free-adamw": ("schedulefree", "AdamWScheduleFree"),
    "prodigy": ("prodigyopt", "Prodigy"),
    "dog": ("dog", "DoG"),
    "dadapt-sgd": ("dadaptation", "DAdaptSGD"),
    "dadapt-adam": ("dadaptation", "DAdaptAdam"),
    "momo": ("momo", "Momo"),
    "momo-adam": ("momo", "MomoAdam"),
}

every_name = pytest.mark.parametrize("name", EVERY)
every_packaged = pytest.mark.parametrize("name", PACKAGED)


class Run:
    """Logistic regression as the bench trains it."""

    def __init__(self, make, lr):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(128, 10, generator=generator)
        self.y = (self.x.sum(1) > 0).float()
        self.w = torch.zeros(10, requires_grad=True)
        self.bias = torch.zeros(1, requires_grad=True)
        self.optimizer = make([self.w, self.bias], lr)
        self.taken = 0

    def loss(self, rows):
        logits = self.x[rows] @ self.w + self.bias
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, self.y[rows])

    def step(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        rows = torch.arange(self.taken * 32, self.taken * 32 + 32) % 128
        self.taken += 1

        def closure():
            loss = self.loss(rows)
            if torch.is_grad_enabled():
                self.optimizer.zero_grad()
                loss.backward()
            return loss

        return self.optimizer.step(closure).item()

    def evaluate(self):
        if hasattr(self.optimizer, "eval"):
            self.optimizer.eval()
        with torch.no_grad():
            loss = self.loss(torch.arange(128)).item()
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()
        return loss


def trained(name, lrs, *, evaluating=False):
    run = Run(EVERY[name], LRS[name])
    for lr in lrs:
        run.step(lr)
        if evaluating:
            run.evaluate()
    return run


@every_name
def test_it_learns_at_its_rate_and_returns_the_loss_before_the_step(name):
    run = Run(EVERY[name], LRS[name])
    first = run.step(LRS[name])
    assert first == pytest.approx(0.6931, abs=1e-4)
    for _ in range(STEPS):
        run.step(LRS[name])
    assert run.evaluate() < 0.65


@every_name
def test_the_same_run_is_the_same_bit_for_bit(name):
    ends = [trained(name, [LRS[name]] * 30).w for _ in range(2)]
    assert torch.equal(*ends)


@every_name
def test_it_bears_a_schedule_that_falls_to_zero(name):
    lr = LRS[name]
    lrs = [lr * (1 - step / STEPS) for step in range(STEPS)]
    run = trained(name, lrs)
    assert run.evaluate() < 0.6931 + 1e-3
    assert run.w.isfinite().all()


@every_name
def test_the_rate_in_its_groups_is_the_one_it_obeys(name):
    """The bench writes it at every step; who ignored it would have one result for all rates."""
    lr = LRS[name]
    ends = [trained(name, [lr * scale] * 30).w for scale in (1.0, 0.01)]
    assert not torch.equal(*ends)


# At a rate of 0, `dadapt-sgd` raises; it divides by a gradient that it has not seen.
@pytest.mark.parametrize("name", [name for name in EVERY if name != "dadapt-sgd"])
def test_it_bears_steps_at_rate_zero(name):
    lr = LRS[name]
    run = trained(name, [0.0, lr, lr, 0.0, *[lr] * STEPS])
    assert run.evaluate() < 0.65


@every_name
def test_evaluating_at_every_step_changes_no_more_than_rounding(name):
    lr = LRS[name]
    plain, evaluated = (trained(name, [lr] * 20, evaluating=often) for often in (False, True))
    assert plain.evaluate() == pytest.approx(evaluated.evaluate(), rel=1e-3)


@pytest.mark.parametrize("name", ["schedule-free-sgd", "schedule-free-adamw"])
def test_schedule_free_is_evaluated_where_its_average_is(name):
    run = trained(name, [LRS[name]] * 20)
    between = run.w.detach().clone()
    run.optimizer.eval()
    assert not torch.equal(run.w, between)


@every_packaged
def test_the_shipped_rate_and_settings_are_the_packages_own(name):
    module, cls = CLASSES[name]
    make = getattr(importlib.import_module(module), cls)
    signature = inspect.signature(make).parameters
    assert SHIPPED_LR[name] == signature["lr"].default
    ours = EVERY[name]([torch.ones(1, requires_grad=True)], SHIPPED_LR[name])
    theirs = make([torch.ones(1, requires_grad=True)])
    assert type(ours) is make
    left, right = (
        {key: value for key, value in optimizer.param_groups[0].items() if key != "params"}
        for optimizer in (ours, theirs)
    )
    assert left == right | ({"train_mode": True} if "train_mode" in right else {})


def test_every_packaged_optimizer_has_a_shipped_rate():
    assert list(SHIPPED_LR) == list(PACKAGED) == list(CLASSES)


def test_dog_is_made_at_any_rate_without_a_word(caplog):
    optimizer = PACKAGED["dog"]([torch.ones(1, requires_grad=True)], 0.3)
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert caplog.records == []


@every_packaged
def test_a_missing_package_is_named_with_the_line_that_installs_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, CLASSES[name][0], None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lrpilot\[baselines\]', or: pip"):
        PACKAGED[name]([torch.ones(1, requires_grad=True)], 1.0)


def test_what_a_package_itself_lacks_is_named_as_it_is(monkeypatch, tmp_path):
    (tmp_path / "prodigyopt.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "prodigyopt", raising=False)
    with pytest.raises(ModuleNotFoundError, match="No module named 'a_module_that_is_not_there'"):
        PACKAGED["prodigy"]([torch.ones(1, requires_grad=True)], 1.0)


def test_importing_the_optimizers_imports_no_package():
    code = "import sys, lrpilot.optimizers; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {module for module, _ in CLASSES.values()} & set(run.stdout.split())


def test_dog_that_overflows_returns_nan_as_others_do():
    weight = torch.ones(2, requires_grad=True)
    optimizer = PACKAGED["dog"]([weight], 1.0)
    factors = iter((1.0, math.inf, 1.0))

    def closure():
        optimizer.zero_grad()
        loss = next(factors) * weight.square().sum()
        loss.backward()
        return loss.detach()

    shown = [float(optimizer.step(closure)) for _ in range(3)]
    assert math.isfinite(shown[0])
    assert math.isnan(shown[2])
