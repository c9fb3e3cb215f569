"""Rows in a compressed CSV file that is light enough to commit and equal for equal rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

RowT = TypeVar("RowT")


def write_rows(
    path: Path,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    about: Mapping[str, str],
    *,
    digits: int,
    curve_digits: int,
) -> None:
    """Write ``rows`` after a line of JSON, ``about``, and a line of ``columns``.

    digits, curve_digits: significant ones of a float, and of each float in a tuple.

    Equal rows make equal files, byte for byte. None is written as nothing.
    """

    def written(value: object) -> object:
        if isinstance(value, float):
            return f"{value:.{digits}g}"
        if isinstance(value, tuple):
            return " ".join(f"{number:.{curve_digits}g}" for number in value)
        return "" if value is None else value

    text = io.StringIO(newline="")
    text.write(f"# {json.dumps(dict(about), sort_keys=True)}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([written(value) for value in row])
    # The name and time that gzip stores by default would make equal files differ.
    with path.open("wb") as file, gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed:
        packed.write(text.getvalue().encode())


def read_rows(
    path: Path,
    columns: Sequence[str],
    read: Callable[[Sequence[str]], RowT],
    *,
    what: str,
    writer: str,
) -> tuple[dict[str, str], list[RowT]]:
    """What `write_rows` wrote: what it is about, and the rows.

    read: makes a row of a line's texts.
    what, writer: what the file lacks if it is another, and the command that writes such a file.

    Raises ValueError if the file is no such file.
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}; `{writer}` writes one")
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            about = json.loads(file.readline().removeprefix("# "))
            lines = csv.reader(file)
            if tuple(next(lines)) != tuple(columns):
                raise ValueError(f"its columns are not {', '.join(columns)}")
            return about, [read(line) for line in lines]
    except (OSError, EOFError, ValueError, StopIteration) as error:
        raise ValueError(f"{path} has no {what} ({error}); `{writer}` writes such a file") from None
