"""Read a recorded loss: CSV, JSON Lines, a Trainer's state, or a number per line."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from reprlib import repr as brief
from typing import Any, NamedTuple, cast

from lrpilot.schedules.checks import check_known

# Columns that hold a training loss, in order of preference.
LOSS_COLUMNS = ("loss", "train_loss", "train/loss", "training_loss")

# What a file without columns has.
_UNNAMED = ""

Row = tuple[str, Mapping[str, object]]
"""(where it stands in the file, its values by column)"""


class Recording(NamedTuple):
    """The losses of a training, in order."""

    losses: list[float]
    column: str | None  # None if the file has numbers only

    @property
    def not_finite(self) -> int:
        """How many of the losses are NaN or infinite."""
        return sum(not math.isfinite(loss) for loss in self.losses)


def read_losses(path: Path, column: str | None = None) -> Recording:
    """The losses in the file at ``path``, whose content tells its format.

    That is CSV with a header, JSON Lines, a JSON array, the ``trainer_state.json`` of transformers,
    or a number per line.

    column: None takes the first of `LOSS_COLUMNS` that is there. Rows without a value in it, such
        as those of an evaluation, are passed over. NaN and infinity are losses.

    Raises ValueError, with the line, for whatever is not such a file.
    """
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path} is empty; it needs a loss per optimizer step")
    columns = dict.fromkeys(name for _, values in rows for name in values)
    name = _column(path, columns, column)
    losses = [
        as_number(path, where, values[name], name)
        for where, values in rows
        if values.get(name) not in (None, "")
    ]
    if not losses:
        raise ValueError(f"the column {name!r} of {path} has no values")
    return Recording(losses, name or None)


def read_rows(path: Path) -> list[Row]:
    """All rows of a file in one of the formats of `read_losses`; of a number per line, column "".

    Raises ValueError, with the line, for whatever is not such a file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:  # whose text has the path once more
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    return list(_rows(path, text))


def as_number(path: Path, where: str, value: object, name: str) -> float:
    """The value of a column; raises ValueError, with the line, if it is not a number."""
    try:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    what = f"the {name}" if name else "it"
    raise ValueError(f"{path}, {where}: {what} is {brief(value)}, not a number")


def _rows(path: Path, text: str) -> Iterator[Row]:
    first = next(filter(None, map(str.strip, text.split("\n"))), "")
    if not first:
        return iter(())
    if first[0] in "{[":
        return _json(path, text)
    return _numbers(text) if _is_number(first) else _csv(path, text, first)


def _numbers(text: str) -> Iterator[Row]:
    for at, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {at}", {_UNNAMED: line.strip()}


def _csv(path: Path, text: str, header: str) -> Iterator[Row]:
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    names: list[str] = []
    try:
        for values in reader:
            row = [value.strip() for value in values]
            if names:
                yield f"line {reader.line_num}", dict(zip(names, row, strict=False))
            elif any(row):
                names = row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if names and all(map(_is_number, names)):
        raise ValueError(f"{path} has no header; name the columns in its first line")


def _json(path: Path, text: str) -> Iterator[Row]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        yield from _json_lines(path, text)
        return
    if isinstance(found, dict):
        history = cast("dict[str, Any]", found).get("log_history")
        found = history if isinstance(history, list) else [found]
    for at, entry in enumerate(cast("list[Any]", found), start=1):
        yield _entry(path, f"entry {at}", entry)


def _json_lines(path: Path, text: str) -> Iterator[Row]:
    for at, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {at}: not JSON: {error}") from None
            yield _entry(path, f"line {at}", entry)


def _entry(path: Path, where: str, entry: object) -> Row:
    if isinstance(entry, dict):
        return where, cast("dict[str, object]", entry)
    if isinstance(entry, (int, float)):
        return where, {_UNNAMED: entry}
    raise ValueError(
        f"{path}, {where}: {brief(entry)} is neither a number nor an object with a loss"
    )


def _column(path: Path, columns: Mapping[str, object], asked: str | None) -> str:
    if list(columns) == [_UNNAMED]:
        if asked is not None:
            raise ValueError(f"{path} has no columns but a number per line; leave out --column")
        return _UNNAMED
    if asked is not None:
        check_known("column", asked, columns)
        return asked
    known = [name for name in LOSS_COLUMNS if name in columns]
    if not known:
        raise ValueError(
            f"{path} has no column {' or '.join(LOSS_COLUMNS)}; "
            f"choose one with --column (it has: {', '.join(columns)})"
        )
    return known[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
