"""The rows of a suite, light enough to commit: every claim is computed from these alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lrpilot.bench.row_file import read_rows, write_rows
from lrpilot.bench.trial import Outcome, Trial

DIGITS = 6  # significant digits of a loss
EVALUATION_DIGITS = 4


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


def save_rows(path: Path, rows: Iterable[ResultRow], about: Mapping[str, str]) -> None:
    """Write ``rows``; ``about`` has command, versions and suite. See `write_rows`."""
    write_rows(path, ResultRow._fields, rows, about, digits=DIGITS, curve_digits=EVALUATION_DIGITS)


def load_rows(path: Path) -> tuple[dict[str, str], list[ResultRow]]:
    """What `save_rows` wrote: what it is about, and the rows.

    Raises ValueError if the file is no such file.
    """
    return read_rows(
        path, ResultRow._fields, _read, what="result rows", writer="lrpilot claims --save"
    )


def _read(line: Sequence[str]) -> ResultRow:
    task, optimizer, schedule, lr, seed, steps, status, validation, test, *rest = line
    extra_forwards, seconds, evaluations = rest
    return ResultRow(
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
