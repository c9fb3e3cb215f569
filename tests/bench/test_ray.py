"""The Ray engine on a cluster of two nodes, both here: nodes, trials and drivers may die."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lrpilot.bench import Plan, Store
from lrpilot.bench.engines.local import Finished, run_trials

pytest.importorskip("ray")

from lrpilot.bench.engines import ray as engine
from lrpilot.bench.engines.ray import run_trials_on_ray

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")

TRAINING = """
import os, time, torch
from pathlib import Path

def train(trial):
    with Path(__file__).with_name("started").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    generator = torch.Generator().manual_seed(trial.seed)
    weight = torch.nn.Parameter(torch.randn(8, generator=generator))
    optimizer = torch.optim.SGD([weight], lr=trial.lr)
    scheduler = trial.scheduler(optimizer, 20)
    for _ in range(20):
        optimizer.zero_grad()
        loss = (weight - torch.randn(8, generator=generator)).square().sum()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    while trial.seed >= 8 and Path(__file__).with_name("hold").exists():
        time.sleep(0.02)
    return loss
"""

DEADLY = TRAINING.replace(
    "    generator =",
    """    if trial.seed == 2:
        time.sleep(1000)
    if trial.seed == 3:
        os._exit(7)
    generator =""",
)

# A process of its own, as the command line is; it stores, tells what has ended, and can be killed.
DRIVER = """
import json, sys
from pathlib import Path
from lrpilot.bench import Plan, Store
from lrpilot.bench.engines.local import Finished
from lrpilot.bench.engines.ray import run_trials_on_ray

address, task, seeds, limit, store = json.loads(sys.argv[1])
trials = Plan(tasks=[task], schedules=["cosine"], seeds=seeds).trials
with Store(Path(store)) as store:
    missing = store.missing(trials)
    for event in run_trials_on_ray(missing, address, time_limit=limit):
        if isinstance(event, Finished):
            outcome = event.outcome
            store.add(event.trial, outcome)
            ended = [event.trial.seed, outcome.status, outcome.error, outcome.losses]
            print(json.dumps(ended), flush=True)
"""


LIFE = 180.0  # seconds, of anything that is started here


def processes(session):
    """The living processes of a session, which everything that a node starts stays in."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, theirs = stat.read_text().rpartition(") ")[2].split()[:4]
            if theirs == str(session) and state not in "ZX":
                found.append(int(stat.parent.name))
    return found


def kill_session(leader):
    """Kill -9 the process and all that it started, as a machine does that loses its power."""
    while alive := processes(leader.pid):
        for pid in alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        leader.wait(10)
        time.sleep(0.05)


@contextmanager
def started(*command, environment, **options):
    """A process with a session of its own, of which nothing is left behind, or for long."""
    process = subprocess.Popen(command, env=environment, start_new_session=True, **options)
    limit = threading.Timer(LIFE, kill_session, [process])  # or reading from it might never end
    limit.start()
    try:
        yield process
    finally:
        limit.cancel()
        kill_session(process)
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def wait_until(holds, seconds, what):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds} s, still not: {what}"
        time.sleep(0.02)


@contextmanager
def node(environment, *arguments):
    """A node of one CPU, once it is up."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    options = ["--disable-usage-stats", "--object-store-memory=100000000"]
    with (
        tempfile.TemporaryFile("w+") as log,
        started(
            *command, *options, *arguments, environment=environment, stdout=log, stderr=log
        ) as process,
    ):
        wait_until(lambda: "runtime started" in said(log), 40, "the node is up")
        yield process


def said(log):
    log.seek(0)
    return log.read()


@pytest.fixture(scope="module")
def environment():
    """Of all of Ray that is started here: a cluster that nobody else may use, in its own folder."""
    folder = tempfile.mkdtemp(prefix="lrpilot-")  # short: sockets below it have names of 107 bytes
    token = Path(folder, "token")
    token.write_text(secrets.token_hex(32))
    cluster = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_TMPDIR": folder}
    try:
        yield {**os.environ, **cluster}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def address(environment):
    """Of a cluster of one node with one CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with node(environment, "--head", f"--port={port}", "--include-dashboard=false"):
        yield f"127.0.0.1:{port}"


