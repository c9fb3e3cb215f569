"""Your own training as the task."""

import textwrap

import pytest

from lrpilot.bench import Plan, run_trial

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


def run(tmp_path, end="return loss", source=TRAINING, **settings):
    (tmp_path / "neighbour.py").write_text("STEPS = 10")
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(source).format(end=end))
    plan = Plan(tasks=[f"{path}:train"], schedules=["linear"], lrs=[0.1], seeds=1, **settings)
    (trial,) = plan.trials()
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
        ("return 'good'", "could not convert string to float"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_training_function_that_fails_is_recorded_with_its_traceback(tmp_path, end, message):
    outcome = run(tmp_path, end)
    assert outcome.status == "failed"
    assert message in outcome.error
    assert "Traceback" in outcome.error


def test_a_scheduler_that_is_never_stepped_is_a_failure(tmp_path):
    outcome = run(tmp_path, source="def train(trial): return 1.0")
    assert outcome.status == "failed"
    assert "never stepped its scheduler" in outcome.error


def test_a_validation_loss_that_is_not_finite_is_a_divergence(tmp_path):
    outcome = run(tmp_path, "return float('nan')")
    assert (outcome.status, outcome.validation_loss) == ("diverged", None)
