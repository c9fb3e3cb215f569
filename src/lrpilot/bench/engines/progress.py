"""Live progress of a comparison: a bar per task, with the time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lrpilot.bench.engines.local import Advanced, Finished
from lrpilot.bench.trial import Outcome, Trial

PLAIN_EVERY = 10.0  # seconds between two lines where bars cannot be drawn


class Display:
    """Bars on a terminal; elsewhere, such as in a log, a line every ten seconds.

    Use as a context manager and tell it each event.
    """

    def __init__(self, trials: Sequence[Trial], console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[ended]}/{task.total:.0f} trials"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._bar_of: dict[str, TaskID] = {}
        self._ended: dict[str, int] = {}
        self._shares: dict[Trial, float] = {}  # of the trials in flight
        self._total = len(trials)
        self._started = self._told = time.monotonic()
        for task in dict.fromkeys(trial.task for trial in trials):
            count = sum(trial.task == task for trial in trials)
            self._bar_of[task] = self._bars.add_task(task, total=count, ended=0)
            self._ended[task] = 0

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def show(self, event: Advanced | Finished) -> None:
        """Move the bar of the event's task."""
        task = event.trial.task
        if isinstance(event, Finished):
            self._ended[task] += 1
            self._shares.pop(event.trial, None)
            tell_failure(event.trial, event.outcome, self._console)
        else:
            self._shares[event.trial] = event.share
        in_flight = sum(self._shares.values())
        self._bars.update(
            self._bar_of[task], completed=self._ended[task] + in_flight, ended=self._ended[task]
        )
        if not self._console.is_terminal:
            self._tell(sum(self._ended.values()), in_flight)

    def _tell(self, ended: int, in_flight: float) -> None:
        now = time.monotonic()
        if 1 <= ended < self._total and now - self._told >= PLAIN_EVERY:
            self._told = now
            seconds = (now - self._started) * (self._total / (ended + in_flight) - 1)
            self._console.print(
                f"{ended}/{self._total} trials, about {seconds:.0f} s left", highlight=False
            )


def tell_failure(trial: Trial, outcome: Outcome, console: Console) -> None:
    """One line on a trial that failed; nothing on one that did not."""
    if outcome.status == "failed":
        summary = (outcome.error or "").splitlines()[0]
        console.print(
            f"failed: {trial.task}, {trial.schedule}, lr {trial.lr:g}, seed {trial.seed}: "
            f"{summary}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
