"""The store: what goes in comes out, and what is not a store is refused in one line."""

import json
import math
import signal
import sqlite3
import subprocess
import sys
import zlib
from array import array
from dataclasses import replace
from itertools import pairwise

import pytest

from lrpilot.bench import Outcome, Store, StoreError, Trial
from lrpilot.bench.store import CHUNK, unpacked_evaluations

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
        assert store.missing([TRIAL]) == []
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


def test_curves_need_not_be_kept_but_evaluations_are(tmp_path):
    outcome = Outcome(losses=[1.0, 0.5], rates=[0.1, 0.1], evaluations=[(0, 2.0), (2, 1 / 3)])
    without = replace(outcome, losses=[], rates=[])
    with Store(tmp_path / "runs.db") as store:
        store.add(TRIAL, outcome, keep_curves=False)
        assert list(store.outcomes([TRIAL])) == [(TRIAL, without)]
        assert [*store.select("SELECT steps FROM rows")] == [(2,)]
        store.add(TRIAL, replace(outcome, rates=[0.5, 0.25]))
        assert list(store.outcomes([TRIAL], curves=False)) == [(TRIAL, without)]


def test_trials_stored_together_are_found_in_the_order_in_which_they_are_asked_for(tmp_path):
    """Over several chunks, so that none is lost or doubled at a border."""
    trials = [replace(TRIAL, seed=seed) for seed in range(2 * CHUNK + 1)]
    stored = [trial for trial in trials if trial.seed % 3]
    asked = trials[::-1]
    with Store(tmp_path / "runs.db") as store:
        store.add_many((trial, Outcome(losses=[trial.seed])) for trial in stored)
        assert store.trials() == stored
        assert store.missing(asked) == [trial for trial in asked if trial.seed % 3 == 0]
        found = list(store.outcomes(asked))
    assert [trial for trial, _ in found] == stored[::-1]
    assert all(outcome.losses == [trial.seed] for trial, outcome in found)


def test_of_trials_stored_together_all_are_stored_or_none(tmp_path):
    ended = [(TRIAL, Outcome()), (replace(TRIAL, seed=1), Outcome(status="unheard-of"))]
    with Store(tmp_path / "runs.db") as store:
        with pytest.raises(StoreError, match="CHECK constraint"):
            store.add_many(ended)
        assert store.trials() == []
        store.add_many(ended[:1])
        assert store.trials() == [TRIAL]


def test_the_row_says_everything_about_the_trial(tmp_path):
    with Store(tmp_path / "runs.db") as store:
        store.add(TRIAL, Outcome(status="failed", error="Traceback ..."))
    database = sqlite3.connect(tmp_path / "runs.db")
    database.row_factory = sqlite3.Row
    row = dict(database.execute("SELECT * FROM rows").fetchone())
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
        {"perturbation": "burst"},
        {"engine": "batched"},
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


def test_two_open_stores_can_write_one_file(tmp_path):
    with Store(tmp_path / "runs.db") as one, Store(tmp_path / "runs.db") as other:
        one.add(TRIAL, Outcome(validation_loss=1.0))
        other.add(replace(TRIAL, seed=1), Outcome(validation_loss=2.0))
        one.add(replace(TRIAL, seed=2), Outcome(validation_loss=3.0))
        assert len(one.trials()) == len(other.trials()) == 3


VERSION_1 = """
CREATE TABLE trials (
    key TEXT PRIMARY KEY, task TEXT NOT NULL, task_version TEXT NOT NULL, optimizer TEXT NOT NULL,
    schedule TEXT NOT NULL, settings TEXT NOT NULL, lr REAL NOT NULL, seed INTEGER NOT NULL,
    total_steps INTEGER,
    status TEXT NOT NULL CHECK (status IN ('done', 'diverged', 'failed')),
    validation_loss REAL, test_loss REAL, steps INTEGER NOT NULL, seconds REAL NOT NULL, error TEXT,
    versions TEXT NOT NULL, finished TEXT NOT NULL
);
CREATE TABLE curves (
    key TEXT PRIMARY KEY REFERENCES trials (key) ON DELETE CASCADE,
    losses BLOB NOT NULL, rates BLOB NOT NULL, evaluations TEXT NOT NULL
);
CREATE INDEX trials_by_cell ON trials (task, optimizer, schedule, lr);
PRAGMA application_id = 1819439153;
PRAGMA user_version = 1;
"""


