"""Many trials of a store at once: chosen, counted by cell, listed as light rows, exported."""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lrpilot.bench.store import Store, unpacked, unpacked_evaluations
from lrpilot.bench.trial import RESULTS_VERSION, Loop, Status, Trial, trial_count
from lrpilot.schedules.checks import check_known

# More trials than these are counted by cell instead of listed.
LISTED = 40

CELL = ("task", "optimizer", "schedule", "perturbation", "engine")
CELL_ORDER = ", ".join((*CELL, "lr", "seed"))  # that of the store's index


class Where(NamedTuple):
    """Which trials of a store; None takes all."""

    task: str | None = None
    optimizer: str | None = None
    schedule: str | None = None
    perturbation: str | None = None
    engine: str | None = None
    lr: float | None = None
    seed: int | None = None
    status: str | None = None


EVERY = Where()

# Columns of an export, and those that its curves add, each a list: float32 but for the evaluations'
# losses, which are as exact as the final ones.
EXPORTED = (
    *("task", "task_version", "optimizer", "schedule", "settings", "lr", "seed", "total_steps"),
    *("perturbation", "engine", "status", "validation_loss", "test_loss", "steps", "seconds"),
    *("error", "extra_forwards", "versions", "finished"),
)
CURVES = ("evaluation_steps", "evaluation_losses", "losses", "rates")
WHOLE = ("seed", "total_steps", "steps", "extra_forwards")
REAL = ("lr", "validation_loss", "test_loss", "seconds")
EXPORT_CHUNK = 5000  # rows of a Parquet file that are in memory at once


class Final(NamedTuple):
    """How a trial ended: a light row, without the losses and rates of its steps.

    steps: optimizer steps taken.
    error: of a failed trial, the exception in one line, then the traceback.
    finished: when it was stored, in UTC, as ISO 8601.
    packed_evaluations: as they are stored; `evaluations` unpacks them.
    """

    task: str
    task_version: str
    optimizer: str
    schedule: str
    settings: str
    lr: float
    seed: int
    total_steps: int | None
    perturbation: str
    engine: Loop
    status: Status
    validation_loss: float | None
    test_loss: float | None
    steps: int
    seconds: float
    error: str | None
    extra_forwards: int
    finished: str
    packed_evaluations: bytes

    @property
    def trial(self) -> Trial:
        """What was trained."""
        return Trial(**{field.name: getattr(self, field.name) for field in fields(Trial)})

    @property
    def evaluations(self) -> list[tuple[int, float]]:
        """(steps taken, validation loss), in order."""
        return unpacked_evaluations(self.packed_evaluations)

    def as_json(self) -> dict[str, object]:
        """The row without its evaluations, as strict JSON-able data."""
        values = self._asdict()
        del values["packed_evaluations"]
        return {name: _json_able(value) for name, value in values.items()}


class Count(NamedTuple):
    """How many trials a cell has, how they ended, and of how many base rates and seeds."""

    task: str
    optimizer: str
    schedule: str
    perturbation: str
    engine: str
    trials: int
    done: int
    diverged: int
    failed: int
    lrs: int
    seeds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """What a store has of the trials asked for.

    finals: None if they are too many to be listed.
    outdated: how many more trials it has, asked for or not, whose numbers are another version's.
    """

    store: Path
    counts: list[Count]
    finals: list[Final] | None
    outdated: int

    @property
    def trials(self) -> int:
        """How many trials were found, listed or not."""
        return sum(count.trials for count in self.counts)


def finals(store: Store, where: Where = EVERY, *, limit: int | None = None) -> Iterator[Final]:
    """How trials ended, cell by cell, rates and seeds rising; only those of `RESULTS_VERSION`.

    They are read as they are asked for: take them all before you add to the store.

    limit: the first so many; None for all.
    """
    names = ", ".join(Final._fields).replace("packed_evaluations", "evaluations")
    condition, values = conditions(where)
    query = f"SELECT {names} FROM rows WHERE {condition} ORDER BY {CELL_ORDER} LIMIT ?"
    return map(Final._make, store.select(query, *values, -1 if limit is None else limit))


