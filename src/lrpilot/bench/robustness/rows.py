"""The rows of a robustness study, light enough to commit: its summary is computed from these."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from lrpilot.bench.perturbations import PERTURBATIONS
from lrpilot.bench.row_file import read_rows, write_rows
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
    """Write ``rows``; ``about`` has command and versions. See `write_rows`."""
    write_rows(path, RobustnessRow._fields, rows, about, digits=DIGITS, curve_digits=EXCESS_DIGITS)


def load_rows(path: Path) -> tuple[dict[str, str], list[RobustnessRow]]:
    """What `save_rows` wrote: what it is about, and the rows.

    Raises ValueError if the file is no such file.
    """
    return read_rows(
        path,
        RobustnessRow._fields,
        _read,
        what="rows of a robustness study",
        writer="lrpilot claims --study robustness",
    )


def _read(line: Sequence[str]) -> RobustnessRow:
    task, perturbation, schedule, lr, seed, steps, *rest = line
    track, status, start, test, hashed, found = rest
    return RobustnessRow(
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