def store_of_version_1(path, evaluations=((0, 2.0), (3, None))):
    """Trials as that version wrote them, the last one first."""
    names = ("digits-mlp", "1", "adamw", "greedy")
    ended = ("diverged", None, 0.5, 3, 1.5, None)
    made = ('{"torch": "2.0"}', "2026-01-01T00:00:00+00:00")
    rows = [
        (f"{seed:032}", *names, f"Greedy({seed})", 0.01, seed, None, *ended, *made)
        for seed in (2, 1, 0)
    ]
    database = sqlite3.connect(path)
    database.executescript(VERSION_1)
    database.executemany(f"INSERT INTO trials VALUES ({', '.join('?' * 17)})", rows)
    for row in rows:
        losses = zlib.compress(array("f", [1.0, row[7], math.inf]).tobytes())
        curves = (row[0], losses, losses, json.dumps(evaluations))
        database.execute("INSERT INTO curves VALUES (?, ?, ?, ?)", curves)
    database.commit()
    database.close()


def test_a_store_of_version_1_keeps_all_it_has_and_takes_new_trials(tmp_path):
    store_of_version_1(tmp_path / "runs.db")
    for _ in range(2):  # the second time it is one of today's
        with Store(tmp_path / "runs.db") as store:
            rows = [*store.select("SELECT * FROM rows LEFT JOIN curves ON trial = id ORDER BY id")]
            assert store.outdated() == 3
            assert store.trials() == []
            assert [*store.select("PRAGMA foreign_key_check")] == []
    assert [row[1] for row in rows] == [f"{seed:032}" for seed in (2, 1, 0)]
    assert rows[0][2:11] == (1, "digits-mlp", "1", "adamw", "greedy", "Greedy(2)", 0.01, 2, None)
    assert rows[0][11:19] == ("", "single", "diverged", None, 0.5, 3, 1.5, None)
    assert rows[0][19:22] == (0, '{"torch": "2.0"}', "2026-01-01T00:00:00+00:00")
    start, (step, loss) = unpacked_evaluations(rows[0][22])
    assert (start, step, math.isnan(loss)) == ((0, 2.0), 3, True)
    assert [[*array("f", zlib.decompress(row[24]))][1] for row in rows] == [2, 1, 0]
    with Store(tmp_path / "runs.db") as store:
        trial = replace(TRIAL, seed=2, settings="Greedy(2)")
        assert store.missing([trial]) == [trial]
        store.add(trial, Outcome())
        assert (store.trials(), store.outdated()) == ([trial], 3)
    database = sqlite3.connect(tmp_path / "runs.db")
    database.execute("UPDATE trials SET results = 99 WHERE seed = 0")  # of a newer lrpilot
    database.commit()
    database.close()
    with Store(tmp_path / "runs.db") as store:
        assert (store.trials(), store.outdated()) == ([trial], 3)


def test_a_store_that_cannot_be_brought_up_to_date_is_left_as_it_was(tmp_path):
    store_of_version_1(tmp_path / "runs.db", evaluations="damaged")
    with pytest.raises(StoreError, match="user-defined function"):
        Store(tmp_path / "runs.db")
    database = sqlite3.connect(tmp_path / "runs.db")
    assert database.execute("PRAGMA user_version").fetchone() == (1,)
    names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert names >= {"trials", "curves", "trials_by_cell"}
    assert not names & {"texts", "rows", "old_trials"}
    assert database.execute("SELECT count(*) FROM trials JOIN curves USING (key)").fetchone() == (
        3,
    )
    database.close()


