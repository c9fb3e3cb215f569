"""Trials in SQLite: every one a row, with its curves; a million of them, from several commands."""

from __future__ import annotations

import json
import math
import sqlite3
import zlib
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

from lrpilot.bench.trial import RESULTS_VERSION, Outcome, Status, Trial
from lrpilot.bench.versions import versions

SCHEMA_VERSION = 2
APPLICATION_ID = 0x6C727031  # "lrp1"

# How long a command waits for another one's write.
PATIENCE_SECONDS = 30.0

# Trials that one query looks up, and whose packed curves are in memory at once.
CHUNK = 500

# Settings and versions, long and few, stand in texts. The row of a trial has what statistics need,
# the index what chooses trials; losses and rates, which few ask for, are out of their way.
SCHEMA = """
CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE TABLE trials (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    results INTEGER NOT NULL,  -- the RESULTS_VERSION that its numbers are of
    task TEXT NOT NULL,
    task_version TEXT NOT NULL,
    optimizer TEXT NOT NULL,
    schedule TEXT NOT NULL,
    settings INTEGER NOT NULL REFERENCES texts (id),
    lr REAL NOT NULL,
    seed INTEGER NOT NULL,
    total_steps INTEGER,
    perturbation TEXT NOT NULL,
    engine TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('done', 'diverged', 'failed')),
    validation_loss REAL,
    test_loss REAL,
    steps INTEGER NOT NULL,
    seconds REAL NOT NULL,
    error TEXT,
    extra_forwards INTEGER NOT NULL,
    versions INTEGER NOT NULL REFERENCES texts (id),
    finished TEXT NOT NULL,
    evaluations BLOB NOT NULL
);
CREATE TABLE curves (
    trial INTEGER PRIMARY KEY REFERENCES trials (id) ON DELETE CASCADE,
    losses BLOB NOT NULL,
    rates BLOB NOT NULL
);
CREATE INDEX trials_by_cell ON trials
    (results, task, optimizer, schedule, perturbation, engine, lr, seed, status);
CREATE VIEW rows AS SELECT
    id, key, results, task, task_version, optimizer, schedule,
    (SELECT text FROM texts WHERE texts.id = trials.settings) AS settings,
    lr, seed, total_steps, perturbation, engine, status, validation_loss, test_loss, steps,
    seconds, error, extra_forwards,
    (SELECT text FROM texts WHERE texts.id = trials.versions) AS versions, finished, evaluations
    FROM trials
"""

# Version 1 knew neither perturbations, nor engines, nor extra forward passes, and all its trials
# are of RESULTS_VERSION 1.
FROM_VERSION_1 = f"""
DROP INDEX trials_by_cell;
ALTER TABLE trials RENAME TO old_trials;
ALTER TABLE curves RENAME TO old_curves;
{SCHEMA};
INSERT INTO texts (text) SELECT settings FROM old_trials UNION SELECT versions FROM old_trials;
INSERT INTO trials SELECT
    NULL, key, 1, task, task_version, optimizer, schedule,
    (SELECT id FROM texts WHERE text = settings), lr, seed, total_steps, '', 'single', status,
    validation_loss, test_loss, steps, seconds, error, 0,
    (SELECT id FROM texts WHERE text = versions), finished, packed_evaluations(evaluations)
    FROM old_trials JOIN old_curves USING (key) ORDER BY old_trials.rowid;
INSERT INTO curves SELECT id, losses, rates FROM old_curves JOIN trials USING (key);
DROP TABLE old_curves;
DROP TABLE old_trials
"""

INSERT_TRIAL = """
INSERT INTO trials VALUES (
    NULL, :key, :results, :task, :task_version, :optimizer, :schedule,
    (SELECT id FROM texts WHERE text = :settings), :lr, :seed, :total_steps, :perturbation, :engine,
    :status, :validation_loss, :test_loss, :steps, :seconds, :error, :extra_forwards,
    (SELECT id FROM texts WHERE text = :versions), :finished, :evaluations
)
"""


CURES = {
    "SQLITE_CANTOPEN": "make its folder if there is none, or choose another --store",
    "SQLITE_FULL": "trials stored before are safe: free some space and give the same command "
    "again, or choose another --store",
    "SQLITE_IOERR": "the disk may be full or over its quota: free some space and give the same "
    "command again, or choose another --store",
    "SQLITE_BUSY": f"another command has held it for {PATIENCE_SECONDS:g} seconds: wait until that "
    "ends, or choose another --store",
}

