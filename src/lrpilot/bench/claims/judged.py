"""What the rows of a suite say of one claim: all of its verdict but the ruling."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from lrpilot.bench.claims.claim import UNITS, Claim, ClaimsFile
from lrpilot.bench.claims.comparisons import (
    WITHOUT_MARGIN,
    Comparison,
    compared,
    shares_if_equal,
    verdicts_of,
    without_usable,
)
from lrpilot.bench.claims.findings import Cell, Entrant, Findings, Scores
from lrpilot.bench.claims.rules import MIN_TASKS, Bounds
from lrpilot.bench.claims.sampling import (
    beside,
    estimate,
    p_value,
    point,
    share_of,
    strict,
    without_a_task,
)
from lrpilot.bench.claims.verdict import Judgement, Verdict, untested
from lrpilot.bench.statistics.response import USABLE

SEED = 20261125  # of every bootstrap, together with the claim's id
PART_DRAWS = 1000
MARGINS = (0.1, 0.2)  # beside the claim's own

TRACKS = {
    "T0": "at the rate that the optimizer is shipped with",
    "T1": "each at its best rate",
    "T2": "each over the same rates of {decades:g} decades",
    "T3": "each at the best of random rates of {decades:g} decades",
}


def judge(
    claim: Claim,
    file: ClaimsFile,
    findings: Findings,
    splits: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Judgement:
    """What becomes of a claim on the cells of ``findings``.

    splits: development tasks and held-out tasks, whose numbers are given apart.
    """
    return _Judged(claim, file, findings).judgement(splits)


class _Judged:
    """One claim with its comparisons.

    missing: pairs of method and comparator of which runs are missing; absent: names of those that
    the suite does not have.
    """

    def __init__(self, claim: Claim, file: ClaimsFile, findings: Findings) -> None:
        self.claim = claim
        self.findings = findings
        self.all: list[Comparison] = []
        self.missing = 0
        self.absent: dict[str, None] = {}
        families = claim.families or findings.suite.families
        for cell in findings.cells if claim.metric != "none" and not claim.untested else ():
            if cell.family in families and self._has_rates(cell.task):
                self._compare(file, cell)
        self.admitted = [each for each in self.all if not findings.reasons.get(each.cell)]

    def judgement(self, splits: tuple[Sequence[str], Sequence[str]]) -> Judgement:
        claim, admitted = self.claim, self.admitted
        refused = [each.cell for each in self.all if self.findings.reasons.get(each.cell)]
        blank = replace(
            untested(claim, UNITS[claim.metric], self._untested()),
            protocol=self._protocol(),
            missing=self.missing,
            absent=tuple(self.absent),
            inadmissible=tuple(dict.fromkeys(f"{cell.task}, {cell.family}" for cell in refused)),
        )
        if not admitted:
            return Judgement(claim, blank, None, ())
        rng = np.random.default_rng([SEED, zlib.crc32(claim.id.encode())])
        number, bounds = estimate(claim.metric, admitted, rng)
        parts = list(self._parts(rng))
        tasks = {each.cell.task for each in admitted}
        verdict = replace(
            self._shares(self._counted(blank), rng),
            estimate=number.value,
            low=number.low,
            high=number.high,
            p=p_value(claim, admitted),
            tasks=len(tasks),
            reason=f"fewer than {MIN_TASKS} tasks" if len(tasks) < MIN_TASKS else "",
            development=self._on(splits[0]),
            held_out=self._on(splits[1]),
            with_inadmissible=point(claim.metric, self.all) if refused else None,
            by_part=tuple((name, value) for name, value, _, _ in parts),
        )
        enough = tuple(part for _, _, part, of_tasks in parts if of_tasks >= MIN_TASKS)
        return Judgement(claim, verdict, bounds, enough)

    def _has_rates(self, task: str) -> bool:
        """Whether the suite trains at the rates that the track asks for: any, or the best."""
        return self.claim.track == "T1" or task in self.findings.suite.responses

    def _compare(self, file: ClaimsFile, cell: Cell) -> None:
        """Add the comparisons of a cell.

        A name that has no entrant in the family is of other families, and nothing is missing.
        """
        entrant = file.entrant(self.claim.method, cell.family)
        present = self.findings.entrants(cell.family)
        for name in self.claim.comparators:
            other = file.entrant(name, cell.family)
            if entrant is None or other is None:
                continue
            if entrant not in present or other not in present:
                self.absent[name if entrant in present else self.claim.method] = None
                continue
            found = compared(self.claim, self.findings, cell, entrant, other)
            if found is None:
                self.missing += 1
            else:
                self.all.append(found)

    def _untested(self) -> str:
        if self.claim.untested:
            return self.claim.untested
        families = self.claim.families
        if families and not set(families) & set(self.findings.suite.families):
            return f"the suite has no {', '.join(families)}"
        if self.all:
            return "no cell that was run can tell schedules apart"
        if self.missing:
            return f"none of its {self.missing} cells has been run in full"
        return f"the suite has no {', '.join(self.absent) or self.claim.method}"

    def _protocol(self) -> str:
        suite, claim = self.findings.suite, self.claim
        if claim.track not in TRACKS:
            return ""
        families = [one for one in suite.families if one in (claim.families or suite.families)]
        words = TRACKS[claim.track].format(decades=(suite.response_points - 1) / 2)
        extra = {
            "usable decades": f"; usable from {USABLE:g} of the budget on",
            "expected best of 3": "; the best of three chosen on validation",
        }.get(claim.metric, "")
        if claim.metric.startswith("faster"):
            share = {1.0: "the whole budget", 0.5: "half of the budget"}.get(claim.target)
            extra = (
                "; to the loss that the tuned reference reaches with "
                f"{share or f'{claim.target:g} of the budget'}"
            )
        count = len(suite.evaluation_seeds)
        seeds = f"{count} paired seeds"
        if claim.comparators == (claim.method,):
            seeds = f"{count // 2} seeds beside {count // 2} others"
        if claim.metric not in WITHOUT_MARGIN:
            extra = f"; margin {claim.margin:.0%}{extra}".replace("%", " %")
        return f"{claim.track}, {words}; {', '.join(families)}; {seeds}{extra}"

    def _counted(self, verdict: Verdict) -> Verdict:
        verdicts = [one for each in self.admitted for one in each.verdicts]
        mine = _distinct(each.mine for each in self.admitted)
        theirs = _distinct(each.theirs for each in self.admitted)
        edges = 0
        if self.claim.track == "T1":
            choices = [
                self.findings.tuned(row.task, Entrant(row.optimizer, row.schedule))
                for row in (scores.rows[0][0] for scores in mine)
            ]
            edges = sum(choice is not None and choice.at_edge for choice in choices)
        unusable = None
        if self.claim.metric == "usable decades":
            unusable = (fmean(map(without_usable, mine)), fmean(map(without_usable, theirs)))
        return replace(
            verdict,
            unusable=unusable,
            cells=len(verdicts),
            better=verdicts.count("better"),
            not_worse=verdicts.count("not worse"),
            undecided=verdicts.count("undecided"),
            worse=verdicts.count("worse"),
            undecided_share=verdicts.count("undecided") / len(verdicts),
            runs=sum(scores.lost.size for scores in mine),
            lost=sum(int(scores.lost.sum()) for scores in mine),
            lost_by_comparators=sum(int(scores.lost.sum()) for scores in theirs),
            edges=edges,
        )

    def _shares(self, verdict: Verdict, rng: np.random.Generator) -> Verdict:
        """With what stands beside the number."""
        average, interquartile, improvement = beside(self.claim.metric, self.admitted)
        found = without_a_task(self.claim.metric, self.admitted)
        margins = () if self.claim.metric in WITHOUT_MARGIN else (self.claim.margin, *MARGINS)
        verdict = replace(
            verdict,
            average=average,
            interquartile=interquartile,
            improvement=improvement,
            by_margin=tuple((margin, *self._at_margin(margin)) for margin in margins),
            without_low=None if found is None else (found.low, found.low_without),
            without_high=None if found is None else (found.high, found.high_without),
        )
        if self.claim.track in ("T0", "T1") and UNITS[self.claim.metric] != UNITS["faster"]:
            share, null = strict(self.admitted, rng)
            return replace(verdict, strict=share, strict_null=null)
        return verdict

    def _at_margin(self, margin: float) -> tuple[float, float]:
        """The share not worse at another margin, and the one to expect of an equal method."""
        shown = (
            verdicts_of(each.differences, each.uninformative, margin) for each in self.admitted
        )
        equal = np.concatenate([shares_if_equal(each, margin) for each in self.admitted])
        return share_of(one for verdicts in shown for one in verdicts), float(equal.mean())

    def _on(self, tasks: Sequence[str]) -> float | None:
        """The number on ``tasks`` alone; None if none of them was run."""
        chosen = [each for each in self.admitted if each.cell.task in tasks]
        return point(self.claim.metric, chosen) if chosen else None

    def _parts(self, rng: np.random.Generator) -> Iterable[tuple[str, float, Bounds, int]]:
        """Name, number, bounds and number of tasks of each family and each comparator."""
        groups: dict[str, list[Comparison]] = {}
        for each in self.admitted:
            groups.setdefault(each.cell.family, []).append(each)
        if len(self.claim.comparators) > 1:
            for each in self.admitted:
                groups.setdefault(f"against {each.comparator}", []).append(each)
        for name, group in groups.items():
            number, bounds = estimate(self.claim.metric, group, rng, PART_DRAWS)
            yield name, number.value, bounds, len({each.cell.task for each in group})


def _distinct(scores: Iterable[Scores]) -> list[Scores]:
    return list({id(each): each for each in scores}.values())
