"""Worker processes: every trial ends exactly once, whatever becomes of the workers."""

from contextlib import closing

import pytest

from lrpilot.bench import Plan
from lrpilot.bench.local import Advanced, Finished, run_trials

DEADLY = """
import os

def train(trial):
    if trial.seed == 1:
        os._exit(7)
    raise ValueError(f"seed {trial.seed}")
"""


def test_workers_yield_every_trial_once_with_the_numbers_of_one_process():
    plan = Plan(tasks=["noisy-quadratic"], schedules=["greedy"], lrs=[0.1], seeds=4, steps=50)
    ended = [
        (event.trial.seed, event.outcome.losses)
        for event in run_trials(plan.trials, workers=2)
        if isinstance(event, Finished)
    ]
    alone = [
        (event.trial.seed, event.outcome.losses)
        for event in run_trials(plan.trials, workers=1)
        if isinstance(event, Finished)
    ]
    assert sorted(ended) == alone
    assert [seed for seed, _ in alone] == [0, 1, 2, 3]


def test_a_worker_that_dies_fails_its_trial_and_no_other(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(DEADLY)
    trials = Plan(tasks=[f"{path}:train"], schedules=["cosine"], seeds=3).trials
    ended = {
        event.trial.seed: event.outcome
        for event in run_trials(trials, workers=1)
        if isinstance(event, Finished)
    }
    assert {outcome.status for outcome in ended.values()} == {"failed"}
    assert "died with exit code 7" in ended[1].error
    assert "seed 0" in ended[0].error
    assert "seed 2" in ended[2].error


def test_progress_rises_while_a_trial_runs():
    plan = Plan(tasks=["noisy-quadratic"], schedules=["cosine"], lrs=[0.1], seeds=1, steps=200)
    events = list(run_trials(plan.trials, workers=1))
    shares = [event.share for event in events if isinstance(event, Advanced)]
    assert shares == sorted(shares)
    assert 10 < len(shares) <= 50
    assert isinstance(events[-1], Finished)


def test_closing_stops_the_workers():
    plan = Plan(tasks=["noisy-quadratic"], schedules=["cosine"], lrs=[0.1], seeds=2, steps=10**6)
    with closing(run_trials(plan.trials, workers=2)) as events:
        assert isinstance(next(events), Advanced)
        workers = events.gi_frame.f_locals["busy"]
        processes = [worker.process for worker in workers]
        assert all(process.is_alive() for process in processes)
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize("workers", [1, 3])
def test_nothing_to_run_yields_nothing(workers):
    assert list(run_trials([], workers)) == []


LOADER = """
import torch
from conf import STEPS

def train(trial):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=trial.lr)
    scheduler = trial.scheduler(optimizer, STEPS)
    data = torch.utils.data.TensorDataset(torch.ones(STEPS))
    for (x,) in torch.utils.data.DataLoader(data, num_workers=1):
        scheduler.step(x.sum())
    return float(STEPS)
"""


def test_training_functions_have_their_own_neighbours_and_may_have_processes(tmp_path):
    for name, steps in (("a", 2), ("b", 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.py").write_text(LOADER)
        (tmp_path / name / "conf.py").write_text(f"STEPS = {steps}")
    tasks = [f"{tmp_path}/{name}/train.py:train" for name in "ab"]
    trials = Plan(tasks=tasks, schedules=["cosine"], seeds=1).trials
    ended = [event for event in run_trials(trials, workers=1) if isinstance(event, Finished)]
    assert [event.outcome.error for event in ended] == [None, None]
    assert [event.outcome.validation_loss for event in ended] == [2.0, 3.0]
