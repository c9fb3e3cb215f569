"""Read logs, whatever program wrote them, and import what they hold."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lrpilot.learning.past.mlflow import is_mlflow, read_mlflow
from lrpilot.learning.past.run import Logged, PastRun, merged, past_run
from lrpilot.learning.past.store import PastRuns
from lrpilot.learning.past.tables import read_table

EVENTS = "tfevents"  # is in the name of every event file


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What was imported.

    runs: those of the files. new: for each, whether the store lacked it.
    stored: how many runs the store has now.
    """

    store: Path
    runs: list[PastRun]
    new: list[bool]
    notes: list[str]
    stored: int

    def as_json(self) -> dict[str, object]:
        """Strict JSON-able data."""
        return {
            "store": str(self.store),
            "stored": self.stored,
            "notes": self.notes,
            "runs": [
                {
                    "name": run.name,
                    "kind": run.kind,
                    "source": run.source,
                    "new": new,
                    "steps": run.steps,
                    "description": dict(run.description),
                    "columns": dict(run.columns),
                    "values": {name: len(series) for name, series in run.series.items()},
                }
                for run, new in zip(self.runs, self.new, strict=True)
            ],
        }

    def as_text(self) -> list[str | Table]:
        """A table of the runs, and what to know of them."""
        names = ("losses", "rates", "evaluations", "gradient_norms")
        table = Table("run", "from", "", "last step", *names, "loss", box=SIMPLE_HEAD)
        for run, new in zip(self.runs, self.new, strict=True):
            counts = [f"{len(run.series.get(name, [])) or '-'}" for name in names]
            loss = f"{run.losses[0][1]:.4g} to {run.losses[-1][1]:.4g}"
            told = "new" if new else "known"
            table.add_row(run.name, run.kind, told, f"{run.steps:,}", *counts, loss)
        return [table, *self.notes, f"{self.store} has {self.stored} past runs"]


def import_logs(
    paths: Sequence[Path],
    store: Path,
    *,
    columns: Mapping[str, str],
    description: Sequence[str] = (),
) -> Imported:
    """Read all logs, then store what they hold, all or nothing.

    columns: by series, as in `past_run`. description: such as "optimizer=adamw", of every run.

    Raises ValueError for what is no log, and StoreError.
    """
    known = dict(_described(text) for text in description)
    found = [past_run(logged, columns, known) for logged in merged(list(read_logs(paths)))]
    runs = [run for run, _ in found]
    kept = PastRuns(store)
    return Imported(
        store=store,
        runs=runs,
        new=kept.add(runs),
        notes=[f"{run.name}: {note}" for run, notes in found for note in notes],
        stored=len(kept.names()),
    )


def read_logs(paths: Iterable[Path]) -> Iterable[Logged]:
    """What the logs hold: tables, event files, and folders of event files or of MLflow."""
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no {path}")
        if path.is_dir():
            yield from _folder(path)
        elif EVENTS in path.name:
            yield _events(path.parent, [path])
        else:
            yield from read_table(path)


def _folder(folder: Path) -> Iterable[Logged]:
    files = sorted(path for path in folder.rglob(f"*{EVENTS}*") if path.is_file())
    if files:
        for run in dict.fromkeys(path.parent for path in files):
            yield _events(run, [path for path in files if path.parent == run])
    elif is_mlflow(folder):
        yield from read_mlflow(folder)
    else:
        raise ValueError(
            f"{folder} has neither event files (*{EVENTS}*) nor MLflow's metrics; name the files"
        )


def _events(folder: Path, files: list[Path]) -> Logged:
    # Loads tensorboard, which takes a second, for those alone who need it.
    try:
        module = importlib.import_module("lrpilot.learning.past.tensorboard")
    except ImportError as error:
        raise ValueError(str(error)) from None
    return cast("Logged", module.read_events(folder.resolve(), files))


def _described(text: str) -> tuple[str, str]:
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not name:
        raise ValueError(f"a description is name=value, such as optimizer=adamw; got {text!r}")
    return name, value
