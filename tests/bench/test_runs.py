"""Many trials at once: what is chosen, counted and listed, and exports that lose nothing."""

import csv
import json
import math
import sqlite3
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from lrpilot.bench import Outcome, Store, Trial
from lrpilot.bench.runs import (
    CURVES,
    EVERY,
    EXPORTED,
    LISTED,
    Where,
    as_json,
    as_text,
    check_export,
    check_store,
    counts,
    export,
    finals,
    find_runs,
)

TRIAL = Trial(
    task="digits-mlp",
    task_version="1",
    optimizer="adamw",
    schedule="greedy",
    settings="Greedy(factor=0.5)",
    lr=0.01,
    seed=0,
    total_steps=100,
)
OUTCOME = Outcome(
    validation_loss=0.25,
    test_loss=1 / 3,
    losses=[1.0, 0.5],
    rates=[0.125, 0.0625],
    evaluations=[(0, 2.0), (2, 1 / 7)],
    seconds=1.5,
    extra_forwards=7,
)
LOST = Outcome(status="diverged", losses=[1.0, math.nan], rates=[0.5, 0.5])
FAILED = Outcome(status="failed", error="ValueError: [bold]\n\nTraceback ...")


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        yield store


@pytest.fixture
def mixed(store):
    """Stored against the order of cells, rates and seeds."""
    store.add(replace(TRIAL, task="nmf-digits", perturbation="burst", engine="batched"), OUTCOME)
    store.add(replace(TRIAL, optimizer="momentum", lr=0.1), FAILED)
    for lr in (0.03, 0.01):
        for seed in (1, 0):
            store.add(replace(TRIAL, lr=lr, seed=seed), LOST if seed else OUTCOME)
    return store


def outdate(store):
    """As if all in the store were of another version of lrpilot."""
    database = sqlite3.connect(store.path)
    database.execute("UPDATE trials SET results = 1")
    database.commit()
    database.close()


def text(runs):
    console = Console(width=200)
    with console.capture() as capture:
        for item in as_text(runs):
            console.print(item, markup=False, highlight=False)
    return capture.get()


def test_a_light_row_has_all_of_a_trial_but_its_curves(store):
    store.add(TRIAL, OUTCOME)
    (final,) = finals(store)
    assert final.evaluations == OUTCOME.evaluations
    for name in Trial.__dataclass_fields__:
        assert getattr(final, name) == getattr(TRIAL, name)
    for name in ("status", "validation_loss", "test_loss", "seconds", "error", "extra_forwards"):
        assert getattr(final, name) == getattr(OUTCOME, name)
    assert final.steps == 2
    assert final.trial == TRIAL


def test_light_rows_come_cell_by_cell_with_rates_and_seeds_rising(mixed):
    found = [(final.task, final.optimizer, final.lr, final.seed) for final in finals(mixed)]
    assert len(found) == 6
    assert found == sorted(found)
    assert [final.lr for final in finals(mixed, limit=3)] == [0.01, 0.01, 0.03]


@pytest.mark.parametrize(
    ("where", "count"),
    [
        (EVERY, 6),
        (Where(task="nmf-digits"), 1),
        (Where(optimizer="momentum"), 1),
        (Where(schedule="greedy"), 6),
        (Where(schedule="cosine"), 0),
        (Where(perturbation=""), 5),
        (Where(engine="batched"), 1),
        (Where(lr=0.03), 2),
        (Where(seed=0), 4),
        (Where(status="diverged"), 2),
        (Where(status="failed", optimizer="momentum", lr=0.1), 1),
        (Where(status="failed", optimizer="adamw"), 0),
    ],
)
def test_trials_can_be_chosen(mixed, where, count):
    assert len(list(finals(mixed, where))) == count
    assert sum(cell.trials for cell in counts(mixed, where)) == count


def test_a_cell_says_how_its_trials_ended(mixed):
    cell = counts(mixed)[0]
    assert cell[:5] == ("digits-mlp", "adamw", "greedy", "", "single")
    assert cell[5:] == (4, 2, 2, 0, 2, 2)
    assert [cell.failed for cell in counts(mixed)] == [0, 1, 0]


def test_trials_of_another_version_are_counted_but_never_read(mixed):
    outdate(mixed)
    mixed.add(TRIAL, OUTCOME)  # its key is in the store, and is today's again
    assert len(list(finals(mixed))) == 1
    found = find_runs(mixed)
    assert (found.trials, found.outdated) == (1, 5)
    assert "besides, the store has 5 trials of another version" in text(found)
    assert "besides" not in text(replace(found, outdated=0))


def test_few_trials_are_listed_and_many_are_counted(store):
    trials = [(replace(TRIAL, seed=seed), OUTCOME) for seed in range(LISTED + 1)]
    store.add_many(trials[:-1])
    assert len(find_runs(store).finals) == LISTED
    store.add_many(trials[-1:])
    found = find_runs(store)
    assert found.finals is None
    assert f"{LISTED + 1} trials, counted; --limit lists them" in text(found)
    assert as_json(found)["trials"] is None
    found = find_runs(store, limit=2)
    assert [final.seed for final in found.finals] == [0, 1]
    assert f"the first 2 of {LISTED + 1} trials" in text(found)
    assert as_json(found)["count"] == LISTED + 1


