"""`lrpilot explain` and `lrpilot replay`, end to end, as a user calls them."""

import json
import sqlite3

import pytest
import torch
from typer.testing import CliRunner

from lrpilot.bench import Outcome, Store, Trial, run_trial
from lrpilot.cli import app
from lrpilot.schedules import Plateau, named_schedule
from lrpilot.schedules.explanation import replay
from lrpilot.torch import ScheduledLR
from refusals import check_refused

HALVING = Plateau(factor=0.5, patience=1)
LOSSES = [3.0, float("nan"), *[2.0] * 5]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lrpilot(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def scheduler_state(base_lr=0.1):
    """What of a scheduler's state after LOSSES is looked at."""
    return {
        "version": 2,
        "schedule": "Plateau",
        "settings": "0123456789abcdef",
        "state": {"scale": 0.25},
        "steps": len(LOSSES),
        "base_lrs": [base_lr],
        "log": replay(HALVING, LOSSES).log.state_dict(),
    }


def save_torch(path, content):
    torch.save(content, path)


def save_legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_json(path, content):
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("save", [save_torch, save_legacy, save_json])
def test_explain_finds_the_schedulers_of_a_checkpoint_wherever_they_are(here, save):
    content = {
        "model": {"weights": [1.0, 2.0]},
        "lr_schedulers": [scheduler_state(), {"last_epoch": 3}],
        "callbacks": {"second": {"scheduler": scheduler_state(base_lr=5e-5)}},
    }
    save(here / "checkpoint", content)
    result = lrpilot("explain", "checkpoint")
    assert result.exit_code == 0, result.stderr
    assert "state lr_schedulers.0, schedule Plateau, steps 7, base rate 0.1" in result.stdout
    first, second = (result.stdout.index(f"state {at}") for at in ("lr_sch", "callbacks.second."))
    assert first < second
    assert "0.1 -> 0.05" in result.stdout
    assert "5e-05 -> 2.5e-05" in result.stdout
    assert "ignored 1 loss that was not finite" in result.stdout
    assert "moves: 0 up, 2 down; ignored losses: 1; steps: 7; now 0.025" in result.stdout


def test_explain_takes_a_bare_state_and_says_which_group_the_rates_are_of(here):
    torch.save({**scheduler_state(), "base_lrs": [0.1, 0.01]}, here / "scheduler.pt")
    result = lrpilot("explain", "scheduler.pt")
    assert "schedule Plateau, steps 7, base rates 0.1, 0.01" in result.stdout
    assert "rates are those of the first parameter group" in result.stdout


def test_explain_prints_json(here):
    save_json(here / "state.json", {"scheduler": scheduler_state()})
    (found,) = json.loads(lrpilot("explain", "state.json", "--json").stdout)
    assert (found["state"], found["schedule"], found["steps"]) == ("scheduler", "Plateau", 7)
    assert (found["up"], found["down"], found["ignored"]) == (0, 2, 1)
    assert [one["reason"] for one in found["decisions"]] == ["ignore", "lower", "lower"]
    assert found["decisions"][1]["statistics"] == {"best": 2.0, "bad": 2}


def test_explain_reads_what_a_scheduler_saves(here):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    scheduler = ScheduledLR(optimizer, HALVING)
    for loss in LOSSES:
        optimizer.step()
        scheduler.step(loss)
    torch.save({"scheduler": scheduler.state_dict()}, here / "run.pt")
    (found,) = json.loads(lrpilot("explain", "run.pt", "--json").stdout)
    assert (found["down"], found["ignored"], found["steps"]) == (2, 1, 7)
    assert "0.05 -> 0.025" in lrpilot("explain", "run.pt").stdout


def test_losses_that_were_still_being_ignored_are_counted_up_to_the_checkpoint(here):
    log = replay(HALVING, [1.0, float("nan")]).log.state_dict()
    save_json(here / "state.json", {**scheduler_state(), "log": log, "steps": 9})
    (found,) = json.loads(lrpilot("explain", "state.json", "--json").stdout)
    assert (found["ignored"], found["steps"]) == (8, 9)


def test_a_state_without_a_log_is_said(here):
    state = scheduler_state()
    del state["log"]
    save_json(here / "state.json", state)
    assert "it was saved without a decision log" in lrpilot("explain", "state.json").stdout


TRIAL = Trial(
    task="noisy-quadratic",
    task_version="1",
    optimizer="adamw",
    schedule="plateau",
    settings=repr(named_schedule("plateau", 120)),
    lr=0.1,
    seed=0,
    total_steps=120,
)


@pytest.fixture(scope="module")
def outcome():
    return run_trial(TRIAL, lambda share: None)


def test_the_replay_of_a_stored_trial_has_the_rates_that_the_trial_had(here, outcome):
    with Store(here / "runs.db") as store:
        store.add(TRIAL, outcome)
    result = lrpilot("explain", "runs.db")
    assert result.exit_code == 0, result.stderr
    assert "task noisy-quadratic, optimizer adamw, schedule plateau, seed 0" in result.stdout
    assert "the replayed rates equal all 120 stored ones" in result.stdout
    assert "lowered: the loss was not better than the reference 7 times in a row" in result.stdout
    (found,) = json.loads(lrpilot("explain", "runs.db", "--json").stdout)
    assert found["differs"] is None
    assert found["down"] > 3


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (TRIAL.settings, "the training set its rates itself"),
        ("Plateau(factor=0.9)", r"the trial ran under Plateau(factor=0.9), and this is Plateau("),
    ],
)
def test_a_replay_that_is_not_what_happened_is_said(here, outcome, settings, why):
    trial = Trial(**{**as_dict(TRIAL), "settings": settings})
    rates = [*outcome.rates[:50], 0.5, *outcome.rates[51:]]
    with Store(here / "runs.db") as store:
        store.add(trial, Outcome(losses=outcome.losses, rates=rates, validation_loss=1.0))
    text = lrpilot("explain", "runs.db").stdout
    assert "NOT what happened: from step 51 on the replayed rates differ" in text
    assert "for 0.5)" in text
    assert why in text
    (found,) = json.loads(lrpilot("explain", "runs.db", "--json").stdout)
    assert found["differs"] == 51


