"""The study's tables: usable decades, losses at tuned rates, lost runs, and what tells nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lrpilot.bench.claims.comparisons import decades
from lrpilot.bench.claims.findings import Cell, Entrant, Findings
from lrpilot.bench.nmf.study import ARMS, optimizer_name
from lrpilot.bench.sheet import Sheet
from lrpilot.bench.statistics.aggregates import (
    Statistic,
    geometric_mean,
    hierarchical_bootstrap,
)
from lrpilot.bench.suite import BUDGET_REFERENCE

DRAWS, SEED = 2000, 20261126
TITLES = {
    "bound": "inside the bound",
    "absolute": "absolute, clipped",
    "unclipped": "absolute, not clipped",
}


class Place(NamedTuple):
    """A row and a column of a table: what runs under which noise, over all matrices."""

    family: str
    schedule: str
    arm: str

    @property
    def entrant(self) -> Entrant:
        """As the findings call it."""
        return Entrant(optimizer_name(self.arm, self.family), self.schedule)


def tables(findings: Findings) -> list[Sheet]:
    """All of them."""
    return [
        decades_sheet(findings),
        tuned_sheet(findings),
        lost_sheet(findings),
        admission_sheet(findings),
    ]


def decades_sheet(findings: Findings) -> Sheet:
    """How wide a range of rates is usable."""

    def of_cell(cell: Cell, place: Place) -> list[float] | None:
        scores = findings.scores(cell, place.entrant, "T2")
        if scores is None:
            return None
        return [decades(scores, at) for at in range(len(scores.rows[0]))]

    def shown(place: Place) -> str:
        cells = _cells(findings, place.family)
        return _estimate(cells, place, of_cell, lambda values: np.log(geometric_mean(values)))

    # Of all matrices: a range of rates can be usable where schedules cannot be told apart.
    return _sheet(findings, "Usable decades of rates, of five", shown, admitted=False)


def tuned_sheet(findings: Findings) -> Sheet:
    """How each does at its best rate, in budgets of linear decay inside the bound."""

    def of_cell(cell: Cell, place: Place) -> list[float] | None:
        reference = Entrant(cell.family, BUDGET_REFERENCE)
        scores, other = (findings.scores(cell, one, "T1") for one in (place.entrant, reference))
        if scores is None or other is None:
            return None
        return np.log(scores.budget_equivalents / other.budget_equivalents)[0].tolist()

    title = "Budget-equivalent at the best rate, over that of linear decay inside the bound"

    def shown(place: Place) -> str:
        return _estimate(_admitted(findings, place.family), place, of_cell, geometric_mean)

    return _sheet(findings, title, shown, admitted=True)


def lost_sheet(findings: Findings) -> Sheet:
    """How many runs end above their start, or not at all, of all rates, seeds and matrices."""

    def shown(place: Place) -> str:
        statuses = [
            row.status
            for cell in _cells(findings, place.family)
            for at_rate in findings.rows(cell, place.entrant, "T2") or ()
            for row in at_rate
        ]
        return f"{len(statuses) - statuses.count('done')} of {len(statuses)}"

    return _sheet(findings, "Runs that end above their start", shown, admitted=False)


def admission_sheet(findings: Findings) -> Sheet:
    """Which matrices under which noise cannot tell schedules apart, and why."""
    rows = [
        [cell.task, cell.family, "; ".join(reasons) or "-"]
        for cell, reasons in findings.reasons.items()
    ]
    return Sheet("What cannot tell schedules apart", ["matrix", "noise", "why"], rows)


def _sheet(
    findings: Findings, title: str, shown: Callable[[Place], str], *, admitted: bool
) -> Sheet:
    """One row per noise and schedule; with how many matrices the numbers are of."""
    rows: list[list[str]] = []
    for family in findings.suite.families:
        cells = [*(_admitted if admitted else _cells)(findings, family)]
        for schedule in findings.suite.schedules:
            numbers = [shown(Place(family, schedule, arm)) for arm in ARMS]
            rows.append([family, schedule, *numbers, str(len(cells))])
    return Sheet(title, ["noise", "schedule", *TITLES.values(), "matrices"], rows)


def _estimate(
    of: Iterable[Cell],
    place: Place,
    of_cell: Callable[[Cell, Place], Sequence[float] | None],
    statistic: Statistic,
) -> str:
    """Mean and interval over matrices, then seeds."""
    found = {cell.task: of_cell(cell, place) for cell in of}
    cells = {task: [values] for task, values in found.items() if values}
    if not cells:
        return "-"
    rng = np.random.default_rng(SEED)
    mean = hierarchical_bootstrap(cells, statistic, rng=rng, draws=DRAWS)
    return f"{mean.value:.2f} [{mean.low:.2f}, {mean.high:.2f}]".replace("-", "−")


def _cells(findings: Findings, family: str) -> Iterator[Cell]:
    return (cell for cell in findings.cells if cell.family == family)


def _admitted(findings: Findings, family: str) -> Iterator[Cell]:
    cells = _cells(findings, family)
    return (cell for cell in cells if not findings.reasons.get(cell, ("not run",)))
