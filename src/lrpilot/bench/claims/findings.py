"""The rows of a suite, looked up as claims need them: tuned, judged, in budget-equivalents."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrpilot.bench.results import ResultRow
from lrpilot.bench.statistics.reference import ReferenceCurve, admissible
from lrpilot.bench.suite import (
    BUDGET_REFERENCE,
    SHIPPED_LRS,
    TUNING_SEEDS,
    Suite,
    grid,
    nominal_lr,
)
from lrpilot.bench.trial import EVALUATIONS
from lrpilot.bench.tuning import Choice, tune
from lrpilot.tasks import find_task
from lrpilot.tasks.protocol import Split

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Track = Literal["T0", "T1", "T2"]


class Entrant(NamedTuple):
    """What competes within a family: a schedule under the family's optimizer, or a baseline."""

    optimizer: str
    schedule: str

    def label(self, family: str) -> str:
        """Its name where the family is known: the schedule, or the baseline's optimizer."""
        return self.schedule if self.optimizer == family else self.optimizer


class Cell(NamedTuple):
    """A task under a family of optimizers."""

    task: str
    family: str


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Budget-equivalents on test losses, (rates, seeds), seeds in the order of the suite.

    clipped: where they are the ends of the reference curve. lost: where the run did not end.
    """

    lrs: tuple[float, ...]
    rows: tuple[tuple[ResultRow, ...], ...]
    budget_equivalents: Array
    clipped: Mask
    lost: Mask


_ByRate = dict[float, dict[int, ResultRow]]


class Findings:
    """What ``rows`` show of the entrants of ``suite``. All that is computed is kept.

    The budget of a task is the suite's share of the task's own; rows of other budgets serve the
    reference curve alone. The reference is linear decay under the family's optimizer, tuned.
    Final losses are judged on the test split; rates are chosen, and evaluations during the run
    read, on the validation split.

    failed: how many trials raised an error or ran out of time. Such a run is lost, as one that
        diverged is; but an optimizer of which every trial on a task failed was not run there: a
        package is missing, most likely.
    """

    def __init__(self, rows: Iterable[ResultRow], suite: Suite) -> None:
        self.suite = suite
        self._runs: dict[tuple[str, str, str, int], _ByRate] = {}
        self.failed = 0
        started: set[tuple[str, str]] = set()
        for row in rows:
            if row.status == "failed":
                self.failed += 1
            else:
                started.add((row.task, row.optimizer))
            name = (row.task, row.optimizer, row.schedule, row.total_steps)
            self._runs.setdefault(name, {}).setdefault(row.lr, {})[row.seed] = row
        self._runs = {name: runs for name, runs in self._runs.items() if name[:2] in started}
        self._curves: dict[tuple[Cell, Split], ReferenceCurve | str] = {}
        self._choices: dict[tuple[str, Entrant, int], Choice | None] = {}
        self._scores: dict[tuple[Cell, Entrant, Track], Scores | None] = {}

    @property
    def cells(self) -> list[Cell]:
        """All tasks under all families of the suite."""
        return [Cell(task, family) for task in self.suite.tasks for family in self.suite.families]

    @cached_property
    def reasons(self) -> Mapping[Cell, Sequence[str]]:
        """Why a cell cannot tell schedules apart: empty for one that can; no entry if not run."""
        return {cell: self._reasons(cell) for cell in self.cells if self._was_run(cell)}

    def entrants(self, family: str) -> list[Entrant]:
        """All of a family: the schedules under its optimizer, then its baselines."""
        baselines = self.suite.baselines.get(family, ())
        return [
            *(Entrant(family, schedule) for schedule in self.suite.schedules),
            *(Entrant(optimizer, schedule) for optimizer, schedule in baselines),
        ]

    def steps(self, task: str) -> int:
        """The budget of ``task`` in the suite."""
        return round(find_task(task).total_steps * self.suite.steps)

    def tuned(self, task: str, entrant: Entrant, steps: int | None = None) -> Choice | None:
        """The best rate on the tuning seeds, of all rates that were tried; None if not run."""
        steps = steps or self.steps(task)
        key = (task, entrant, steps)
        if key not in self._choices:
            by_rate = self._runs.get(_key(task, entrant, steps), {})
            tried = sorted(lr for lr in by_rate if all(s in by_rate[lr] for s in TUNING_SEEDS))
            losses = [[by_rate[lr][s].validation_loss for s in TUNING_SEEDS] for lr in tried]
            self._choices[key] = tune(tried, losses) if tried else None
        return self._choices[key]

    def curve(self, cell: Cell, split: Split = "test") -> ReferenceCurve | None:
        """The reference curve; None if it was not run or cannot be one."""
        found = self._curve(cell, split)
        return found if isinstance(found, ReferenceCurve) else None

    def scores(self, cell: Cell, entrant: Entrant, track: Track) -> Scores | None:
        """What an entrant reaches by the rules of a track; None if a run of it is missing.

        T0: at the rate that the optimizer is shipped with, if the response has it. T1: at its best
        rate. T2: at every rate of the response. Baselines have T1 alone: they run at no rate that
        was not chosen by its outcome.
        """
        key = (cell, entrant, track)
        if key not in self._scores:
            self._scores[key] = self._score(cell, entrant, track)
        return self._scores[key]

    def _score(self, cell: Cell, entrant: Entrant, track: Track) -> Scores | None:
        curve, lrs = self.curve(cell), self._rates(cell, entrant, track)
        by_rate = self._runs.get(_key(cell.task, entrant, self.steps(cell.task)), {})
        seeds = self.suite.evaluation_seeds
        if curve is None or not lrs:
            return None
        if not all(lr in by_rate and all(seed in by_rate[lr] for seed in seeds) for lr in lrs):
            return None
        rows = tuple(tuple(by_rate[lr][seed] for seed in seeds) for lr in lrs)
        losses = [[row.test_loss for row in at_rate] for at_rate in rows]
        return Scores(
            lrs=lrs,
            rows=rows,
            budget_equivalents=np.array(
                [[curve.budget_equivalent(loss) for loss in at_rate] for at_rate in losses]
            ),
            clipped=np.array([[curve.censored(loss) for loss in at_rate] for at_rate in losses]),
            lost=np.array([[row.status != "done" for row in at_rate] for at_rate in rows]),
        )

    def _rates(self, cell: Cell, entrant: Entrant, track: Track) -> tuple[float, ...]:
        if track == "T1":
            choice = self.tuned(cell.task, entrant)
            return () if choice is None else (choice.lr,)
        if entrant.optimizer != cell.family:
            return ()
        nominal = nominal_lr(find_task(cell.task), cell.family)
        response = grid(nominal, self.suite.response_points)
        if track == "T2":
            return response
        return tuple(lr for lr in response if lr == SHIPPED_LRS.get(cell.family))

    def _was_run(self, cell: Cell) -> bool:
        reference = Entrant(cell.family, BUDGET_REFERENCE)
        return self.tuned(cell.task, reference) is not None

    def _reasons(self, cell: Cell) -> list[str]:
        curve = self._curve(cell, "test")
        if isinstance(curve, str):
            return [curve]
        reference = Entrant(cell.family, BUDGET_REFERENCE)
        constant = self._finals(cell, Entrant(cell.family, "constant"), self.steps(cell.task))
        choice = self.tuned(cell.task, reference)
        own = self._finals(cell, reference, self.steps(cell.task))
        if constant is None or choice is None or own is None:
            return ["no control: the constant schedule or the reference was not run"]
        lost = sum(loss is None for loss in own)
        return admissible(
            curve,
            best_at_edge=choice.at_edge,
            diverged_share=lost / len(own),
            constant_losses=constant,
            reference_losses=own,
        )

    def _curve(self, cell: Cell, split: Split) -> ReferenceCurve | str:
        """The curve, or why there is none."""
        key = (cell, split)
        if key not in self._curves:
            self._curves[key] = self._made_curve(cell, split)
        return self._curves[key]

    def _made_curve(self, cell: Cell, split: Split) -> ReferenceCurve | str:
        reference = Entrant(cell.family, BUDGET_REFERENCE)
        losses: list[tuple[float, ...]] = []
        for horizon in self.suite.horizons:
            steps = round(horizon * self.steps(cell.task))
            finals = self._finals(cell, reference, steps, split)
            if finals is None:
                return f"no reference curve: horizon {horizon:g} was not run"
            losses.append(tuple(math.inf if loss is None else loss for loss in finals))
        try:
            return ReferenceCurve(horizons=self.suite.horizons, losses=tuple(losses))
        except ValueError as error:
            return f"no reference curve: {error}"

    def _finals(
        self, cell: Cell, entrant: Entrant, steps: int, split: Split = "test"
    ) -> list[float | None] | None:
        """Final losses of the evaluation seeds at the best rate; None if one is missing."""
        choice = self.tuned(cell.task, entrant, steps)
        if choice is None:
            return None
        by_seed = self._runs[_key(cell.task, entrant, steps)][choice.lr]
        if any(seed not in by_seed for seed in self.suite.evaluation_seeds):
            return None
        rows = [by_seed[seed] for seed in self.suite.evaluation_seeds]
        return [row.test_loss if split == "test" else row.validation_loss for row in rows]


def _key(task: str, entrant: Entrant, steps: int) -> tuple[str, str, str, int]:
    return task, entrant.optimizer, entrant.schedule, steps


def evaluations(row: ResultRow) -> list[tuple[int, float]]:
    """(steps taken, validation loss), as the row's evaluations were spread over its budget."""
    return [
        (round(row.total_steps * at / EVALUATIONS), loss) for at, loss in enumerate(row.evaluations)
    ]
