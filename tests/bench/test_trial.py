"""One trial of a built-in task."""

from dataclasses import replace

import pytest
import torch

from lrpilot.bench import Plan, run_trial
from lrpilot.bench.trial import error_text


def trial(**settings):
    settings = {"schedules": ["cosine"], "lrs": [0.01], "seeds": 1, "steps": 40, **settings}
    (found,) = Plan(tasks=["digits-mlp"], **settings).trials
    return found


def test_the_same_trial_twice_is_the_same_bit_for_bit():
    one, two = (run_trial(trial(schedules=["greedy"]), lambda share: None) for _ in range(2))
    assert (one.losses, one.rates, one.evaluations) == (two.losses, two.rates, two.evaluations)
    assert one.test_loss == two.test_loss


def test_the_rates_are_the_schedules_and_the_curves_are_complete():
    shares = []
    outcome = run_trial(trial(), shares.append)
    assert outcome.status == "done"
    assert len(outcome.losses) == len(outcome.rates) == 40
    assert outcome.rates[0] == 0.01
    assert outcome.rates[20] == pytest.approx(0.005)
    assert outcome.evaluations[0][0] == 0
    assert outcome.evaluations[-1] == (40, outcome.validation_loss)
    assert shares[-1] == 1.0
    assert outcome.seconds > 0


def test_schedules_start_from_the_same_model_and_data():
    first = [run_trial(trial(schedules=[name]), lambda share: None) for name in ("cosine", "wsd50")]
    assert first[0].evaluations[0] == first[1].evaluations[0]
    assert first[0].losses[0] == first[1].losses[0]


def test_a_rate_far_too_high_diverges_without_an_exception():
    outcome = run_trial(
        trial(optimizers=["sgd"], lrs=[1e30], schedules=["constant"]), lambda share: None
    )
    assert outcome.status == "diverged"
    assert outcome.validation_loss is None
    assert len(outcome.losses) < 40


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_where_memory_runs_out_the_first_line_has_a_cure(error):
    assert "run fewer trials at once" in error_text(error).splitlines()[0]
    assert "run fewer" not in error_text(RuntimeError("shapes cannot be multiplied"))


def test_a_single_run_refuses_a_perturbation_that_it_would_not_have():
    outcome = run_trial(replace(trial(), perturbation="gaussian"), lambda share: None)
    assert outcome.status == "failed"
    assert "perturbation 'gaussian' is known to batches alone" in outcome.error