def test_a_training_function_is_replayed_over_the_horizon_that_it_set(here):
    """Its trials have no horizon of their own; the rates tell."""
    found = replay(named_schedule("cosine", 30), [1.0] * 30, 0.1)
    trial = Trial(**{**as_dict(TRIAL), "task": "t.py:train", "schedule": "cosine", "optimizer": ""})
    with Store(here / "runs.db") as store:
        for total_steps in (None, 1000):
            this = Trial(**{**as_dict(trial), "total_steps": total_steps, "seed": total_steps or 0})
            store.add(this, Outcome(losses=[1.0] * 30, rates=found.rates, validation_loss=1.0))
        store.add(Trial(**{**as_dict(trial), "seed": 2}), Outcome(status="failed", error="x"))
    rows = json.loads(lrpilot("explain", "runs.db", "--json").stdout)
    assert [row["differs"] for row in rows] == [None, None, None]
    assert sorted(row["steps"] for row in rows) == [0, 30, 30]


def test_trials_can_be_chosen_and_several_are_a_line_each(here, outcome):
    with Store(here / "runs.db") as store:
        for schedule, seed, lr in (("plateau", 0, 0.1), ("plateau", 1, 0.1), ("cosine", 0, 0.3)):
            settings = {"schedule": schedule, "seed": seed, "lr": lr}
            store.add(Trial(**{**as_dict(TRIAL), **settings}), outcome)
    table = lrpilot("explain", "runs.db")
    assert table.stdout.count("noisy-quadratic") == 3
    assert table.stdout.count("differ from step 1") == 1
    for options, kept in (
        (["--task", "noisy-quadratic"], 3),
        (["--optimizer", "adamw"], 3),
        (["--schedule", "plateau"], 2),
        (["--schedule", "plateau", "--seed", "1"], 1),
        (["--lr", "0.3"], 1),
    ):
        assert len(json.loads(lrpilot("explain", "runs.db", *options, "--json").stdout)) == kept
    for options, message in (
        (["--schedule", "platea"], "unknown schedule 'platea'; did you mean 'plateau'?"),
        (["--task", "digits"], "unknown task 'digits'"),
        (["--seed", "9"], "runs.db has no such trial; its seeds are 0, 1"),
    ):
        check_refused(lrpilot("explain", "runs.db", *options), message)


def test_trials_that_were_stored_without_their_losses_are_not_said_to_be_equal(here, outcome):
    with Store(here / "runs.db") as store:
        for seed in (0, 1):
            trial = Trial(**{**as_dict(TRIAL), "seed": seed})
            store.add(trial, outcome, keep_curves=False)
    assert lrpilot("explain", "runs.db").stdout.count("losses not stored") == 2
    one = lrpilot("explain", "runs.db", "--seed", "1").stdout
    assert "no decision replay: the trial was stored without its losses" in " ".join(one.split())
    assert "equal" not in one


