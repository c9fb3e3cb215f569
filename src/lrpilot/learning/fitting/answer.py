"""What a fit found: the settings, what they yield on a task they were not fitted to, a verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lrpilot.bench.statistics.stats import interval
from lrpilot.learning.fitting.candidates import BARE, DEFAULT, code_of, settings_of

ByTask = Mapping[str, float]  # mean ln of the loss over the best stored schedule's


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What schedules end with on a task, in multiples of the best stored schedule's final loss.

    best: that schedule, of each of the task's optimizers.
    default, bare, fitted: on the seeds that settings were chosen on.
    left_out: of the settings chosen on the other tasks alone; None if there are none.
    fresh_default, fresh_fitted: on seeds that nothing was chosen on.
    """

    task: str
    best: tuple[str, ...]
    default: float
    bare: float
    fitted: float
    left_out: float | None
    fresh_default: float
    fresh_fitted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a fit found.

    difference, interval: on a task that was not used, ln of the loss under settings fitted to the
        others over that under the default, mean over tasks, with its 95 % t interval; with one
        task, that of the fitted settings on its fresh seeds.
    better: whether the interval excludes a tie, so that the fitted settings are recommended.
    candidates: how many settings were tried, the default included. trials: on how many trials.
    left_out: cases of the store that were not used, and why.
    """

    fitted: str
    recommended: str
    code: str
    settings: dict[str, float]
    fitted_code: str
    lines: tuple[Line, ...]
    difference: float
    interval: tuple[float, float] | None
    better: bool
    candidates: int
    trials: int
    left_out: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The finding in one sentence."""
        if self.fitted == DEFAULT:
            return "the default is as good: no other settings that were tried did better here"
        ratio, tasks = f"{math.exp(self.difference):.3f} times", len(self.lines)
        if self.interval is not None:
            low, high = map(math.exp, self.interval)
            ratio += f" (95 % interval {low:.3f} to {high:.3f})"
        if tasks == 1:
            where = "on fresh seeds of the one task; this says nothing about other tasks"
            what = "the fitted settings end"
        else:
            where = f"on a task that was not used, mean of {tasks}"
            what = "settings fitted to the other tasks end"
        found = f"{what} at {ratio} the default's loss {where}"
        if self.better:
            return found
        return f"the default is as good, as far as this can tell: {found}"

    def as_json(self) -> dict[str, object]:
        """Strict JSON-able data."""
        return {"verdict": self.verdict, **asdict(self)}

    def as_text(self) -> list[str | Table]:
        """The table, the verdict, and the line to paste."""
        several = len(self.lines) > 1
        table = Table(
            *("task", "best stored", "default", "bare", "fitted"),
            *(["left out"] * several),
            *("fresh: default", "fitted"),
            box=SIMPLE_HEAD,
        )
        for line in self.lines:
            ratios = [line.default, line.bare, line.fitted]
            ratios += [line.left_out] if line.left_out is not None else []
            ratios += [line.fresh_default, line.fresh_fitted]
            table.add_row(line.task, ", ".join(line.best), *(f"{ratio:.3f}" for ratio in ratios))
        shown: list[str | Table] = [table, NOTE + LEFT_OUT * several, ""]
        shown += [f"{self.candidates} settings tried on {self.trials:,} trials", self.verdict]
        if not self.better and self.fitted != DEFAULT:
            shown += [f"fitted, but not shown to be better: {self.fitted_code}"]
        return [*shown, *self.left_out, "", self.code]


NOTE = (
    "Final validation loss in multiples of that of the best stored schedule, same rates and seeds; "
    "below 1 is better.\ndefault: Greedy() >> cooldown(0.2). bare: Greedy(). "
    "fresh: on seeds that nothing was chosen on."
)
LEFT_OUT = "\nleft out: settings chosen without this task."


def answer(
    scores: Mapping[str, ByTask],
    *,
    fitted: str,
    fresh: Mapping[str, Mapping[str, Sequence[float]]],
    best: Mapping[str, tuple[str, ...]],
    trials: int,
    left_out: Sequence[str],
) -> Answer:
    """Judge the settings tried.

    scores: of each schedule, by task. fresh: of the default and the fitted, by task and seed.
    """
    without = left_out_scores(scores)
    tasks = list(scores[DEFAULT])
    if without:
        differences = [without[task] - scores[DEFAULT][task] for task in tasks]
    else:
        (task,) = tasks
        differences = [
            a - b for a, b in zip(fresh[fitted][task], fresh[DEFAULT][task], strict=True)
        ]
    around = interval(differences)
    better = fitted != DEFAULT and around is not None and around[1] < 0
    recommended = fitted if better else DEFAULT
    return Answer(
        fitted=fitted,
        recommended=recommended,
        code=code_of(recommended),
        settings=settings_of(recommended),
        fitted_code=code_of(fitted),
        lines=tuple(
            Line(
                task=task,
                best=best[task],
                default=math.exp(scores[DEFAULT][task]),
                bare=math.exp(scores[BARE][task]),
                fitted=math.exp(scores[fitted][task]),
                left_out=math.exp(without[task]) if without else None,
                fresh_default=math.exp(statistics.fmean(fresh[DEFAULT][task])),
                fresh_fitted=math.exp(statistics.fmean(fresh[fitted][task])),
            )
            for task in tasks
        ),
        difference=statistics.fmean(differences),
        interval=around,
        better=better,
        candidates=len(scores),
        trials=trials,
        left_out=tuple(left_out),
    )


def best_of(scores: Mapping[str, ByTask], without: str | None = None) -> str:
    """The schedule with the lowest mean over tasks but one; the first of equals."""

    def mean(schedule: str) -> float:
        return statistics.fmean(v for task, v in scores[schedule].items() if task != without)

    return min(scores, key=mean)


def left_out_scores(scores: Mapping[str, ByTask]) -> dict[str, float]:
    """For each task, the score there of what is best on the others; empty for a single task."""
    tasks = list(next(iter(scores.values())))
    if len(tasks) < 2:
        return {}
    return {task: scores[best_of(scores, without=task)][task] for task in tasks}
