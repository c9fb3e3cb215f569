"""The rows of a suite, light enough to commit: every claim is computed from these alone."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lrpilot.bench.trial import Outcome, Trial

DIGITS = 6  # significant digits of a loss


class ResultRow(NamedTuple):
    """One trial: what it was and what it showed.

    optimizer, schedule, lr, seed, total_steps, status, extra_forwards: as in `Trial` and `Outcome`.
    validation_loss, test_loss: final; None for a run that was lost.
    evaluations: validation losses at the evenly spread evaluations, the first before the first
        step; empty for a trial whose curve no claim reads.
    """

    task: str
    optimizer: str
    schedule: str
    lr: float
    seed: int
    total_steps: int
    status: str
    validation_loss: float | None
    test_loss: float | None
    extra_forwards: int
    seconds: float
    evaluations: tuple[float, ...]


def result_row(trial: Trial, outcome: Outcome, *, curve: bool) -> ResultRow:
    """The row of a trial of a built-in task that has ended."""
    return ResultRow(
        trial.task,
        trial.optimizer,
        trial.schedule,
        trial.lr,
        trial.seed,
        trial.total_steps or 0,
        outcome.status,
        outcome.validation_loss,
        outcome.test_loss,
        outcome.extra_forwards,
        outcome.seconds,
        tuple(loss for _, loss in outcome.evaluations) if curve else (),
    )


def save_rows(path: Path, rows: Iterable[ResultRow], about: dict[str, str]) -> None:
    """Write ``rows`` as compressed CSV after a line of JSON, ``about``: command, versions, suite.

    Equal rows make equal files, byte for byte.
    """
    text = io.StringIO(newline="")
    text.write(f"# {json.dumps(about, sort_keys=True)}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(ResultRow._fields)
    for row in rows:
        writer.writerow([_written(value) for value in row])
    # The name and time that gzip stores by default would make equal files differ.
    with path.open("wb") as file, gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed:
        packed.write(text.getvalue().encode())


def load_rows(path: Path) -> tuple[dict[str, str], list[ResultRow]]:
    """What `save_rows` wrote: what it is about, and the rows.

    Raises ValueError if the file is no such file.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            about = json.loads(file.readline().removeprefix("# "))
            lines = csv.reader(file)
            if tuple(next(lines)) != ResultRow._fields:
                raise ValueError(f"its columns are not {', '.join(ResultRow._fields)}")
            return about, list(_read(lines))
    except (OSError, EOFError, ValueError, StopIteration) as error:
        raise ValueError(
            f"{path} has no result rows ({error}); `lrpilot claims --save` writes such a file"
        ) from None


def _written(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, tuple):
        return " ".join(f"{loss:.4g}" for loss in value)
    return "" if value is None else value


def _read(lines: Iterator[Sequence[str]]) -> Iterator[ResultRow]:
    for line in lines:
        task, optimizer, schedule, lr, seed, steps, status, validation, test, *rest = line
        extra_forwards, seconds, evaluations = rest
        yield ResultRow(
            task,
            optimizer,
            schedule,
            float(lr),
            int(seed),
            int(steps),
            status,
            float(validation) if validation else None,
            float(test) if test else None,
            int(extra_forwards),
            float(seconds),
            tuple(float(loss) for loss in evaluations.split()),
        )