def test_what_cannot_be_explained_is_one_line_and_exit_code_2(here):
    state = scheduler_state()
    save_json(here / "empty.json", {"last_epoch": 3})
    save_json(here / "damaged.json", {"a": {**state, "log": {}}})
    save_json(here / "steps.json", {"a": {**state, "steps": "7"}})
    save_json(here / "lrs.json", {"a": {**state, "base_lrs": []}})
    (here / "text.txt").write_text("hello")
    (here / "cut.pt").write_bytes(b"PK\x03\x04 cut off")
    (here / "cut.pkl").write_bytes(b"\x80\x02cut off")
    torch.save({"scheduler": Plateau()}, here / "object.pt")
    sqlite3.connect(here / "other.db").execute("CREATE TABLE mine (x)").connection.close()
    for arguments, message in (
        (["empty.json"], "there is no state of an lrpilot scheduler in empty.json"),
        (["damaged.json"], "the scheduler's state a: the decision log is damaged"),
        (["steps.json"], "the scheduler's state a is damaged: steps is '7'"),
        (["lrs.json"], "the scheduler's state a is damaged"),
        (["text.txt"], "text.txt is no checkpoint"),
        (["cut.pt"], "cannot read cut.pt: it is damaged"),
        (["cut.pkl"], "cannot read cut.pkl: it is damaged"),
        (["object.pt"], "save scheduler.state_dict() to a file of its own"),
        (["other.db"], "a SQLite file of another program"),
        (["missing.pt"], "cannot read missing.pt"),
        (["."], "is a folder; name a file in it (cut.pkl, cut.pt, "),
        (["empty.json", "--seed", "1"], "empty.json is no store of trials"),
    ):
        check_refused(lrpilot("explain", *arguments), message)


def test_a_checkpoint_that_holds_itself_is_searched_once(here):
    content = {"scheduler": scheduler_state()}
    content["self"] = [content]
    torch.save(content, here / "loop.pt")
    assert lrpilot("explain", "loop.pt").stdout.count("schedule Plateau") == 1


@pytest.fixture
def log(here):
    (here / "log.csv").write_text(
        "step,loss\n" + "".join(f"{n},{x}\n" for n, x in enumerate(LOSSES))
    )
    return "log.csv"


def test_replay_prints_its_label_the_settings_and_the_decisions(log):
    result = lrpilot("replay", log, "--schedule", "plateau", "--set", "patience=1", "--lr", "0.1")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(
        "decision replay: what these settings would have decided on this recorded loss; the loss "
        "itself would have been another had they decided\n"
    )
    assert "patience=1" in result.stdout
    assert "0.1 -> 0.05" in result.stdout
    assert "ignored losses: 1" in result.stdout


def test_replay_compares_several_schedules_in_one_table(log):
    schedules = ["--schedule", "plateau", "--schedule", "linear", "--schedule", "greedy"]
    result = lrpilot("replay", log, *schedules, "--set", "patience=1")
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    assert rows["plateau"] == ["plateau", "0.25", "0.25", "1", "0", "2", "5", "1"]
    assert rows["linear"] == ["linear", "0", "0", "1", "0", "0", "0"]
    assert "greedy" in rows


def test_replay_prints_json_and_writes_a_page(log, here):
    options = ["--schedule", "plateau", "--set", "patience=1", "--json", "--page", "page.html"]
    result = lrpilot("replay", log, *options)
    found = json.loads(result.stdout)
    assert found["label"].startswith("decision replay")
    assert (found["losses"], found["not_finite"], found["base_lr"]) == (7, 1, None)
    assert found["schedules"][0]["down"] == 2
    assert "page: page.html" in result.stderr
    assert "Decision replay" in (here / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.csv"], "cannot read missing.csv"),
        (["log.csv", "--column", "los"], "unknown column 'los'; did you mean 'loss'?"),
        (["log.csv", "--schedule", "gready"], "did you mean 'greedy'?"),
        (["log.csv", "--set", "patiense=3"], "did you mean 'patience'?"),
        (["log.csv", "--set", "patience=often"], "patience must be a whole number"),
        (["log.csv", "--lr", "nan"], "lr must be positive and finite"),
        (["log.csv", "--page", "log.csv"], "which the page is made from; choose another --page"),
        (["log.csv", "--page", "no/page.html"], "choose another --page"),
    ],
)
def test_bad_input_to_replay_is_one_line_and_exit_code_2(log, here, arguments, message):
    check_refused(lrpilot("replay", *arguments), message)
    assert [path.name for path in here.iterdir()] == ["log.csv"]


def as_dict(trial):
    return {name: getattr(trial, name) for name in Trial.__dataclass_fields__}
