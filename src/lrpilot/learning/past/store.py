"""Runs of other programs in the file of a store, in tables of their own beside the trials'."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from array import array
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lrpilot.bench.store import PATIENCE_SECONDS, Store, StoreError
from lrpilot.learning.past.run import PastRun, Series
from lrpilot.schedules.checks import check_known

TABLES = (
    """
CREATE TABLE IF NOT EXISTS past_runs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    kind TEXT NOT NULL,
    description TEXT NOT NULL,  -- JSON, texts by name
    imported TEXT NOT NULL
)""",
    """
CREATE TABLE IF NOT EXISTS past_series (
    run INTEGER NOT NULL REFERENCES past_runs (id) ON DELETE CASCADE,
    series TEXT NOT NULL CHECK (series IN ('losses', 'rates', 'evaluations', 'gradient_norms')),
    name TEXT NOT NULL,  -- of the column in the log
    steps BLOB NOT NULL,
    numbers BLOB NOT NULL,
    PRIMARY KEY (run, series)
)""",
)


class PastRuns:
    """The runs of other programs in a store's file, which is created if it is not there.

    Raises StoreError, here and in every method, as `Store` does.
    """

    def __init__(self, path: Path) -> None:
        with Store(path):
            pass  # it checks the file, or makes it
        self.path = path
        with self._database() as database:
            for table in TABLES:
                database.execute(table)

    def add(self, runs: Iterable[PastRun]) -> list[bool]:
        """Store all of ``runs``, or none; for each whether it is new.

        A run with the name and the numbers of one that is there is not stored again.
        """
        with self._database() as database:
            return [_insert(database, run) for run in runs]

    def names(self) -> list[str]:
        """In the order in which they were imported; names need not differ."""
        with self._database() as database:
            return [name for (name,) in database.execute("SELECT name FROM past_runs ORDER BY id")]

    def all(self) -> list[PastRun]:
        """Every run, in the order in which they were imported."""
        with self._database() as database:
            return list(_selected(database))

    def find(self, name: str) -> PastRun:
        """The run of this name, of several the one imported last; ValueError if there is none."""
        check_known("run", name, dict.fromkeys(self.names()))
        return [run for run in self.all() if run.name == name][-1]

    @contextmanager
    def _database(self) -> Generator[sqlite3.Connection, None, None]:
        """A transaction."""
        try:
            with (
                closing(sqlite3.connect(self.path, timeout=PATIENCE_SECONDS)) as database,
                database,
            ):
                database.execute("PRAGMA foreign_keys = ON")
                yield database
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot use {self.path} as a store: {error}; nothing of this was imported; free "
                f"some space, or choose another --store"
            ) from None


def _insert(database: sqlite3.Connection, run: PastRun) -> bool:
    key = _key(run)
    if database.execute("SELECT 1 FROM past_runs WHERE key = ?", (key,)).fetchone():
        return False
    now = datetime.now(UTC).isoformat(timespec="seconds")
    values = (key, run.name, run.source, run.kind, json.dumps(dict(run.description)), now)
    query = "INSERT INTO past_runs VALUES (NULL, ?, ?, ?, ?, ?, ?)"
    at = database.execute(query, values).lastrowid
    for name, series in run.series.items():
        row = (at, name, run.columns[name], *_packed(series))
        database.execute("INSERT INTO past_series VALUES (?, ?, ?, ?, ?)", row)
    return True


def _selected(database: sqlite3.Connection) -> Iterator[PastRun]:
    query = "SELECT id, name, source, kind, description FROM past_runs ORDER BY id"
    for at, name, source, kind, description in database.execute(query).fetchall():
        query = "SELECT series, name, steps, numbers FROM past_series WHERE run = ? ORDER BY rowid"
        rows = database.execute(query, (at,)).fetchall()
        yield PastRun(
            name=name,
            source=source,
            kind=kind,
            description=json.loads(description),
            columns={series: column for series, column, _, _ in rows},
            series={series: _unpacked(steps, numbers) for series, _, steps, numbers in rows},
        )


def _key(run: PastRun) -> str:
    found = hashlib.sha256(run.name.encode())
    for name, series in sorted(run.series.items()):
        for part in (name.encode(), *_packed(series)):
            found.update(part)
    return found.hexdigest()[:32]


def _packed(series: Series) -> tuple[bytes, bytes]:
    """Steps and values, as exact as they were."""
    steps, values = zip(*series, strict=True)
    return zlib.compress(array("q", steps).tobytes()), zlib.compress(array("d", values).tobytes())


def _unpacked(steps: bytes, values: bytes) -> Series:
    counted, numbers = array("q"), array("d")
    counted.frombytes(zlib.decompress(steps))
    numbers.frombytes(zlib.decompress(values))
    return list(zip(counted, numbers, strict=True))
