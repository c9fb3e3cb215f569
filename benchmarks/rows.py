"""Rows of a long benchmark in a CSV file, appended as they come, so that it can be resumed."""

import csv
from collections.abc import Sequence
from pathlib import Path


def stored(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def append(path: Path, fields: Sequence[str], row: dict[str, str]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if is_new:
            writer.writeheader()
        writer.writerow(row)