def test_a_full_disk_is_said_and_what_was_stored_stays_readable(tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    trials = [replace(TRIAL, seed=seed) for seed in range(200)]
    with Store(path) as store:
        ((pages,),) = store.select("PRAGMA page_count")
    connect = sqlite3.connect

    def connect_to_a_small_disk(database, **options):
        connection = connect(database, **options)
        connection.execute(f"PRAGMA max_page_count = {pages + 10}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", connect_to_a_small_disk)
    with Store(path) as store:

        def add_all():
            for trial in trials:
                store.add(trial, Outcome(losses=[trial.seed / 7] * 500))

        with pytest.raises(StoreError, match=r"runs\.db.*disk is full; trials .* safe: free some"):
            add_all()
        with pytest.raises(StoreError, match="disk is full"):
            store.add_many((trial, Outcome()) for trial in trials)
        stored = store.trials()
        assert len(stored) > 5
        assert len([*store.outcomes(trials)]) == len(stored)
    with Store(path) as store:
        assert store.trials() == stored == trials[: len(stored)]
        assert [*store.select("PRAGMA integrity_check")] == [("ok",)]
    monkeypatch.undo()
    with Store(path) as store:
        assert store.missing(trials) == trials[len(stored) :]
        store.add(trials[-1], Outcome())


def test_a_write_that_the_system_refuses_is_said_and_what_was_stored_stays_readable(tmp_path):
    """As over a quota; here, of the size of a file."""
    resource = pytest.importorskip("resource")
    trials = [replace(TRIAL, seed=seed) for seed in range(200)]
    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)

    def add_all(store):
        for trial in trials:
            store.add(trial, Outcome(losses=[trial.seed / 7] * 500))

    with Store(tmp_path / "runs.db") as store:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, most))
        try:
            with pytest.raises(
                StoreError, match=r"runs\.db.*I/O error; the disk may be full or over"
            ):
                add_all(store)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (least, most))
        stored = store.trials()
        assert 5 < len(stored) < len(trials)
        add_all(store)
        assert store.missing(trials) == []
        assert [*store.select("PRAGMA integrity_check")] == [("ok",)]


WRITER = """
import sys
from dataclasses import replace
from pathlib import Path
from lrpilot.bench import Outcome, Store, Trial

trial = Trial(task=sys.argv[2], task_version="1", optimizer="", schedule="greedy",
              settings="Greedy()", lr=0.1, seed=0, total_steps=None)
print("ready", flush=True)
sys.stdin.readline()
with Store(Path(sys.argv[1])) as store:
    for seed in range(int(sys.argv[3])):
        store.add(replace(trial, seed=seed), Outcome(losses=[seed / 3] * 1000))
        print(seed, flush=True)
"""


def test_two_commands_write_one_store_and_one_killed_in_the_middle_harms_nothing(tmp_path):
    path = tmp_path / "runs.db"
    doomed, other = (
        subprocess.Popen(
            [sys.executable, "-c", WRITER, path, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for arguments in (("doomed", "1000000"), ("other", "500"))
    )
    with doomed, other:
        for process in (doomed, other):
            assert process.stdout.readline() == "ready\n"
        for process in (doomed, other):
            process.stdin.write("go\n")
            process.stdin.flush()
        told = [int(doomed.stdout.readline()) for _ in range(300)]
        doomed.send_signal(signal.SIGKILL)
        assert [int(line) for line in other.stdout] == [*range(500)]
        assert other.wait() == 0
    with Store(path) as store:
        trials = store.trials()
        assert [trial.seed for trial in trials if trial.task == "other"] == [*range(500)]
        seeds = [trial.seed for trial in trials if trial.task == "doomed"]
        assert seeds[: len(told)] == told
        assert all(after == before + 1 for before, after in pairwise(seeds))
        assert len([*store.outcomes(trials)]) == len(trials)
        assert [*store.select("PRAGMA integrity_check")] == [("ok",)]
        assert [*store.select("PRAGMA journal_mode")] == [("wal",)]
        store.add(TRIAL, Outcome())


def test_versions_are_those_of_the_trials_that_are_asked_for(tmp_path, monkeypatch):
    one, other = replace(TRIAL, seed=7), replace(TRIAL, seed=8)
    with Store(tmp_path / "runs.db") as store:
        for trial, version in ((one, "1"), (other, "2")):
            monkeypatch.setattr("lrpilot.bench.store.versions", lambda text=version: text)
            store.add(trial, Outcome())
        assert store.versions([one]) == ["1"]
        assert store.versions([one, other]) == ["1", "2"]
