"""Trials in SQLite: every one a row, with its curves; written by one process."""

from __future__ import annotations

import json
import math
import platform
import sqlite3
import zlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import cast

from lrpilot.bench.trial import Outcome, Status, Trial

SCHEMA_VERSION = 1
APPLICATION_ID = 0x6C727031  # "lrp1"

SCHEMA = """
CREATE TABLE trials (
    key TEXT PRIMARY KEY,
    task TEXT NOT NULL,
    task_version TEXT NOT NULL,
    optimizer TEXT NOT NULL,
    schedule TEXT NOT NULL,
    settings TEXT NOT NULL,
    lr REAL NOT NULL,
    seed INTEGER NOT NULL,
    total_steps INTEGER,
    status TEXT NOT NULL CHECK (status IN ('done', 'diverged', 'failed')),
    validation_loss REAL,
    test_loss REAL,
    steps INTEGER NOT NULL,
    seconds REAL NOT NULL,
    error TEXT,
    versions TEXT NOT NULL,
    finished TEXT NOT NULL
);
CREATE TABLE curves (
    key TEXT PRIMARY KEY REFERENCES trials (key) ON DELETE CASCADE,
    losses BLOB NOT NULL,
    rates BLOB NOT NULL,
    evaluations TEXT NOT NULL
);
CREATE INDEX trials_by_cell ON trials (task, optimizer, schedule, lr);
"""


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class Store:
    """A SQLite file of trials, created if it is not there.

    Each trial is committed on its own, so that an interruption loses none that has ended. Use as a
    context manager. Raises StoreError if the file is not such a store, is of a newer version, or
    cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None)
        except sqlite3.Error as error:
            raise StoreError(_unusable(path, error)) from None
        try:
            self._open()
        except sqlite3.Error as error:
            self._database.close()
            raise StoreError(_unusable(path, error)) from None
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

    def add(self, trial: Trial, outcome: Outcome) -> None:
        """Write a trial that has ended, in place of an earlier one with the same key."""
        row = (
            trial.key,
            trial.task,
            trial.task_version,
            trial.optimizer,
            trial.schedule,
            trial.settings,
            trial.lr,
            trial.seed,
            trial.total_steps,
            outcome.status,
            outcome.validation_loss,
            outcome.test_loss,
            len(outcome.losses),
            outcome.seconds,
            outcome.error,
            json.dumps(_versions()),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        curves = (
            trial.key,
            _packed(outcome.losses),
            _packed(outcome.rates),
            json.dumps(
                [
                    (step, loss if math.isfinite(loss) else None)
                    for step, loss in outcome.evaluations
                ]
            ),
        )
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("DELETE FROM trials WHERE key = ?", (trial.key,))
            self._database.execute(f"INSERT INTO trials VALUES ({_marks(row)})", row)
            self._database.execute(f"INSERT INTO curves VALUES ({_marks(curves)})", curves)
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            raise StoreError(_unusable(self.path, error)) from None

    def outcomes(self, trials: Iterable[Trial]) -> Iterator[tuple[Trial, Outcome]]:
        """Those of ``trials`` that are in the store, with their curves."""
        for trial in trials:
            row = self._database.execute(
                "SELECT status, validation_loss, test_loss, seconds, error, losses, rates, "
                "evaluations FROM trials JOIN curves USING (key) WHERE key = ?",
                (trial.key,),
            ).fetchone()
            if row is not None:
                status, validation_loss, test_loss, seconds, error, losses, rates, evaluations = row
                yield (
                    trial,
                    Outcome(
                        status=cast("Status", status),
                        validation_loss=validation_loss,
                        test_loss=test_loss,
                        losses=_unpacked(losses),
                        rates=_unpacked(rates),
                        evaluations=[
                            (step, math.nan if loss is None else loss)
                            for step, loss in json.loads(evaluations)
                        ],
                        seconds=seconds,
                        error=error,
                    ),
                )

    def trials(self) -> list[Trial]:
        """All trials in the store, in the order in which they were written."""
        names = [field.name for field in fields(Trial)]
        rows = self._database.execute(f"SELECT {', '.join(names)} FROM trials ORDER BY rowid")
        return [Trial(**dict(zip(names, row, strict=True))) for row in rows]

    def keys(self) -> set[str]:
        """The keys of all trials in the store."""
        return {key for (key,) in self._database.execute("SELECT key FROM trials")}

    def _open(self) -> None:
        database = self._database
        database.execute("PRAGMA busy_timeout = 30000")
        database.execute("PRAGMA foreign_keys = ON")
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (found,) = database.execute("PRAGMA user_version").fetchone()
        (application,) = database.execute("PRAGMA application_id").fetchone()
        if tables and application != APPLICATION_ID:
            raise StoreError(
                f"{self.path} is a SQLite file of another program; choose another --store"
            )
        if found > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} was written by a newer lrpilot (store version {found}, this one "
                f"reads {SCHEMA_VERSION}); upgrade lrpilot or choose another --store"
            )
        database.execute("PRAGMA journal_mode = WAL")  # readers do not block the writer
        database.execute("PRAGMA synchronous = NORMAL")
        # Takes the write lock, so that a read-only file is noticed before anything is trained.
        database.execute("BEGIN IMMEDIATE")
        (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            for statement in SCHEMA.split(";"):
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        database.execute("COMMIT")


def _unusable(path: Path, error: sqlite3.Error) -> str:
    return f"cannot use {path} as a store: {error}; choose a writable SQLite file with --store"


def _marks(values: tuple[object, ...]) -> str:
    return ", ".join("?" * len(values))


def _packed(values: list[float]) -> bytes:
    """Compressed float32: enough for a curve, a quarter of the size."""
    return zlib.compress(array("f", values).tobytes())


def _unpacked(data: bytes) -> list[float]:
    values = array("f")
    values.frombytes(zlib.decompress(data))
    return values.tolist()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("lrpilot", "torch", "numpy", "scikit-learn"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