IN_LIST = "IN (SELECT value FROM json_each(?))"


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class Store:
    """A SQLite file of trials, created if it is not there.

    Several commands may use it at once. Each `add` is committed as a whole, so that an
    interruption loses no trial that has ended. Use as a context manager.

    A file of an earlier store version is brought up to date in place. Trials whose numbers are of
    another RESULTS_VERSION are kept in it and counted by `outdated`; nothing else here sees them.

    Raises StoreError, here and in every method, if the file is not such a store, is of a newer
    version, is held by another command, or cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._told():
            self._database = sqlite3.connect(path, timeout=PATIENCE_SECONDS, isolation_level=None)
        try:
            with self._told():
                self._open()
        except StoreError:
            self._database.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._database.close()

    def add(self, trial: Trial, outcome: Outcome, *, keep_curves: bool = True) -> None:
        """Write a trial that has ended, in place of an earlier one with the same key.

        keep_curves: whether to keep losses and rates of every step; evaluations are always kept.
        """
        self.add_many([(trial, outcome)], keep_curves=keep_curves)

    def add_many(self, ended: Iterable[tuple[Trial, Outcome]], *, keep_curves: bool = True) -> None:
        """`add` for all of ``ended`` in one transaction: all are stored, or none.

        ``ended`` is taken in whole before the store is locked, so it may train as it goes; hand
        over some thousands at a time.
        """
        packed = [
            (_row(trial, outcome), _packed(outcome.losses), _packed(outcome.rates))
            for trial, outcome in ended
        ]
        with self._told(), self._transaction():
            execute = self._database.execute
            for row, losses, rates in packed:
                execute("INSERT OR IGNORE INTO texts (text) VALUES (:settings), (:versions)", row)
                execute("DELETE FROM trials WHERE key = :key", row)
                trial_id = execute(INSERT_TRIAL, row).lastrowid
                if keep_curves:
                    execute("INSERT INTO curves VALUES (?, ?, ?)", (trial_id, losses, rates))

    def missing(self, trials: Iterable[Trial]) -> list[Trial]:
        """Those of ``trials`` that are not in the store, in their order."""
        found: list[Trial] = []
        query = f"SELECT key FROM trials WHERE key {IN_LIST}"
        with self._told():
            for by_key in _chunks(trials):
                known = {key for (key,) in self._database.execute(query, (_list(by_key),))}
                found += [trial for key, trial in by_key if key not in known]
        return found

    def outcomes(
        self, trials: Iterable[Trial], *, curves: bool = True
    ) -> Iterator[tuple[Trial, Outcome]]:
        """Those of ``trials`` that are in the store, in their order.

        curves: whether to read losses and rates, which are empty otherwise, as they are for a
            trial that was stored without.
        """
        query = (
            "SELECT key, status, validation_loss, test_loss, seconds, error, extra_forwards, "
            f"evaluations{', losses, rates' * curves} FROM trials "
            f"{'LEFT JOIN curves ON trial = id ' * curves}WHERE key {IN_LIST}"
        )
        with self._told():
            for by_key in _chunks(trials):
                rows = self._database.execute(query, (_list(by_key),)).fetchall()
                found = {key: row for key, *row in rows}
                for key, trial in by_key:
                    if key in found:
                        yield trial, _outcome(*found[key])

    def select(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        """Rows of a SELECT from `rows`, the view of all trials, read as they are asked for.

        Take them all, or close the iterator, before you add to the store.
        """
        with self._told():
            yield from self._database.execute(query, values)

    def execute(self, statement: str, *values: object) -> None:
        """Carry out and commit a statement on a table beside those of the trials."""
        with self._told(), self._transaction():
            self._database.execute(statement, values)

    def trials(self) -> list[Trial]:
        """All trials of today's RESULTS_VERSION, in the order in which they were written."""
        names = [field.name for field in fields(Trial)]
        query = f"SELECT {', '.join(names)} FROM rows WHERE results = ? ORDER BY id"
        rows = self.select(query, RESULTS_VERSION)
        return [Trial(**dict(zip(names, row, strict=True))) for row in rows]

    def versions(self, trials: Iterable[Trial]) -> list[str]:
        """With what ``trials`` were run: each set of versions once, in order."""
        query = f"SELECT DISTINCT versions FROM rows WHERE key {IN_LIST}"
        lots = [self.select(query, _list(by_key)) for by_key in _chunks(trials)]
        return sorted({text for lot in lots for (text,) in lot})

    def outdated(self) -> int:
        """How many trials are of another RESULTS_VERSION, so that they have to be run again."""
        query = "SELECT count(*) FROM rows WHERE results {} ?"  # "<>" would not use the index
        counts = [list(self.select(query.format(sign), RESULTS_VERSION)) for sign in "<>"]
        return sum(count for ((count,),) in counts)

    def _open(self) -> None:
        database = self._database
        database.execute("PRAGMA foreign_keys = ON")
        self._version()
        # Readers do not block the writer. Of two commands that make a store at once, one may be
        # refused at once: then the other switches. Any other trouble returns below.
        with suppress(sqlite3.OperationalError):
            database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.create_function("packed_evaluations", 1, _evaluations_of_version_1)
        with self._transaction():
            found = self._version()
            if found == SCHEMA_VERSION:
                # A read-only file is noticed before anything is trained. No page is written, so
                # that a store on a full disk can be read.
                database.execute("DELETE FROM trials WHERE false")
                return
            for statement in (FROM_VERSION_1 if found else SCHEMA).split(";"):
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _version(self) -> int:
        """The store version of the file, 0 if it is empty."""
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (found,) = self._database.execute("PRAGMA user_version").fetchone()
        (application,) = self._database.execute("PRAGMA application_id").fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(
                f"{self.path} is a SQLite file of another program; choose another --store"
            )
        if found > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer lrpilot (store version {found}, this one "
                f"reads {SCHEMA_VERSION}); upgrade lrpilot or choose another --store"
            )
        return found if tables else 0

    @contextmanager
    def _transaction(self) -> Generator[None, None, None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise

    @contextmanager
    def _told(self) -> Generator[None, None, None]:
        """What SQLite cannot do is said in one line, with a cure."""
        try:
            yield
        except sqlite3.Error as error:
            kind = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
            cure = CURES.get(kind, "choose a writable SQLite file with --store")
            raise StoreError(f"cannot use {self.path} as a store: {error}; {cure}") from None


def _row(trial: Trial, outcome: Outcome) -> dict[str, object]:
    """A trial's values by the names of `INSERT_TRIAL`."""
    return {
        **{field.name: getattr(trial, field.name) for field in fields(Trial)},
        "key": trial.key,
        "results": RESULTS_VERSION,
        "status": outcome.status,
        "validation_loss": outcome.validation_loss,
        "test_loss": outcome.test_loss,
        "steps": len(outcome.losses),
        "seconds": outcome.seconds,
        "error": outcome.error,
        "extra_forwards": outcome.extra_forwards,
        "versions": versions(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "evaluations": _packed_evaluations(outcome.evaluations),
    }


def _outcome(
    status: Status,
    validation_loss: float | None,
    test_loss: float | None,
    seconds: float,
    error: str | None,
    extra_forwards: int,
    evaluations: bytes,
    losses: bytes | None = None,
    rates: bytes | None = None,
) -> Outcome:
    """An outcome from its row."""
    return Outcome(
        status=status,
        validation_loss=validation_loss,
        test_loss=test_loss,
        losses=unpacked(losses),
        rates=unpacked(rates),
        evaluations=unpacked_evaluations(evaluations),
        seconds=seconds,
        error=error,
        extra_forwards=extra_forwards,
    )


def _chunks(trials: Iterable[Trial]) -> Iterator[list[tuple[str, Trial]]]:
    """Trials after their keys, `CHUNK` at a time."""
    keyed = ((trial.key, trial) for trial in trials)
    while chunk := list(islice(keyed, CHUNK)):
        yield chunk


def _list(keyed: list[tuple[str, Trial]]) -> str:
    """The keys as `IN_LIST` takes them."""
    return json.dumps([key for key, _ in keyed])


def _packed(values: list[float]) -> bytes:
    """Compressed float32: enough for a curve, a quarter of the size."""
    return zlib.compress(array("f", values).tobytes())


def unpacked(data: bytes | None) -> list[float]:
    """A curve from the columns ``losses`` and ``rates``; empty if it was not kept."""
    values = array("f")
    values.frombytes(zlib.decompress(data) if data else b"")
    return values.tolist()


def _packed_evaluations(evaluations: Sequence[tuple[int, float]]) -> bytes:
    """The steps as int32, then the losses as float64, for claims compare them with final losses."""
    steps, losses = zip(*evaluations, strict=True) if evaluations else ((), ())
    return array("i", steps).tobytes() + array("d", losses).tobytes()


def unpacked_evaluations(data: bytes) -> list[tuple[int, float]]:
    """(steps taken, validation loss), in order, from the column `evaluations`."""
    steps, losses = array("i"), array("d")
    ends = len(data) * steps.itemsize // (steps.itemsize + losses.itemsize)
    steps.frombytes(data[:ends])
    losses.frombytes(data[ends:])
    return list(zip(steps, losses, strict=True))


def _evaluations_of_version_1(text: str) -> bytes:
    """From JSON, where null was a loss that is not finite."""
    return _packed_evaluations(
        [(step, math.nan if loss is None else loss) for step, loss in json.loads(text)]
    )
