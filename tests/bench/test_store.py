"""The store: what goes in comes out, and what is not a store is refused in one line."""

import math
import sqlite3
from dataclasses import replace

import pytest

from lrpilot.bench import Outcome, Store, StoreError, Trial

TRIAL = Trial(
    task="digits-mlp",
    task_version="1",
    optimizer="adamw",
    schedule="greedy",
    settings="Greedy()",
    lr=0.01,
    seed=0,
    total_steps=100,
)


def test_what_goes_in_comes_out(tmp_path):
    outcome = Outcome(
        validation_loss=0.25,
        test_loss=0.5,
        losses=[1.0, 0.5],
        rates=[0.125, 0.0625],
        evaluations=[(0, 2.0), (2, math.nan)],
        seconds=1.5,
    )
    with Store(tmp_path / "runs.db") as store:
        store.add(TRIAL, outcome)
    with Store(tmp_path / "runs.db") as store:
        assert store.keys() == {TRIAL.key}
        ((trial, found),) = store.outcomes([replace(TRIAL, seed=1), TRIAL])
    assert trial == TRIAL
    assert math.isnan(found.evaluations[1][1])
    found.evaluations[1] = outcome.evaluations[1]
    assert found == outcome


def test_adding_a_trial_again_replaces_it_and_its_curves(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        store.add(TRIAL, Outcome(validation_loss=1.0, losses=[1.0]))
        store.add(TRIAL, Outcome(validation_loss=2.0, losses=[2.0]))
        ((_, found),) = store.outcomes([TRIAL])
    assert (found.validation_loss, found.losses) == (2.0, [2.0])


def test_the_row_says_everything_about_the_trial(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        store.add(TRIAL, Outcome(status="failed", error="Traceback ..."))
    database = sqlite3.connect(tmp_path / "runs.db")
    database.row_factory = sqlite3.Row
    row = dict(database.execute("SELECT * FROM trials").fetchone())
    database.close()
    expected = {
        "task": "digits-mlp",
        "optimizer": "adamw",
        "schedule": "greedy",
        "settings": "Greedy()",
        "lr": 0.01,
        "seed": 0,
        "total_steps": 100,
        "status": "failed",
        "error": "Traceback ...",
    }
    assert expected.items() <= row.items()
    assert '"torch"' in row["versions"]


@pytest.mark.parametrize(
    "change",
    [
        {"task": "digits-cnn"},
        {"task_version": "2"},
        {"optimizer": "sgd"},
        {"schedule": "cosine"},
        {"settings": "Greedy(factor=0.5)"},
        {"lr": 0.02},
        {"seed": 1},
        {"total_steps": 200},
    ],
)
def test_whatever_alters_the_numbers_alters_the_key(change):
    assert replace(TRIAL, **change).key != TRIAL.key


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "runs.db"
    with Store(path):
        pass
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match=r"newer lrpilot \(store version 99.*upgrade lrpilot"):
        Store(path)


def test_a_file_that_is_not_sqlite_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to have a header to look at" * 10)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt.*not a database.*--store"):
        Store(path)
    assert path.read_bytes() == before


def test_a_sqlite_file_of_another_program_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "other.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE trials (mine TEXT)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        Store(path)
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(StoreError, match=r"unable to open database file.*--store"):
        Store(tmp_path / "no" / "such" / "folder" / "runs.db")


def test_a_read_only_store_is_refused_before_anything_runs(tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    with Store(path):
        pass
    connect = sqlite3.connect
    # File permissions do not bind the superuser, who may run this; SQLite's own mode does.
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda database, **options: connect(f"file:{database}?mode=ro", uri=True, **options),
    )
    with pytest.raises(StoreError, match="readonly database"):
        Store(path)


def test_two_processes_can_write_one_store(tmp_path):
    with Store(tmp_path / "runs.db") as one, Store(tmp_path / "runs.db") as other:
        one.add(TRIAL, Outcome(validation_loss=1.0))
        other.add(replace(TRIAL, seed=1), Outcome(validation_loss=2.0))
        one.add(replace(TRIAL, seed=2), Outcome(validation_loss=3.0))
        assert len(one.keys()) == len(other.keys()) == 3