def counts(store: Store, where: Where = EVERY) -> list[Count]:
    """The same trials, counted by cell."""
    condition, values = conditions(where)
    cell = ", ".join(CELL)
    query = (
        f"SELECT {cell}, count(*), sum(status = 'done'), sum(status = 'diverged'), "
        "sum(status = 'failed'), count(DISTINCT lr), count(DISTINCT seed) "
        f"FROM rows WHERE {condition} GROUP BY {cell}"
    )
    return [Count(*row) for row in store.select(query, *values)]


def conditions(where: Where) -> tuple[str, list[object]]:
    """SQL that is true of the chosen trials of `RESULTS_VERSION`, and the values in it."""
    chosen = {name: value for name, value in where._asdict().items() if value is not None}
    names = ["results", *chosen]
    return " AND ".join(f"{name} = ?" for name in names), [RESULTS_VERSION, *chosen.values()]


def find_runs(store: Store, where: Where = EVERY, *, limit: int | None = None) -> Runs:
    """Counts of the trials, and the trials themselves if they are few or ``limit`` says how many.

    Raises ValueError, with the nearest name, if there are none because a name is unknown.
    """
    found = counts(store, where)
    if not found:
        _check_names(store, where)
    few = sum(count.trials for count in found) <= LISTED
    listed = list(finals(store, where, limit=limit)) if few or limit is not None else None
    return Runs(store=store.path, counts=found, finals=listed, outdated=store.outdated())


def check_store(path: Path) -> None:
    """Raise ValueError if there is no file at ``path``, for opening a store would make one."""
    if not path.is_file():
        raise ValueError(f"there is no store {path}; lrpilot compare makes one, --store names it")


def as_json(runs: Runs) -> dict[str, object]:
    """For programs; ``trials`` is null where they are too many."""
    return {
        "store": str(runs.store),
        "count": runs.trials,
        "outdated": runs.outdated,
        "cells": [count._asdict() for count in runs.counts],
        "trials": None if runs.finals is None else [final.as_json() for final in runs.finals],
    }


def as_text(runs: Runs) -> list[str | Table]:
    """A table of trials or of cells, and what it leaves out."""
    shown: list[str | Table] = []
    if not runs.counts:
        shown.append(f"{runs.store} has no such trial")
    elif runs.finals is None:
        shown += [_counted(runs.counts), f"{trial_count(runs.trials)}, counted; --limit lists them"]
    else:
        shown.append(_listed(runs.finals))
        if len(runs.finals) < runs.trials:
            shown.append(f"the first {len(runs.finals):,} of {trial_count(runs.trials)}")
    if runs.outdated:
        shown.append(
            f"besides, the store has {trial_count(runs.outdated)} of another version of lrpilot, "
            f"under which the same trial has other numbers: kept, but never read"
        )
    return shown


def check_export(path: Path, source: Path) -> None:
    """Raise ValueError if trials of the store ``source`` cannot be exported to ``path``.

    A file that is there is replaced only if it is an export.
    """
    if path.suffix not in (".csv", ".parquet"):
        why = "its name has to end in .csv or .parquet"
    elif path.resolve() == source.resolve():
        why = f"it is {source}, which is exported"
    elif path.is_dir():
        why = "it is a folder"
    elif not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        why = f"{path.parent} is not a writable folder"
    elif path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        why = "Parquet needs a package that is not installed (pip install pyarrow)"
    elif path.exists() and not _is_export(path):
        why = "it is there and is not an export of lrpilot runs, so it would be lost"
    else:
        return
    raise ValueError(f"cannot export to {path}: {why}; choose another --export")


def export(store: Store, where: Where, path: Path, *, curves: bool = False) -> int:
    """Write the trials of `finals` to a CSV or Parquet file, by its name; returns how many.

    The file appears when it is whole. In CSV, curves are JSON lists with null for what is not
    finite.

    curves: whether to add the columns `CURVES`.
    """
    condition, values = conditions(where)
    query = (
        f"SELECT {', '.join(EXPORTED)}{', evaluations, losses, rates' * curves} FROM rows "
        f"{'LEFT JOIN curves ON trial = id ' * curves}WHERE {condition} ORDER BY {CELL_ORDER}"
    )
    names = EXPORTED + CURVES * curves
    rows = map(_with_curves if curves else list, store.select(query, *values))
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    with TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        count = write(Path(folder) / path.name, names, rows)
        (Path(folder) / path.name).replace(path)
    return count


