"""The rows of a robustness study, light enough to commit: its summary is computed from these."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lrpilot.bench.perturbations import PERTURBATIONS
from lrpilot.bench.trial import Outcome, Trial, evaluation_steps

Track = Literal["surprise", "expected", "both"]

DIGITS = 7  # significant digits of a loss
EXCESS_DIGITS = 3


class RobustnessRow(NamedTuple):
    """One evaluation run: what it was and what it showed.

    track: "surprise" if the rate was tuned without the perturbation, "expected" if it was tuned
        under it, "both" if that is the same rate.
    start_loss: validation loss before the first step.
    test_loss: at the end; None for a run that diverged.
    trajectory: hash of all validation losses, bit for bit, and of the status.
    excess: for a perturbation that ends, ln(validation loss / twin's) at every evaluation after its
        end; the twin is the unperturbed run of the same rate and seed. Empty for the track
        "expected", whose twin was not run.
    """

    task: str
    perturbation: str
    schedule: str
    lr: float
    seed: int
    total_steps: int
    track: Track
    status: str
    start_loss: float
    test_loss: float | None
    trajectory: str
    excess: tuple[float, ...]

    @property
    def loss(self) -> float:
        """The final loss; a run can lose no more than all it had, so at most that at the start."""
        return self.start_loss if self.test_loss is None else min(self.test_loss, self.start_loss)


def robustness_row(
    trial: Trial, outcome: Outcome, *, track: Track, twin: Outcome | None
) -> RobustnessRow:
    """The row of a run; ``twin`` is the unperturbed one of the same rate and seed, if there is."""
    total_steps = trial.total_steps or outcome.evaluations[-1][0]
    ends = PERTURBATIONS[trial.perturbation].ends
    return RobustnessRow(
        trial.task,
        trial.perturbation,
        trial.schedule,
        trial.lr,
        trial.seed,
        total_steps,
        track,
        outcome.status,
        outcome.evaluations[0][1],
        outcome.test_loss,
        trajectory(outcome),
        ()
        if twin is None or ends is None
        else excess(outcome, twin, ends(total_steps), total_steps),
    )


def trajectory(outcome: Outcome) -> str:
    """Equal for runs whose validation losses are the same bit for bit."""
    losses = array("d", [loss for _, loss in outcome.evaluations])
    return hashlib.sha256(outcome.status.encode() + losses.tobytes()).hexdigest()[:12]


def excess(outcome: Outcome, twin: Outcome, end: int, total_steps: int) -> tuple[float, ...]:
    """ln(validation loss / twin's) at the evaluations after step ``end``.

    A run that has diverged, or is above where it began, counts with its loss before the first step.
    """
    start = outcome.evaluations[0][1]
    mine, others = (dict(run.evaluations) for run in (outcome, twin))

    def loss(of: dict[int, float], step: int) -> float:
        found = of.get(step, math.inf)
        return min(found, start) if math.isfinite(found) else start

    steps = [step for step in sorted(evaluation_steps(total_steps)) if step > end]
    return tuple(math.log(loss(mine, step) / loss(others, step)) for step in steps)


def save_rows(path: Path, rows: Iterable[RobustnessRow], about: Mapping[str, str]) -> None:
    """Write ``rows`` as compressed CSV after a line of JSON, ``about``: command and versions.

    Equal rows make equal files, byte for byte.
    """
    text = io.StringIO(newline="")
    text.write(f"# {json.dumps(dict(about), sort_keys=True)}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(RobustnessRow._fields)
    for row in rows:
        writer.writerow([_written(value) for value in row])
    # The name and time that gzip stores by default would make equal files differ.
    with path.open("wb") as file, gzip.GzipFile("", "wb", mtime=0, fileobj=file) as packed:
        packed.write(text.getvalue().encode())


def load_rows(path: Path) -> tuple[dict[str, str], list[RobustnessRow]]:
    """What `save_rows` wrote: what it is about, and the rows.

    Raises ValueError if the file is no such file.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            about = json.loads(file.readline().removeprefix("# "))
            lines = csv.reader(file)
            if tuple(next(lines)) != RobustnessRow._fields:
                raise ValueError(f"its columns are not {', '.join(RobustnessRow._fields)}")
            return about, list(_read(lines))
    except (OSError, EOFError, ValueError, StopIteration) as error:
        raise ValueError(
            f"{path} has no rows of a robustness study ({error}); "
            f"`lrpilot claims --study robustness` writes such a file"
        ) from None


def _written(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, tuple):
        return " ".join(f"{number:.{EXCESS_DIGITS}g}" for number in value)
    return "" if value is None else value


def _read(lines: Iterator[Sequence[str]]) -> Iterator[RobustnessRow]:
    for line in lines:
        task, perturbation, schedule, lr, seed, steps, *rest = line
        track, status, start, test, hashed, found = rest
        yield RobustnessRow(
            task,
            perturbation,
            schedule,
            float(lr),
            int(seed),
            int(steps),
            track,  # pyright: ignore[reportArgumentType]  # one of the three that are written
            status,
            float(start),
            float(test) if test else None,
            hashed,
            tuple(float(number) for number in found.split()),
        )
