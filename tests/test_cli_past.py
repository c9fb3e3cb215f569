"""The commands that learn from past runs, end to end."""

import json

import pytest
from typer.testing import CliRunner

from lrpilot.bench import Outcome, Store
from lrpilot.bench.stages import Method
from lrpilot.cli import app
from lrpilot.schedules import Greedy, cooldown


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lrpilot(*arguments):
    return CliRunner().invoke(app, list(arguments))


def filled(path, tasks=("noisy-quadratic", "rosenbrock")):
    with Store(path) as store:
        for task in tasks:
            trials = [Method(task, "adamw", "cosine", 60).trial(0.1, seed) for seed in (0, 1)]
            store.add_many([(trial, Outcome(validation_loss=1.0)) for trial in trials])


def test_settings_are_fitted_printed_written_and_not_trained_again(here):
    filled(here / "runs.db")
    command = ["tune", "--settings", "4", "--workers", "1", "--out", "tuned.json"]
    found = lrpilot(*command, "--json")
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer == json.loads((here / "tuned.json").read_text())
    assert {line["task"] for line in answer["lines"]} == {"noisy-quadratic", "rosenbrock"}
    eval(answer["code"], {"Greedy": Greedy, "cooldown": cooldown, "total_steps": 60})
    again = lrpilot(*command)
    assert again.exit_code == 0
    assert again.stdout.strip().splitlines()[-1] == answer["code"]
    assert "settings 3 to 4 of 4: 8 of 8 trials" in again.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--store", "none.db"], "there is no store none.db"),
        (["--budget", "soon"], "budget must be a time such as 60s, 10m or 1h, got 'soon'"),
        (["--task", "rosenbrok"], "did you mean 'rosenbrock'"),
        (["--out", "notes.txt"], "it is there and is no answer of lrpilot tune"),
        (["--out", "runs.db"], "it is the store"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(here, options, told):
    filled(here / "runs.db")
    (here / "notes.txt").write_text("precious")
    found = lrpilot("tune", *options)
    assert found.exit_code == 2
    assert told in found.stderr
    assert (here / "notes.txt").read_text() == "precious"


def test_logs_are_imported_and_listed(here):
    (here / "a.csv").write_text("step,train/loss,eta\n1,4.0,0.1\n2,2.0,0.1\n")
    found = lrpilot("import", "a.csv", "--lr", "eta", "--describe", "optimizer=sgd", "--json")
    assert found.exit_code == 0, found.stderr
    (run,) = json.loads(found.stdout)["runs"]
    assert run["values"] == {"losses": 2, "rates": 2}
    assert run["description"] == {"optimizer": "sgd"}
    again = lrpilot("import", "a.csv", "--lr", "eta")
    assert "known" in again.stdout
    assert "runs.db has 1 past runs" in again.stdout


def test_what_is_no_log_is_one_line(here):
    found = lrpilot("import", "none.csv")
    assert (found.exit_code, found.stderr.strip()) == (2, "lrpilot: there is no none.csv")
    assert not (here / "runs.db").exists()
