"""Carry the study out: tune, evaluate by surprise, tune again under each perturbation, evaluate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import cast

from rich.console import Console

from lrpilot.bench.engines.engine import Engine, in_lots
from lrpilot.bench.engines.local import Advanced, Finished
from lrpilot.bench.engines.progress import Display
from lrpilot.bench.perturbations import PERTURBATIONS
from lrpilot.bench.robustness.rows import RobustnessRow, robustness_row
from lrpilot.bench.robustness.summary import Summary, summarise
from lrpilot.bench.robustness.tables import tables
from lrpilot.bench.sheet import Sheet
from lrpilot.bench.stages import Method
from lrpilot.bench.store import Store
from lrpilot.bench.suite import EVALUATION_SEEDS, TUNING_POINTS, TUNING_SEEDS
from lrpilot.bench.trial import Outcome, Trial
from lrpilot.bench.tuning import Losses, tune_all

PLACEBO = "placebo"  # begins the names of those that change nothing, and so are tuned already


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What is disturbed, and how.

    tasks: convex, curved, deep without and with non-linearity, all of them batchable.
    perturbations: the first is none.
    total_steps: of every run.
    """

    tasks: tuple[str, ...]
    perturbations: tuple[str, ...]
    schedules: tuple[str, ...]
    optimizer: str = "adam"
    total_steps: int = 300
    tuning_points: int = TUNING_POINTS
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS

    def trial(self, cell: Cell, lr: float, seed: int) -> Trial:
        """A trial of a cell, on the batched engine."""
        method = Method(cell.task, self.optimizer, cell.schedule, self.total_steps)
        return replace(method.trial(lr, seed), perturbation=cell.perturbation)


@dataclass(frozen=True, slots=True)
class Cell:
    """A schedule on a task under a perturbation."""

    task: str
    perturbation: str
    schedule: str


# 5 tasks, 18 perturbations, 9 schedules: 8,100 runs with ten seeds.
DESIGN = Design(
    tasks=("noisy-quadratic", "rosenbrock", "logreg-stream", "deep-linear", "digits-mlp"),
    perturbations=tuple(PERTURBATIONS),
    schedules=(
        *("constant", "cosine", "linear", "cosine-restarts", "exponential"),
        *("greedy", "greedy-untuned", "greedy-cooldown", "transformers-greedy"),
    ),
)


@dataclass(frozen=True, slots=True)
class StudyResult:
    """All evaluation runs, and what they show."""

    rows: list[RobustnessRow]
    summary: Summary

    def sheets(self) -> list[Sheet]:
        """The summary as tables."""
        return tables(self.summary)

    def as_json(self) -> str:
        """The summary, for programs; null for a number that there is none of."""
        return json.dumps(_finite(asdict(self.summary)), indent=2, allow_nan=False)


def run_study(
    store: Store,
    workers: int,
    console: Console,
    *,
    seeds: Sequence[int] = EVALUATION_SEEDS,
    design: Design = DESIGN,
) -> StudyResult:
    """Run what the store lacks; return the rows of all evaluation runs and their summary.

    Every schedule is tuned alike: on the nine-point half-decade grid, which is extended while the
    best rate is at its edge, with two seeds of its own. Rates are tuned twice. Without the
    perturbation, which then comes as a surprise: runs and their unperturbed twins have one rate,
    so that penalty and recovery are the perturbation's alone. And under it, as whoever knows the
    noise would: no schedule then wins since its rate happened to suit the noise.

    Raises ValueError if a trial failed, after the others have been stored.
    """
    with Engine(workers=workers) as engine:
        runner = _Runner(design, store, engine, console)
        plain = [Cell(task, "", name) for task in design.tasks for name in design.schedules]
        rates = runner.tuned(plain)
        surprised = {cell: rates[Cell(cell.task, "", cell.schedule)] for cell in _cells(design)}
        first = runner.run("surprise", _trials(design, surprised, seeds))
        disturbed = [
            cell for cell in surprised if cell.perturbation and not _is_placebo(cell.perturbation)
        ]
        expecting = runner.tuned(disturbed)
        elsewhere = {cell: lr for cell, lr in expecting.items() if lr != surprised[cell]}
        second = runner.run("expected", _trials(design, elsewhere, seeds))
    rows = [
        *_surprise_rows(first, expected={**surprised, **expecting}),
        *(robustness_row(trial, end, track="expected", twin=None) for trial, end in second.items()),
    ]
    return StudyResult(rows, summarise(rows))