def _is_export(path: Path) -> bool:
    if path.suffix == ".csv":
        start = ",".join(EXPORTED).encode()
        with path.open("rb") as file:
            return file.read(len(start)) == start
    try:
        names = importlib.import_module("pyarrow.parquet").read_schema(path).names
    except (OSError, ValueError):  # pyarrow's own errors are of these kinds
        return False
    return tuple(names[: len(EXPORTED)]) == EXPORTED


def _with_curves(row: tuple[Any, ...]) -> list[Any]:
    *values, evaluations, losses, rates = row
    pairs = unpacked_evaluations(evaluations)
    steps, evaluated = [step for step, _ in pairs], [loss for _, loss in pairs]
    return [*values, steps, evaluated, unpacked(losses), unpacked(rates)]


def _write_csv(path: Path, names: Sequence[str], rows: Iterator[list[Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for row in rows:
            for at, value in enumerate(row[len(EXPORTED) :], start=len(EXPORTED)):
                row[at] = json.dumps([_json_able(number) for number in value])
            writer.writerow(row)
            count += 1
    return count


def _write_parquet(path: Path, names: Sequence[str], rows: Iterator[list[Any]]) -> int:
    arrow, parquet = map(importlib.import_module, ("pyarrow", "pyarrow.parquet"))
    types = {
        **dict.fromkeys(WHOLE, arrow.int64()),
        **dict.fromkeys(REAL, arrow.float64()),
        **dict.fromkeys(CURVES, arrow.list_(arrow.float32())),
        "evaluation_steps": arrow.list_(arrow.int32()),
        "evaluation_losses": arrow.list_(arrow.float64()),
    }
    schema = arrow.schema([(name, types.get(name, arrow.string())) for name in names])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while chunk := list(islice(rows, EXPORT_CHUNK)):
            columns = [list(column) for column in zip(*chunk, strict=True)]
            writer.write_table(arrow.table(columns, schema=schema))
            count += len(chunk)
    return count


def _check_names(store: Store, where: Where) -> None:
    known = counts(store)
    for name in CELL:
        choice = getattr(where, name)
        if choice is not None and known:
            check_known(name, choice, dict.fromkeys(getattr(count, name) for count in known))
    if where.status is not None:
        check_known("status", where.status, get_args(Status))


def _json_able(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _counted(counts: Sequence[Count]) -> Table:
    cell = _telling(counts)
    table = Table(*cell, "trials", "rates", "seeds", "done", "diverged", "failed", box=SIMPLE_HEAD)
    for count in counts:
        numbers = (count.trials, count.lrs, count.seeds, count.done, count.diverged, count.failed)
        names = [str(getattr(count, name)) for name in cell]
        table.add_row(*names, *(f"{number:,}" for number in numbers))
    return table


def _listed(finals: Sequence[Final]) -> Table:
    cell = _telling(finals)
    failed = any(final.error for final in finals)
    table = Table(
        *(*cell, "rate", "seed", "status", "validation", "test", "steps", "seconds"),
        *(["error"] * failed),
        box=SIMPLE_HEAD,
    )
    for final in finals:
        losses = (final.validation_loss, final.test_loss)
        table.add_row(
            *(str(getattr(final, name)) for name in cell),
            f"{final.lr:g}",
            str(final.seed),
            final.status,
            *("-" if loss is None else f"{loss:.4g}" for loss in losses),
            f"{final.steps:,}",
            f"{final.seconds:.1f}",
            *([(final.error or "").partition("\n")[0]] * failed),
        )
    return table


def _telling(rows: Sequence[Count | Final]) -> list[str]:
    """The names of a cell, without perturbation and engine where all are as by default."""
    plain = {"perturbation": {""}, "engine": {"single"}}
    return [name for name in CELL if {getattr(row, name) for row in rows} != plain.get(name)]