def test_a_list_shows_what_tells_trials_apart_and_why_they_failed(mixed):
    shown = text(find_runs(mixed))
    assert all(column in shown for column in ("perturbation", "engine", "burst", "error"))
    assert "ValueError: [bold]" in shown
    assert "Traceback" not in shown
    shown = text(find_runs(mixed, Where(optimizer="adamw", perturbation="")))
    assert not any(column in shown for column in ("perturbation", "engine", "error"))


def test_json_is_strict(store):
    store.add(TRIAL, replace(OUTCOME, test_loss=math.inf))
    found = json.loads(json.dumps(as_json(find_runs(store)), allow_nan=False))
    assert found["trials"][0]["test_loss"] is None
    assert found["trials"][0]["validation_loss"] == 0.25
    assert found["cells"][0]["trials"] == 1


def test_a_name_that_is_not_there_is_named_with_the_nearest(mixed):
    with pytest.raises(ValueError, match="unknown schedule 'gredy'; did you mean 'greedy'"):
        find_runs(mixed, Where(schedule="gredy"))
    with pytest.raises(ValueError, match=r"unknown status 'lost'.*known: done, diverged, failed"):
        find_runs(mixed, Where(status="lost"))
    assert "has no such trial" in text(find_runs(mixed, Where(seed=99)))
    assert "has no such trial" in text(find_runs(mixed, Where(optimizer="momentum", status="done")))


def test_an_empty_store_has_no_trials(store):
    assert "has no such trial" in text(find_runs(store, Where(task="digits-mlp")))


def test_a_store_that_is_not_there_is_not_made(tmp_path):
    with pytest.raises(ValueError, match=r"there is no store .*none\.db; lrpilot compare"):
        check_store(tmp_path / "none.db")


@pytest.mark.parametrize("curves", [False, True])
def test_an_export_to_csv_has_every_value_exactly(mixed, tmp_path, curves):
    path = tmp_path / "runs.csv"
    assert export(mixed, Where(optimizer="adamw"), path, curves=curves) == 5
    with path.open(newline="") as file:
        done, lost, *_ = csv.DictReader(file)
    assert tuple(done) == EXPORTED + CURVES * curves
    assert (float(done["test_loss"]), done["settings"]) == (1 / 3, TRIAL.settings)
    assert (lost["status"], lost["validation_loss"], lost["seed"]) == ("diverged", "", "1")
    assert "torch" in json.loads(done["versions"])
    if curves:
        assert json.loads(done["evaluation_losses"]) == [2.0, 1 / 7]
        assert json.loads(done["evaluation_steps"]) == [0, 2]
        assert json.loads(done["rates"]) == OUTCOME.rates
        assert json.loads(lost["losses"]) == [1.0, None]


@pytest.mark.parametrize("curves", [False, True])
def test_an_export_to_parquet_has_every_value_exactly(mixed, tmp_path, curves):
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "runs.parquet"
    assert export(mixed, EVERY, path, curves=curves) == 6
    table = parquet.read_table(path)
    assert tuple(table.column_names) == EXPORTED + CURVES * curves
    done, lost, *_ = table.to_pylist()
    assert (done["test_loss"], done["total_steps"], done["error"]) == (1 / 3, 100, None)
    assert lost["validation_loss"] is None
    if curves:
        assert done["evaluation_losses"] == [2.0, 1 / 7]
        assert done["losses"] == OUTCOME.losses
        assert math.isnan(lost["losses"][1])
        assert lost["evaluation_steps"] == []


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_an_export_replaces_exports_only(mixed, tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"runs{suffix}"
    export(mixed, EVERY, path, curves=True)
    check_export(path, mixed.path)
    export(mixed, Where(seed=1), path)
    path.write_text("task,mine\n")
    with pytest.raises(ValueError, match="is not an export of lrpilot runs, so it would be lost"):
        check_export(path, mixed.path)


def test_a_table_of_somebody_else_is_no_export(store, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    path = tmp_path / "runs.parquet"
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table({"task": ["a"]}), path)
    with pytest.raises(ValueError, match="is not an export"):
        check_export(path, store.path)


def test_an_export_that_fails_leaves_the_last_one_alone(mixed, tmp_path):
    path = tmp_path / "runs.csv"
    export(mixed, EVERY, path)
    before = path.read_bytes()
    database = sqlite3.connect(mixed.path)
    database.execute("UPDATE curves SET losses = 'damaged' WHERE trial = 1")
    database.commit()
    database.close()
    with pytest.raises(Exception, match="bytes-like"):
        export(mixed, EVERY, path, curves=True)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} <= {
        *("runs.csv", "runs.db", "runs.db-wal", "runs.db-shm")
    }


def test_a_place_where_no_export_can_go_is_refused(store, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    for name, why in (
        ("runs.txt", r"has to end in \.csv or \.parquet"),
        ("folder.csv", "it is a folder"),
        ("none/runs.csv", "is not a writable folder"),
    ):
        with pytest.raises(ValueError, match=f"cannot export to .*{why}; choose another --export"):
            check_export(tmp_path / name, store.path)
    (tmp_path / "store.csv").write_text("")
    with pytest.raises(ValueError, match="which is exported"):
        check_export(tmp_path / "store.csv", tmp_path / "store.csv")


def test_parquet_without_its_package_says_how_to_install_it(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"not installed \(pip install pyarrow\)"):
        check_export(tmp_path / "runs.parquet", store.path)