def _cells(design: Design) -> list[Cell]:
    return [
        Cell(task, perturbation, schedule)
        for task in design.tasks
        for perturbation in design.perturbations
        for schedule in design.schedules
    ]


def _trials(design: Design, rates: Mapping[Cell, float], seeds: Sequence[int]) -> list[Trial]:
    return [design.trial(cell, lr, seed) for cell, lr in rates.items() for seed in seeds]


def _is_placebo(perturbation: str) -> bool:
    return perturbation.startswith(PLACEBO)


def _surprise_rows(
    outcomes: Mapping[Trial, Outcome], expected: Mapping[Cell, float]
) -> list[RobustnessRow]:
    rows: list[RobustnessRow] = []
    for trial, outcome in outcomes.items():
        cell = Cell(trial.task, trial.perturbation, trial.schedule)
        track = "both" if expected[cell] == trial.lr else "surprise"
        twin = outcomes[replace(trial, perturbation="")]
        rows.append(robustness_row(trial, outcome, track=track, twin=twin))
    return rows


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        entries = cast("dict[str, object]", value)
        return {name: _finite(entry) for name, entry in entries.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in cast("list[object]", value)]
    return value


class _Runner:
    def __init__(self, design: Design, store: Store, engine: Engine, console: Console) -> None:
        self.design = design
        self.store = store
        self.engine = engine
        self.console = console

    def tuned(self, cells: Sequence[Cell]) -> dict[Cell, float]:
        """Each cell's best rate; grids are extended until the best is not at their edge."""
        design = self.design

        def run(asked: list[tuple[Cell, float]]) -> dict[tuple[Cell, float], Losses]:
            trials = {
                (cell, lr): [design.trial(cell, lr, seed) for seed in design.tuning_seeds]
                for cell, lr in asked
            }
            ended = self.run("tuning", [trial for of_rate in trials.values() for trial in of_rate])
            return {
                at: [ended[trial].validation_loss for trial in of_rate]
                for at, of_rate in trials.items()
            }

        grids = {
            cell: Method(cell.task, design.optimizer, cell.schedule, design.total_steps).grid(
                design.tuning_points
            )
            for cell in cells
        }
        return {cell: tuned.lr for cell, tuned in tune_all(grids, run).items()}

    def run(self, what: str, trials: Sequence[Trial]) -> dict[Trial, Outcome]:
        """Outcomes of all ``trials``.

        Trials of one task and perturbation are run again if one of them is lacking. So they always
        run in the same company, on which the last bits of their losses may depend, and an
        interrupted study has the same trajectories, bit for bit, as one that was not.
        """
        lacking = {(trial.task, trial.perturbation) for trial in self._missing(trials)}
        wanted = [trial for trial in trials if (trial.task, trial.perturbation) in lacking]
        if wanted:
            self.console.print(f"{what}: {len(wanted):,} of {len(trials):,} trials to run")
            self._do(wanted)
        outcomes = dict(self.store.outcomes(trials, curves=False))
        failed = [outcome.error for outcome in outcomes.values() if outcome.status == "failed"]
        if failed:
            raise ValueError(
                f"{len(failed)} of {len(trials)} trials failed, the first with: "
                f"{(failed[0] or '').splitlines()[0]}"
            )
        return outcomes

    def _missing(self, trials: Sequence[Trial]) -> list[Trial]:
        stored = self.store.outcomes(trials, curves=False)
        failed = [trial for trial, outcome in stored if outcome.status == "failed"]
        return [*self.store.missing(trials), *failed]

    def _do(self, trials: Sequence[Trial]) -> None:
        with (
            Display(trials, self.console) as display,
            closing(self.engine.run(trials)) as events,
        ):
            for pairs in in_lots(_shown(events, display)):
                self.store.add_many(pairs, keep_curves=False)


def _shown(
    events: Iterable[Advanced | Finished], display: Display
) -> Iterator[Advanced | Finished]:
    for event in events:
        display.show(event)
        yield event
