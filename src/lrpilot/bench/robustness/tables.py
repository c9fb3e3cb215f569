"""The tables of a robustness study, for a terminal and for Markdown alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from lrpilot.bench.perturbations import PERTURBATIONS
from lrpilot.bench.robustness.summary import Bite, Penalty, Recovery, Summary
from lrpilot.bench.robustness.verdicts import RIVALS, Cells, Measure, RunTrack, Standing
from lrpilot.bench.sheet import Sheet, ratio

Entry = TypeVar("Entry", Penalty, Recovery)

RESPECTS: tuple[tuple[RunTrack, Measure, str], ...] = (
    ("surprise", "loss", "final loss, perturbation a surprise"),
    ("surprise", "penalty", "penalty, perturbation a surprise"),
    ("expected", "loss", "final loss, rate tuned under the perturbation"),
)


def tables(summary: Summary) -> list[Sheet]:
    """All of them."""
    return [
        bite_sheet(summary),
        penalty_sheet(summary),
        recovery_sheet(summary),
        *(standing_sheet(summary, *respect) for respect in RESPECTS),
        unselected_sheet(summary),
        divergence_sheet(summary),
    ]


def perturbation_sheet(summary: Summary) -> Sheet:
    """What each perturbation does."""
    names = dict.fromkeys(bite.perturbation for bite in summary.bites)
    rows = [[f"`{name}`", PERTURBATIONS[name].summary] for name in names]
    return Sheet("Perturbations", ["Perturbation", "What it does"], rows)


def bite_sheet(summary: Summary) -> Sheet:
    """Effect on the reference's final loss by perturbation and task; admitted ones are starred."""
    tasks = list(dict.fromkeys(bite.task for bite in summary.bites))
    rows: list[list[str]] = []
    for name in dict.fromkeys(bite.perturbation for bite in summary.bites):
        bites = {bite.task: bite for bite in summary.bites if bite.perturbation == name}
        changed = sum(bite.changed_of_all for bite in bites.values())
        runs = sum(bite.runs for bite in bites.values())
        cells = [_bite(bites[task]) for task in tasks]
        rows.append([f"`{name}`", *cells, f"{changed:,} of {runs:,}"])
    columns = ["Perturbation", *tasks, "changed trajectories"]
    return Sheet("Bite test: final loss over the unperturbed twin's (deviations)", columns, rows)


def _bite(bite: Bite) -> str:
    if bite.changed == 0:
        return "no bit"
    sizes = abs(bite.effect) / bite.deviation if bite.deviation else math.inf
    text = f"{ratio(math.exp(bite.effect))} ({sizes:.1f})"
    return f"**{text}** *" if bite.admitted else text


def penalty_sheet(summary: Summary) -> Sheet:
    """Penalties by perturbation and schedule, where some task is admitted."""
    return Sheet(
        "Penalty: final loss over the unperturbed twin's",
        ["Perturbation", *_schedules(summary)],
        _grid(summary, summary.penalties, _penalty),
    )


def _penalty(penalty: Penalty) -> str | None:
    if penalty.runs == 0:
        return None
    return f"{ratio(penalty.ratio)} ({ratio(penalty.low)}–{ratio(penalty.high)})"


def recovery_sheet(summary: Summary) -> Sheet:
    """Recovery by perturbation and schedule: by task, as a range, and where it does not come."""
    return Sheet(
        "Recovery: share of the budget after the perturbation's end, over tasks",
        ["Perturbation", *_schedules(summary)],
        _grid(summary, summary.recoveries, _recovery),
    )


def _recovery(recovery: Recovery) -> str | None:
    found = sorted(share for share in recovery.shares.values() if share is not None)
    never = len(recovery.shares) - len(found)
    if not recovery.shares:
        return None
    ends = [f"{share:.0%}" for share in dict.fromkeys((found[0], found[-1]))] if found else []
    span = f"{'–'.join(ends)}, " if ends else ""
    return f"{span}never on {never} of {len(recovery.shares)}"


def standing_sheet(summary: Summary, track: RunTrack, measure: Measure, respect: str) -> Sheet:
    """Every schedule against the rivals in one respect."""
    rows: list[list[str]] = []
    for schedule in _schedules(summary):
        found = {
            standing.rival: standing
            for standing in summary.standings
            if (standing.schedule, standing.track, standing.measure) == (schedule, track, measure)
            and standing.cells == "admitted"
        }
        cells = [cell for rival in RIVALS for cell in _standing(found.get(rival))]
        rows.append([schedule, *cells])
    columns = ["Schedule"]
    for rival in RIVALS:
        columns += [f"over {rival}'s (95 %)", "better / identical / undecided / worse"]
    return Sheet(f"Verdicts: {respect}", columns, rows)


def _standing(standing: Standing | None) -> tuple[str, str]:
    if standing is None:
        return "–", "–"
    counts = (standing.better, standing.identical, standing.undecided, standing.worse)
    ratios = f"{ratio(standing.ratio)} ({ratio(standing.low)}–{ratio(standing.high)})"
    return ratios, " / ".join(map(str, counts))


def unselected_sheet(summary: Summary) -> Sheet:
    """Ratios of final losses without perturbation, and over all cells, admitted or not."""
    kinds: tuple[tuple[Cells, RunTrack, str], ...] = (
        ("unperturbed", "surprise", "unperturbed"),
        ("all", "surprise", "all cells, a surprise"),
        ("all", "expected", "all cells, expected"),
    )
    found = {
        (standing.schedule, standing.rival, standing.cells, standing.track): standing
        for standing in summary.standings
        if standing.measure == "loss"
    }
    rows = [
        [
            schedule,
            *(
                _standing(found.get((schedule, rival, cells, track)))[0]
                for rival in RIVALS
                for cells, track, _ in kinds
            ),
        ]
        for schedule in _schedules(summary)
    ]
    columns = [f"over {rival}'s: {words}" for rival in RIVALS for *_, words in kinds]
    return Sheet(
        "Verdicts: final loss, whether a perturbation bites or not", ["Schedule", *columns], rows
    )


def divergence_sheet(summary: Summary) -> Sheet:
    """Runs that diverged."""
    rows = [
        [schedule, str(of_track["surprise"]), str(of_track["expected"])]
        for schedule, of_track in summary.diverged.items()
    ]
    return Sheet("Diverged runs", ["Schedule", "surprise", "expected"], rows)


def _schedules(summary: Summary) -> list[str]:
    return list(summary.diverged)


def _grid(
    summary: Summary, entries: Sequence[Entry], show: Callable[[Entry], str | None]
) -> list[list[str]]:
    by_place = {(entry.perturbation, entry.schedule): show(entry) for entry in entries}
    rows: list[list[str]] = []
    for name in dict.fromkeys(perturbation for perturbation, _ in by_place):
        cells = [by_place[name, schedule] for schedule in _schedules(summary)]
        if any(cells):
            rows.append([f"`{name}`", *(cell or "–" for cell in cells)])
    return rows
