"""Worker processes: every trial ends exactly once, whatever becomes of the workers."""

import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from lrpilot.bench import Plan, Store
from lrpilot.bench.engines.local import Advanced, Finished, run_trials

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
    plan = Plan(tasks=["noisy-quadratic"], schedules=["cosine"], lrs=[0.1], seeds=2, steps=10**5)
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


HARMFUL = """
import os, signal, time, torch

def train(trial):
    if trial.seed == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1000)
    if trial.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)  # as Linux does where memory runs out
    if trial.seed == 3:
        torch.ones(2**30)
    raise ValueError(f"seed {trial.seed}")
"""


def outcomes_by_seed(tmp_path, source, seeds, **limits):
    path = tmp_path / "train.py"
    path.write_text(source)
    trials = Plan(tasks=[f"{path}:train"], schedules=["cosine"], seeds=seeds).trials
    ended = [
        event for event in run_trials(trials, workers=1, **limits) if isinstance(event, Finished)
    ]
    assert [event.trial for event in ended] == trials
    return [event.outcome for event in ended]


def test_a_trial_that_hangs_or_is_killed_fails_alone_and_says_why(tmp_path):
    started = time.monotonic()
    fine, hangs, killed = outcomes_by_seed(tmp_path, HARMFUL, 3, time_limit=1.5)
    assert time.monotonic() - started < 100  # seconds, of the thousand that it would hang
    assert "seed 0" in fine.error
    assert hangs.status == killed.status == "failed"
    assert "took longer than its time limit of 1.5 s" in hangs.error
    assert hangs.seconds == 1.5
    assert "exit code -9 (SIGKILL)" in killed.error
    assert "more memory than there was" in killed.error


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has the limit")
def test_a_trial_over_its_memory_limit_fails_alone(tmp_path):
    greedy = HARMFUL.replace("trial.seed == 1", "False").replace("trial.seed == 2", "False")
    outcomes = outcomes_by_seed(tmp_path, greedy.replace("== 3", "== 1"), 3, memory_limit=2**31)
    assert "allocate memory" in outcomes[1].error
    assert "seed 0" in outcomes[0].error
    assert "seed 2" in outcomes[2].error


def test_a_limit_that_no_trial_could_keep_is_refused(tmp_path):
    for limits in ({"time_limit": 0}, {"time_limit": float("nan")}, {"memory_limit": 2**20}):
        with pytest.raises(ValueError, match=f"{next(iter(limits))} must be"):
            outcomes_by_seed(tmp_path, HARMFUL, 1, **limits)


SLOW = """
import os, time, torch
from pathlib import Path

def train(trial):
    with Path(__file__).with_name("started").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=trial.lr)
    trial.scheduler(optimizer, 1).step(1.0)
    time.sleep(0.2)
    while Path(__file__).with_name("hold").exists():
        time.sleep(0.02)
    return 1.0
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
def test_a_comparison_that_is_killed_goes_on_where_it_was_and_leaves_no_process(tmp_path):
    (tmp_path / "train.py").write_text(SLOW)
    command = [sys.executable, "-m", "lrpilot", "compare", "train.py:train", "--seeds", "10"]
    options = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    command += ["--schedule", "cosine", "--schedule", "constant", "--workers", "2"]
    log = tmp_path / "started"
    process = subprocess.Popen(command, **options)
    try:
        end = time.monotonic() + 60
        while not log.exists() or len(log.read_text().split()) < 8:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        (tmp_path / "hold").touch()  # those in flight hang, and must end all the same
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
    end = time.monotonic() + 20
    try:
        while any(Path(f"/proc/{pid}").exists() for pid in set(log.read_text().split())):
            assert time.monotonic() < end, "a worker outlives the comparison"
            time.sleep(0.02)
    finally:
        (tmp_path / "hold").unlink()
    begun, kept = len(log.read_text().split()), stored(tmp_path)
    assert begun - 2 - 2 <= len(kept) < 20  # at most two in flight, and two ended but not written
    run = subprocess.run(command, check=True, text=True, **options)
    assert re.search(rf"20 trials: {len(kept)} already in runs.db", run.stderr)
    now = stored(tmp_path)
    assert kept.items() <= now.items()
    assert len(now) == 20
    assert len(log.read_text().split()) == begun + 20 - len(kept)


def stored(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        return {
            (trial.schedule, trial.seed): outcome.seconds
            for trial, outcome in store.outcomes(store.trials())
        }


THREADS = """
import scipy.linalg
from threadpoolctl import threadpool_info

def train(trial):
    raise ValueError([pool["num_threads"] for pool in threadpool_info()])
"""


def test_a_worker_computes_in_one_thread_whatever_the_library(tmp_path):
    """NumPy has threads of its own, which slow small trials on a busy machine a hundredfold."""
    (outcome,) = outcomes_by_seed(tmp_path, THREADS, 1)
    assert re.match(r"ValueError: \[1(, 1)+\]", outcome.error)