@contextmanager
def driver(environment, tmp_path, *arguments):
    command = [sys.executable, "-c", DRIVER, json.dumps([*arguments, str(tmp_path / "runs.db")])]
    pipes = {"stdout": subprocess.PIPE, "text": True}
    with started(*command, environment=environment, **pipes) as process:
        yield process


def task_of(tmp_path, source):
    path = tmp_path / "train.py"
    path.write_text(source)
    return f"{path}:train"


def trial_processes(tmp_path):
    """The process of each trial that was begun, in order."""
    log = tmp_path / "started"
    return [int(pid) for pid in log.read_text().split()] if log.exists() else []


def stored(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        return len(store.trials())


def test_a_node_that_is_killed_loses_no_trial_and_doubles_none(environment, address, tmp_path):
    task = task_of(tmp_path, TRAINING)
    trials = Plan(tasks=[task], schedules=["cosine"], seeds=30).trials
    hold = tmp_path / "hold"
    hold.touch()
    with node(environment, f"--address={address}") as second:

        def both_at_work():
            assert process.poll() is None, "the driver has ended early"
            return len(trial_processes(tmp_path)) == 10

        with driver(environment, tmp_path, address, task, 30, None) as process:
            first = [process.stdout.readline() for _ in range(8)]
            wait_until(both_at_work, 60, "each node holds a trial")
            assert len({*trial_processes(tmp_path)[-2:]} & {*processes(second.pid)}) == 1
            kill_session(second)
            hold.unlink()
            ended = [json.loads(line) for line in [*first, *process.stdout]]
            assert process.wait(30) == 0
    assert len(trial_processes(tmp_path)) == 31, "the trial of the killed node ran again"
    alone = [
        [event.trial.seed, event.outcome.status, event.outcome.error, event.outcome.losses]
        for event in run_trials(trials, workers=1)
        if isinstance(event, Finished)
    ]
    assert sorted(ended) == alone
    assert stored(tmp_path) == 30


def test_a_killed_driver_leaves_nothing_running_and_a_ray_of_this_machine_goes_on_where_it_was(
    environment, address, tmp_path
):
    task = task_of(tmp_path, DEADLY)
    with driver(environment, tmp_path, address, task, 4, None) as process:
        assert [json.loads(process.stdout.readline())[0] for _ in range(2)] == [0, 1]
        wait_until(lambda: len(trial_processes(tmp_path)) == 3, 20, "the third trial hangs")
        process.kill()
        process.wait(10)
    pid = trial_processes(tmp_path)[-1]
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), 20, "the process of the trial is gone")
    with driver(environment, tmp_path, None, task, 4, 1.0) as process:
        told = [json.loads(line) for line in process.stdout]
        assert process.wait(30) == 0
        wait_until(lambda: not processes(process.pid), 10, "the Ray of this machine is gone")
    assert sorted(ended[:2] for ended in told) == [[2, "failed"], [3, "failed"]]
    errors = {seed: error for seed, _, error, _ in told}
    assert "longer than its time limit of 1 s" in errors[2]
    assert "died with exit code 7" in errors[3]
    assert stored(tmp_path) == 4


@pytest.mark.parametrize("address", ["127.0.0.1", "ray://127.0.0.1:10001", "127.0.0.1:port"])
def test_an_address_that_is_none_says_what_one_is(address, tmp_path):
    with pytest.raises(ValueError, match="must be host:port"):
        list(run_trials_on_ray(some_trials(), address))


def test_an_address_where_nothing_listens_is_named_at_once():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"no Ray cluster answers at '{address}'.*ray start"):
            list(run_trials_on_ray(some_trials(), address))


def test_an_address_where_something_else_listens_is_given_up(monkeypatch):
    monkeypatch.setattr(engine, "ANSWER_WITHIN", 2.0)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ValueError, match=r"no Ray cluster answers at .* \(no answer in 2 s\)"):
            list(run_trials_on_ray(some_trials(), address))


def test_limits_are_checked_before_anything_starts():
    with pytest.raises(ValueError, match="in_flight must be at least 1, got 0"):
        list(run_trials_on_ray(some_trials(), None, in_flight=0))
    with pytest.raises(ValueError, match="time_limit must be positive"):
        list(run_trials_on_ray(some_trials(), None, time_limit=0))
    assert list(run_trials_on_ray([], None)) == []


def some_trials():
    return Plan(tasks=["noisy-quadratic"], schedules=["cosine"], lrs=[0.1], seeds=1).trials
