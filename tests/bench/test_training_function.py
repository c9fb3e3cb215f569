"""Your own training as the task."""

import math
import sys
import textwrap

import pytest
import torch

from lrpilot.bench import Plan, TrainingTrial, run_trial, training_function
from lrpilot.torch import losses

TRAINING = """
    import torch
    from neighbour import STEPS

    def train(trial):
        weight = torch.nn.Parameter(torch.tensor([1.0]))
        optimizer = torch.optim.SGD([weight], lr=trial.lr)
        scheduler = trial.scheduler(optimizer, STEPS)
        for _ in range(STEPS):
            loss = (weight**2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss)
        {end}
"""


@pytest.fixture(autouse=True)
def _a_process_of_its_own(monkeypatch):
    """Afterwards, modules and paths are as a new worker would have them."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield
    for name in {"train", "neighbour"} - before:
        sys.modules.pop(name, None)


def run(tmp_path, end="return loss", source=TRAINING, **settings):
    (tmp_path / "neighbour.py").write_text("STEPS = 10")
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(source).format(end=end))
    plan = Plan(tasks=[f"{path}:train"], schedules=["linear"], lrs=[0.1], seeds=1, **settings)
    (trial,) = plan.trials
    return run_trial(trial, lambda share: None)


def test_losses_and_the_rates_they_were_made_at_are_recorded(tmp_path):
    outcome = run(tmp_path)
    assert outcome.status == "done", outcome.error
    assert outcome.losses[0] == 1.0
    assert outcome.rates == pytest.approx([0.1 * (1 - step / 10) for step in range(10)])
    assert outcome.validation_loss == pytest.approx(outcome.losses[-1])
    assert outcome.test_loss is None


@pytest.mark.parametrize(
    ("end", "evaluations"),
    [
        ("return 3.0", [(10, 3.0)]),
        ("return [4.0, 3.0]", [(10, 4.0), (10, 3.0)]),
        ("trial.report(3.0)", [(10, 3.0)]),
        ("trial.report(loss * 0 + 3.0)", [(10, 3.0)]),
        ("return torch.tensor([4.0, 3.0])", [(10, 4.0), (10, 3.0)]),
        ("return (loss * 0 + 3.0).detach().numpy()", [(10, 3.0)]),
    ],
)
def test_validation_losses_are_returned_or_reported(tmp_path, end, evaluations):
    outcome = run(tmp_path, end)
    assert outcome.status == "done", outcome.error
    assert outcome.evaluations == evaluations
    assert outcome.validation_loss == 3.0


def test_a_test_loss_may_be_reported(tmp_path):
    assert run(tmp_path, "trial.report(3.0, test_loss=4.0)").test_loss == 4.0


def test_the_trial_hands_over_seed_rate_and_steps(tmp_path):
    outcome = run(tmp_path, "return trial.seed + trial.lr + trial.steps", steps=7)
    assert outcome.validation_loss == pytest.approx(7.1)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("raise RuntimeError('out of milk')", "RuntimeError: out of milk"),
        ("pass", "yielded no validation loss"),
        ("return 'good'", "returned 'good'; return the final validation loss or a list"),
        ("return 1.0, 2.0", "returned (1.0, 2.0); return the final validation loss or a list"),
        ("trial.scheduler(optimizer, 0)", "total_steps must be at least 1, got 0"),
        ("raise BrokenPipeError('mine')", "BrokenPipeError: mine"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_training_function_that_fails_is_recorded_with_its_traceback(tmp_path, end, message):
    outcome = run(tmp_path, end)
    assert outcome.status == "failed"
    assert message in outcome.error.splitlines()[0]
    assert "Traceback" in outcome.error


def test_a_failure_is_summed_up_by_the_first_line_of_its_message(tmp_path):
    outcome = run(tmp_path, "raise RuntimeError('bad shape\\n  and a hint')")
    assert outcome.error.splitlines()[0] == "RuntimeError: bad shape"


def test_taking_other_steps_than_the_schedule_was_made_for_is_said(tmp_path):
    with pytest.warns(UserWarning, match="took 11 steps of the 10 that it gave"):
        run(tmp_path, "optimizer.step()\n    scheduler.step(loss)\n    return 1.0")


def test_a_name_that_another_module_has_is_refused(tmp_path):
    (tmp_path / "json.py").write_text("def train(trial): return 1.0")
    plan = Plan(tasks=[f"{tmp_path}/json.py:train"], schedules=["cosine"], seeds=1)
    outcome = run_trial(plan.trials[0], lambda share: None)
    assert "a module named 'json' is loaded already; rename" in outcome.error


def test_a_scheduler_that_is_never_stepped_is_a_failure(tmp_path):
    outcome = run(tmp_path, source="def train(trial): return 1.0")
    assert outcome.status == "failed"
    assert "never stepped its scheduler" in outcome.error


def test_a_validation_loss_that_is_not_finite_is_a_divergence(tmp_path):
    outcome = run(tmp_path, "return float('nan')")
    assert (outcome.status, outcome.validation_loss) == ("diverged", None)


def test_a_run_that_diverges_may_end_early_and_nothing_is_warned_of(tmp_path):
    end = "optimizer.step()\n    scheduler.step(loss)\n    return float('inf')"
    assert run(tmp_path, end).status == "diverged"


def test_a_loss_on_a_device_is_recorded_some_steps_later_and_all_are_there_at_the_end(monkeypatch):
    for module in (losses, training_function):
        monkeypatch.setattr(module, "is_host", lambda tensor: False)
    settings = {"seed": 0, "lr": 0.1, "steps": None, "on_share": lambda share: None}
    trial = TrainingTrial(**settings, schedule="greedy")
    scheduler = trial.scheduler(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1), 6)
    for step in range(6):
        scheduler.optimizer.step()
        scheduler.step(torch.tensor(float(step)))
    assert trial.losses[:2] == [0.0, 1.0]
    assert [math.isnan(loss) for loss in trial.losses[2:]] == [True] * 4
    trial.land()
    assert trial.losses == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_losses_on_a_device_are_stored_in_full_when_the_training_fails_too(tmp_path, monkeypatch):
    for module in (losses, training_function):
        monkeypatch.setattr(module, "is_host", lambda tensor: False)
    outcome = run(tmp_path, "raise RuntimeError('late')")
    assert outcome.status == "failed"
    assert len(outcome.losses) == 10
    assert all(map(math.isfinite, outcome.losses))


def test_a_changed_setting_makes_another_trial(tmp_path, monkeypatch):
    path = tmp_path / "train.py"
    path.write_text("def train(trial): return 1.0")
    versions = [training_function.check_function(f"{path}:train")]
    for name, value in (("LRPILOT_WIDTH", "64"), ("LRPILOT_WIDTH", "32"), ("OTHER", "1")):
        monkeypatch.setenv(name, value)
        versions.append(training_function.check_function(f"{path}:train"))
    assert len(set(versions)) == 3
    assert versions[2] == versions[3]
