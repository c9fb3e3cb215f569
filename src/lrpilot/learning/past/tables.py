"""Logs that are tables: CSV, JSON and JSON Lines, and what Weights & Biases exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lrpilot.bench.replay.recorded import Row, as_number, read_rows
from lrpilot.learning.past.run import CHART, Logged, Series

# Columns that count steps, in order of preference, in lower case.
STEP_COLUMNS = ("step", "_step", "global_step", "trainer/global_step", "steps", "iteration")
LARGEST_STEP = 2**62

# A chart that was exported from the web page has a column "RUN - METRIC" for each run.
CHARTED = " - "
BOUNDS = ("__MIN", "__MAX")


def read_table(path: Path) -> list[Logged]:
    """The run, or the runs of a W&B chart, in a table.

    A table without a column of `STEP_COLUMNS` has a row per step, counted from 1; a number per line
    is the column "loss".

    Raises ValueError, with the line, for whatever is not a table.
    """
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path} is empty; it needs a row per logged step")
    columns = tuple(dict.fromkeys(name for _, values in rows for name in values))
    if columns == ("",):
        rows = [(where, {"loss": values[""]}) for where, values in rows]
        columns = ("loss",)
    counting = [one for known in STEP_COLUMNS for one in columns if one.strip().lower() == known]
    step = counting[0] if counting else None
    of_rows = _reader(path, rows, step)
    others = tuple(column for column in columns if column != step)
    if step is None or not others or not all(CHARTED in column for column in others):
        kind = "W&B history" if step == "_step" else "table"
        return [_logged(path.stem, path, kind, others, of_rows)]
    found: dict[str, dict[str, str]] = {}
    for column in others:
        if column.endswith(BOUNDS):
            continue
        run, _, metric = column.rpartition(CHARTED)
        found.setdefault(run, {})[metric] = column
    return [
        _logged(run, path, CHART, tuple(by_metric), _renamed(of_rows, by_metric))
        for run, by_metric in found.items()
    ]


def _logged(
    name: str, path: Path, kind: str, columns: tuple[str, ...], read: Callable[[str], Series]
) -> Logged:
    return Logged(name=name, source=str(path), kind=kind, columns=columns, read=read, parameters={})


def _reader(path: Path, rows: Sequence[Row], step: str | None) -> Callable[[str], Series]:
    def read(column: str) -> Series:
        return [
            (
                at if step is None else _step(path, where, values.get(step), step),
                as_number(path, where, values[column], column),
            )
            for at, (where, values) in enumerate(rows, start=1)
            if values.get(column) not in (None, "")
        ]

    return read


def _renamed(read: Callable[[str], Series], columns: dict[str, str]) -> Callable[[str], Series]:
    return lambda metric: read(columns[metric])


def _step(path: Path, where: str, value: object, name: str) -> int:
    number = as_number(path, where, value, name)
    if not 0 <= number < LARGEST_STEP or number != int(number):
        raise ValueError(f"{path}, {where}: the {name} is {value!r}, not a count of steps")
    return int(number)
