"""What `lrpilot predict` answers: how far predictions are off, and the one for a run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lrpilot.bench.statistics.stats import interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Errors on a task that nothing was learned from.

    plain, usual, rate: mean |log10 of the predicted over the best rate|: of the mean correction on
        the other tasks, of the optimizer's mean best rate there, of the regression.
    usual_anneal, anneal: mean ln of the lowest loss with the chosen anneal over that with the best:
        of the one that is best on the other tasks, of the regression.
    """

    task: str
    samples: int
    plain: float
    usual: float
    rate: float
    usual_anneal: float
    anneal: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What was learned from a store, and what it says of a run.

    rate_gain, anneal_gain: mean over tasks of the regression's error less that of the usual choice,
        with 95 % t intervals; below 0 the regression is better.
    run: its name, or None; lr: the rate that it began with; suggested_lr, schedule: what the
        regression says. usual_lr, usual_schedule: what the store says without it.
    """

    lines: tuple[Line, ...]
    anneals: tuple[str, ...]
    rate_gain: float
    rate_interval: tuple[float, float]
    anneal_gain: float
    anneal_interval: tuple[float, float]
    run: str | None = None
    lr: float | None = None
    suggested_lr: float | None = None
    usual_lr: float | None = None
    schedule: str | None = None
    usual_schedule: str | None = None

    @property
    def rate_error(self) -> float:
        """Of the regression: mean |log10| over tasks that were left out."""
        return statistics.fmean(line.rate for line in self.lines)

    @property
    def verdict(self) -> str:
        """The finding, in two sentences."""
        usual, mine, theirs = (
            statistics.fmean(getattr(line, name) for line in self.lines)
            for name in ("usual", "anneal", "usual_anneal")
        )
        return (
            f"On a task that was left out the predicted rate is off by {_times(self.rate_error)}, "
            f"the optimizer's usual one by {_times(usual)} ({_judged(self.rate_interval)}). "
            f"The predicted anneal ends at {math.exp(mine):.3f} times the best one's loss, the "
            f"usual one at {math.exp(theirs):.3f} ({_judged(self.anneal_interval)})."
        )

    def as_json(self) -> dict[str, object]:
        """Strict JSON-able data."""
        return {"verdict": self.verdict, "rate_error": self.rate_error, **asdict(self)}

    def as_text(self) -> list[str | Table]:
        """The table, the verdict, and what is said of the run."""
        table = Table(
            *("task left out", "runs", "rate: mean correction", "usual rate", "regression"),
            *("anneal: usual", "regression"),
            box=SIMPLE_HEAD,
        )
        for line in self.lines:
            errors = (line.plain, line.usual, line.rate, line.usual_anneal, line.anneal)
            table.add_row(line.task, str(line.samples), *(f"{error:.3f}" for error in errors))
        note = (
            "rate: mean |log10 of the predicted over the best|. anneal: mean ln of the loss over "
        )
        note += f"the best anneal's ({', '.join(self.anneals)})."
        shown: list[str | Table] = [table, note, "", self.verdict]
        if self.run is None:
            return shown
        return [
            *(*shown, ""),
            f"{self.run}, which began at {self.lr:.3g}: rate {self.suggested_lr:.3g} (usual: "
            f"{self.usual_lr:.3g}), anneal {self.schedule} (usual: {self.usual_schedule})",
        ]


def gains(mine: Sequence[float], theirs: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean of the differences, and its 95 % t interval."""
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    mean = statistics.fmean(differences)
    return mean, interval(differences) or (mean, mean)


def _times(error: float) -> str:
    return f"{10**error:.1f} times"


def _judged(around: tuple[float, float]) -> str:
    """What an interval of differences says."""
    low, high = around
    if high < 0:
        found = "the regression is better"
    elif low > 0:
        found = "the regression is worse"
    else:
        found = "no difference is shown"
    return f"{found}; difference {low:+.3f} to {high:+.3f}"
