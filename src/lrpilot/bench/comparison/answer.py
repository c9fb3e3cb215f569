"""What a comparison shows: each schedule at its best rate, beside the reference at its own."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TypeVar

from lrpilot.bench.statistics.stats import MARGIN, Verdict, interval, verdict
from lrpilot.bench.suite import REFERENCE
from lrpilot.bench.trial import Outcome, Trial

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """All trials of one schedule on one task under one optimizer.

    by_lr: outcomes in the order of the seeds, for each base rate of the grid, rates rising.
    """

    task: str
    optimizer: str
    schedule: str
    by_lr: dict[float, list[Outcome]]

    @cached_property
    def best_lr(self) -> float:
        """The rate with the fewest lost runs, and among these the lowest mean validation loss."""

        def rank(lr: float) -> tuple[int, float]:
            kept = _kept(self.by_lr[lr], "validation")
            lost = len(self.by_lr[lr]) - len(kept)
            return lost, statistics.fmean(kept) if kept else math.inf

        return min(self.by_lr, key=rank)

    @property
    def outcomes(self) -> list[Outcome]:
        """All outcomes, at every rate."""
        return [outcome for outcomes in self.by_lr.values() for outcome in outcomes]

    @property
    def best(self) -> list[Outcome]:
        """The outcomes at the best rate."""
        return self.by_lr[self.best_lr]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the answer: a schedule at its best rate, beside the reference at its own.

    mean, interval: final validation loss over the seeds that ended, with its 95 % t interval.
    test_mean, test_interval: the same for the test loss, if the task has one.
    judged_on: "test" if the rate was chosen from a grid, which is done on validation.
    difference, difference_interval: paired difference to the reference, in that loss.
    at_edge: whether the best rate is the lowest or highest of the grid, so that a better one may
        lie outside.
    """

    name: str
    task: str
    optimizer: str
    lr: float
    lrs: tuple[float, ...]
    at_edge: bool
    seeds: int
    diverged: int
    failed: int
    mean: float | None
    interval: Interval | None
    test_mean: float | None
    test_interval: Interval | None
    judged_on: str
    reference: str
    difference: float | None
    difference_interval: Interval | None
    margin: float
    verdict: Verdict | None

    def as_json(self) -> dict[str, object]:
        """The row as strict JSON-able data."""
        return asdict(self)


CellOrRow = TypeVar("CellOrRow", Cell, Row)


def cells(outcomes: Iterable[tuple[Trial, Outcome]]) -> list[Cell]:
    """Sort outcomes into cells; every cell gets its rates in rising order."""
    found: dict[tuple[str, str, str], dict[float, list[tuple[int, Outcome]]]] = {}
    for trial, outcome in outcomes:
        by_lr = found.setdefault((trial.task, trial.optimizer, trial.schedule), {})
        by_lr.setdefault(trial.lr, []).append((trial.seed, outcome))
    return [
        Cell(
            task=task,
            optimizer=optimizer,
            schedule=schedule,
            by_lr={
                lr: [outcome for _, outcome in sorted(by_lr[lr], key=lambda pair: pair[0])]
                for lr in sorted(by_lr)
            },
        )
        for (task, optimizer, schedule), by_lr in found.items()
    ]


def rows(found: Sequence[Cell]) -> list[Row]:
    """The answer: a row per cell, each beside the reference of its task and optimizer.

    The reference is cosine, or the first schedule if cosine does not take part.
    """
    answer: list[Row] = []
    for peers in by_task(found):
        reference = next((peer for peer in peers if peer.schedule == REFERENCE), peers[0])
        answer += [_row(cell, reference) for cell in peers]
    return answer


def by_task(items: Iterable[CellOrRow]) -> list[list[CellOrRow]]:
    """Those of one task and optimizer together, in the order in which they first come."""
    groups: dict[tuple[str, str], list[CellOrRow]] = {}
    for item in items:
        groups.setdefault((item.task, item.optimizer), []).append(item)
    return list(groups.values())


def _row(cell: Cell, reference: Cell) -> Row:
    lrs = tuple(cell.by_lr)
    validation, test = _kept(cell.best, "validation"), _kept(cell.best, "test")
    has_test = bool(test) and bool(_kept(reference.best, "test"))
    judged_on = "test" if len(lrs) > 1 and has_test else "validation"
    mine, theirs = _finals(cell.best, judged_on), _finals(reference.best, judged_on)
    differences = [a - b for a, b in zip(mine, theirs, strict=True) if math.isfinite(a - b)]
    failed = sum(outcome.status == "failed" for outcome in cell.best + reference.best)
    return Row(
        name=cell.schedule,
        task=cell.task,
        optimizer=cell.optimizer,
        lr=cell.best_lr,
        lrs=lrs,
        at_edge=len(lrs) > 1 and cell.best_lr in (lrs[0], lrs[-1]),
        seeds=len(cell.best),
        diverged=sum(outcome.status == "diverged" for outcome in cell.best),
        failed=sum(outcome.status == "failed" for outcome in cell.best),
        mean=statistics.fmean(validation) if validation else None,
        interval=interval(validation),
        test_mean=statistics.fmean(test) if test else None,
        test_interval=interval(test),
        judged_on=judged_on,
        reference=reference.schedule,
        difference=statistics.fmean(differences) if differences else None,
        difference_interval=interval(differences),
        margin=MARGIN,
        verdict=None if cell is reference else "undecided" if failed else verdict(mine, theirs),
    )


def _finals(outcomes: Sequence[Outcome], split: str) -> list[float]:
    """Final losses; infinite for a run that has none."""
    losses = [o.validation_loss if split == "validation" else o.test_loss for o in outcomes]
    return [math.inf if loss is None else loss for loss in losses]


def _kept(outcomes: Sequence[Outcome], split: str) -> list[float]:
    return [loss for loss in _finals(outcomes, split) if math.isfinite(loss)]
