"""The command line, end to end, as a user calls it."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrpilot.bench.store import Store
from lrpilot.cli import app, cores
from lrpilot.schedules import NAMED_SCHEDULES
from lrpilot.tasks import TASKS

LRPILOT = [sys.executable, "-m", "lrpilot"]
QUICK = [
    "--task",
    "noisy-quadratic",
    "--lr",
    "0.1",
    "--steps",
    "60",
    "--seeds",
    "2",
    "--workers",
    "1",
]
SLOW = ["--task", "noisy-quadratic", "--lr", "0.1", "--steps", "1500", "--seeds", "6"]
EXAMPLE = Path(__file__).parents[1] / "examples" / "train.py"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with a space in its name."""
    folder = tmp_path / "a folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def lrpilot(*arguments):
    return CliRunner().invoke(app, list(arguments))


def stored():
    """(key, time of its end) of every trial, or nothing while there is no table yet."""
    if not Path("runs.db").exists():
        return set()
    database = sqlite3.connect("runs.db")
    try:
        return set(database.execute("SELECT key, finished, seconds FROM trials"))
    except sqlite3.OperationalError:
        return set()
    finally:
        database.close()


def test_compare_prints_a_table_writes_a_page_and_keeps_the_trials(here):
    result = lrpilot("compare", *QUICK, "--schedule", "greedy", "--schedule", "cosine")
    assert result.exit_code == 0, result.stderr
    assert "noisy-quadratic, adamw, 2 paired seeds" in result.stdout
    assert "greedy" in result.stdout
    assert "reference" in result.stdout
    assert "4 trials: 0 already in runs.db, 4 to run" in result.stderr
    assert len(stored()) == 4
    page = (here / "report.html").read_text()
    assert "noisy-quadratic" in page
    assert "Learning rate" in page


