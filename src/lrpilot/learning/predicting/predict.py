"""Ridge regression from a run's beginning to its best rate and anneal, judged on tasks left out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lrpilot.bench.store import Store
from lrpilot.learning.past.run import PastRun
from lrpilot.learning.predicting.answer import Line, Prediction, gains
from lrpilot.learning.predicting.beginnings import Beginning, first_losses
from lrpilot.learning.predicting.samples import Sample, samples
from lrpilot.learning.runs import Floats

PENALTY = 10.0  # on standardised numbers, of some hundred runs that are alike within a task


class Learned:
    """What some samples say: the usual choices, and a regression of what these miss."""

    def __init__(self, taught: Sequence[Sample]) -> None:
        self.anneals = tuple(taught[0].excess)
        self.shifts = [sample.shift for sample in taught]
        weights = _weights([sample.cell.task for sample in taught])
        self.plain = float(np.average(self.shifts, weights=weights))
        logs: dict[str, dict[str, float]] = {}  # log10 of the best rates, by optimizer and task
        excess: dict[tuple[str, str], dict[str, float]] = {}
        for sample in taught:
            best = math.log10(sample.beginning.lr) + sample.shift
            logs.setdefault(sample.cell.optimizer, {})[sample.cell.task] = best
            excess[sample.cell.task, sample.cell.optimizer] = dict(sample.excess)
        self.rates = {name: statistics.fmean(of_task.values()) for name, of_task in logs.items()}
        self.usual_anneal = min(
            self.anneals, key=lambda name: statistics.fmean(one[name] for one in excess.values())
        )
        self.model: Any = make_pipeline(StandardScaler(), Ridge(alpha=PENALTY))
        numbers = [self._numbers(sample.beginning) for sample in taught]
        missed = [
            [sample.shift - self.usual_shift(sample.beginning), *sample.excess.values()]
            for sample in taught
        ]
        self.model.fit(numbers, missed, ridge__sample_weight=weights)

    def predicted(self, beginning: Beginning) -> tuple[float, str]:
        """log10 of the best rate over the run's, within what was seen, and the best anneal."""
        found: Floats = self.model.predict([self._numbers(beginning)])[0]
        shift = self.usual_shift(beginning) + float(found[0])
        shift = min(max(shift, min(self.shifts)), max(self.shifts))
        return shift, self.anneals[int(found[1:].argmin())]

    def usual_shift(self, beginning: Beginning) -> float:
        """log10 of the usual rate over the run's."""
        return self._usual_log(beginning) - math.log10(beginning.lr)

    def _numbers(self, beginning: Beginning) -> list[float]:
        return beginning.numbers(self._usual_log(beginning))

    def _usual_log(self, beginning: Beginning) -> float:
        """log10 of the optimizer's mean best rate; of all optimizers' if it is not known."""
        known = self.rates.get(beginning.optimizer)
        return statistics.fmean(self.rates.values()) if known is None else known


def predict_store(
    store: Store,
    *,
    tasks: Sequence[str] = (),
    run: PastRun | None = None,
    steps: int | None = None,
) -> Prediction:
    """Learn from the trials of ``store``, say how far that is off elsewhere, and predict ``run``.

    tasks: of the store; empty takes all. run: one that has at least begun. steps: its horizon;
    None for its last step.

    Raises ValueError if the store has too little, or the run does not say what is needed.
    """
    found = samples(store, tasks)
    lines = tuple(left_out(found))
    rate_gain, rate_interval = gains([one.rate for one in lines], [one.usual for one in lines])
    anneal_gain, anneal_interval = gains(
        [one.anneal for one in lines], [one.usual_anneal for one in lines]
    )
    learned = Learned(found)
    about: dict[str, Any] = {}
    if run is not None:
        beginning = beginning_of(run, steps)
        shift, anneal = learned.predicted(beginning)
        about = {
            "run": run.name,
            "lr": beginning.lr,
            "suggested_lr": beginning.lr * 10**shift,
            "usual_lr": beginning.lr * 10 ** learned.usual_shift(beginning),
            "schedule": anneal,
            "usual_schedule": learned.usual_anneal,
        }
    return Prediction(
        lines=lines,
        anneals=learned.anneals,
        rate_gain=rate_gain,
        rate_interval=rate_interval,
        anneal_gain=anneal_gain,
        anneal_interval=anneal_interval,
        **about,
    )


def left_out(found: Sequence[Sample]) -> Iterable[Line]:
    """For each task, the errors there of what the other tasks say."""
    for task in dict.fromkeys(sample.cell.task for sample in found):
        theirs = [sample for sample in found if sample.cell.task == task]
        learned = Learned([sample for sample in found if sample.cell.task != task])
        rates: list[float] = []
        usual: list[float] = []
        anneals: list[float] = []
        for sample in theirs:
            shift, anneal = learned.predicted(sample.beginning)
            rates.append(abs(shift - sample.shift))
            usual.append(abs(learned.usual_shift(sample.beginning) - sample.shift))
            anneals.append(sample.excess[anneal])
        yield Line(
            task=task,
            samples=len(theirs),
            plain=statistics.fmean(abs(learned.plain - sample.shift) for sample in theirs),
            usual=statistics.fmean(usual),
            rate=statistics.fmean(rates),
            usual_anneal=statistics.fmean(s.excess[learned.usual_anneal] for s in theirs),
            anneal=statistics.fmean(anneals),
        )


def beginning_of(run: PastRun, steps: int | None) -> Beginning:
    """The beginning of an imported run.

    Raises ValueError if its log has no learning rate, or too few early losses.
    """
    rates = [rate for _, rate in run.series.get("rates", []) if rate > 0]
    described: Mapping[str, str] = run.description
    if not rates:
        raise ValueError(
            f"the run {run.name!r} has no learning rate; import it again with --lr COLUMN"
        )
    horizon = steps or run.steps
    return Beginning(
        optimizer=described.get("optimizer", "").lower(),
        lr=rates[0],
        steps=horizon,
        losses=first_losses(run.losses, horizon),
    )


def _weights(tasks: Sequence[str]) -> list[float]:
    """One per sample, so that every task weighs the same; 1 on average."""
    counts = {task: tasks.count(task) for task in tasks}
    return [len(tasks) / (len(counts) * counts[task]) for task in tasks]