def test_json_has_an_object_per_schedule_and_nothing_else_on_stdout(here):
    result = subprocess.run(
        [*LRPILOT, "compare", *QUICK, "--schedule", "greedy", "--schedule", "cosine", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(result.stdout)
    assert [row["name"] for row in answer] == ["greedy", "cosine"]
    for row in answer:
        low, high = row["interval"]
        assert low < row["mean"] < high
        assert row["seeds"] == 2


def test_a_stored_trial_is_not_run_again_unless_fresh(here):
    arguments = ["compare", *QUICK, "--schedule", "greedy"]
    lrpilot(*arguments)
    first = stored()
    again = lrpilot(*arguments)
    assert "2 already in runs.db, 0 to run" in again.stderr
    assert stored() == first
    assert "0 already" in lrpilot(*arguments, "--fresh").stderr
    assert {key for key, *_ in stored()} == {key for key, *_ in first}
    assert stored() != first


def test_kill_9_loses_at_most_the_trials_in_flight_and_the_same_command_goes_on(here):
    command = [*LRPILOT, "compare", *SLOW, "--schedule", "greedy", "--schedule", "cosine"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(stored()) >= 2)
    workers = children(process.pid)
    process.kill()
    process.wait()
    before = stored()
    assert 2 <= len(before) < 12
    wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))

    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{len(before)} already in runs.db, {12 - len(before)} to run" in result.stderr
    assert len(stored()) == 12
    assert before <= stored()
    database = sqlite3.connect("runs.db")
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.mark.parametrize("ended", [0, 1])
def test_ctrl_c_ends_with_one_line_and_keeps_what_has_ended(here, ended):
    process = subprocess.Popen(
        [*LRPILOT, "compare", *SLOW, "--seeds", "40", "--schedule", "greedy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell has what it starts in the background ignore the interrupts of its terminal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert "40 trials" in process.stderr.readline()  # the workers are starting
    wait_until(lambda: len(stored()) >= ended)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1].startswith("lrpilot: interrupted")
    assert "Traceback" not in errors
    assert ended <= len(stored()) < 40


def test_a_training_function_that_raises_is_recorded_and_the_others_go_on(here):
    (here / "train.py").write_text(
        "import torch\n"
        "def train(trial):\n"
        "    if trial.seed == 1: raise RuntimeError('seed one is unlucky')\n"
        "    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=trial.lr)\n"
        "    trial.scheduler(optimizer, 2).step(1.0)\n"
        "    print('a line on stdout')\n"
        "    return 1.0\n"
    )
    result = subprocess.run(
        [*LRPILOT, "compare", "train.py:train", "--schedule", "cosine", "--seeds", "3", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert json.loads(result.stdout)[0]["failed"] == 1
    assert "seed one is unlucky" in result.stderr
    assert "lrpilot: some trials failed; their tracebacks are in runs.db" in result.stderr
    database = sqlite3.connect("runs.db")
    statuses = dict(database.execute("SELECT seed, status FROM trials"))
    (error,) = database.execute("SELECT error FROM trials WHERE seed = 1").fetchone()
    database.close()
    assert statuses == {0: "done", 1: "failed", 2: "done"}
    assert "Traceback" in error


def test_the_example_runs(here):
    assert len(EXAMPLE.read_text().splitlines()) < 60
    settings = ["--lr", "0.1", "--seeds", "2", "--steps", "40", "--workers", "1"]
    schedules = ["--schedule", "greedy", "--schedule", "cosine"]
    result = lrpilot("compare", f"{EXAMPLE}:train", *settings, *schedules)
    assert result.exit_code == 0, result.output


def test_tasks_and_schedules_are_listed():
    tasks, schedules = lrpilot("tasks").stdout, lrpilot("schedules").stdout
    assert all(name in tasks for name in TASKS)
    assert all(name in schedules for name in NAMED_SCHEDULES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "digit-mlp"], "did you mean 'digits-mlp'?"),
        (["--schedule", "gready"], "did you mean 'greedy'?"),
        (["--optimizer", "adamv"], "did you mean 'adam"),
        (["--seeds", "0"], "seeds must be at least 1, got 0"),
        (["--lr", "-1"], "lr must be positive and finite, got -1.0"),
        (["missing.py:train"], "cannot read the training function 'missing.py:train'"),
        (["--store", "no/such/folder/runs.db"], "make its folder if there is none"),
        (["--time-limit", "0"], "time_limit must be positive and finite, got 0"),
        (["--report", "no/such/folder/page.html"], "choose another --report"),
        (["--report", "."], "it is a folder; choose another --report"),
        (
            ["--report", "./a.db", "--store", "a.db"],
            "which the page is made from; choose another --report",
        ),
    ],
)
def test_bad_input_is_one_line_exit_code_2_and_nothing_is_written(here, arguments, message):
    result = lrpilot("compare", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("lrpilot: ")
    assert message in line
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["claims", "--rows", "none.gz"], "there is no file none.gz; `lrpilot claims --save`"),
        (["claims", "--study", "robustness", "--rows", "none.gz"], "there is no file none.gz"),
        (["claims", "--rows", "a.gz", "--save", "b.gz"], "none to --save to b.gz; leave one out"),
        (["claims", "--time-limit", "-1"], "time_limit must be positive and finite, got -1"),
        (["claims", "--store", "no/claims.db"], "cannot use no/claims.db as a store"),
        (["runs", "--curves", "--store", "trials.db"], "add --export"),
        (["explain", "none.db"], "cannot read none.db: No such file or directory"),
        (["replay", "none.csv"], "cannot read none.csv: No such file or directory"),
    ],
)
def test_what_other_commands_cannot_do_is_one_line_too(here, arguments, message):
    Store(here / "trials.db").__exit__(None, None, None)
    result = lrpilot(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("lrpilot: ")
    assert message in line
    assert os.listdir(here) == ["trials.db"]


def test_one_trial_is_no_trials(here):
    arguments = [*QUICK, "--seeds", "1", "--schedule", "cosine"]
    assert "1 trial: 0 already in runs.db" in lrpilot("compare", *arguments).stderr
    assert "1 trial exported" in lrpilot("runs", "--export", "all.csv").stderr


def test_a_store_that_is_no_store_is_one_line_and_left_alone(here):
    (here / "runs.db").write_text("mine " * 100)
    result = lrpilot("compare", *QUICK)
    assert result.exit_code == 2
    assert "runs.db as a store: file is not a database" in result.stderr
    assert (here / "runs.db").read_text() == "mine " * 100


def test_cores_are_counted_where_the_system_tells_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores() == os.cpu_count()


def wait_until(condition, seconds=120.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def children(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
