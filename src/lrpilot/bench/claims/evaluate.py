"""Every claim on the rows of a suite: its number, its interval, its verdict."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from lrpilot.bench.aggregates import holm
from lrpilot.bench.claims.claim import UNITS, Claim, ClaimsFile
from lrpilot.bench.claims.comparisons import Comparison, ceiling_of, compared, verdicts_of
from lrpilot.bench.claims.findings import Entrant, Findings, Scores
from lrpilot.bench.claims.rules import MIN_TASKS, Bounds, rule
from lrpilot.bench.claims.sampling import (
    beside,
    estimate,
    p_value,
    point,
    share_of,
    strict,
    without_a_task,
)
from lrpilot.bench.claims.verdict import Verdict
from lrpilot.bench.response import USABLE

SEED = 20261125  # of every bootstrap, together with the claim's id
PART_DRAWS = 1000
MARGINS = (0.1, 0.2)  # beside the claim's own

TRACKS = {
    "T0": "at the rate that the optimizer is shipped with",
    "T1": "each at its best rate",
    "T2": "each over the same rates of {decades:g} decades",
    "T3": "each at the best of random rates of {decades:g} decades",
    "study": "a study of its own",
}


def evaluate(
    file: ClaimsFile,
    findings: Findings,
    *,
    development: Sequence[str] = (),
    held_out: Sequence[str] = (),
    command: str = "",
) -> list[Verdict]:
    """A verdict on each claim, in the order of the file.

    development, held_out: tasks whose numbers are also given apart.
    command: what computes all this from the rows; each verdict names it.
    """
    judged = [_Judged(claim, file, findings) for claim in file.claims]
    found = [each.verdict((development, held_out)) for each in judged]
    tested = [at for at, one in enumerate(found) if one.p is not None and one.kind == "claim"]
    adjusted = dict(zip(tested, holm([found[at].p or 0.0 for at in tested]), strict=True))
    pairs = enumerate(zip(judged, found, strict=True))
    ruled = [each.ruled(one, adjusted.get(at)) for at, (each, one) in pairs]
    controls = [one for one in ruled if one.kind == "control" and one.cells]
    held = sum(one.verdict == "supported" for one in controls)
    summary = f"{held} of {len(controls)} controls came out as they must"
    return [replace(one, controls=summary, command=command) for one in ruled]


class _Judged:
    """One claim, its comparisons, and the bounds of its number and of its parts'."""

    def __init__(self, claim: Claim, file: ClaimsFile, findings: Findings) -> None:
        self.claim = claim
        self.findings = findings
        self.all: list[Comparison] = []
        self.missing = 0
        if not claim.untested and claim.metric != "study":
            self._compare(file)
        reasons = findings.reasons
        self.admitted = [each for each in self.all if not reasons.get(each.cell)]
        self.parts: list[tuple[str, float, Bounds, int]] = []
        self.bounds: Bounds | None = None

    def _compare(self, file: ClaimsFile) -> None:
        for cell in self.findings.cells:
            entrant = file.entrant(self.claim.method, cell.family)
            if entrant is None or (self.claim.families and cell.family not in self.claim.families):
                continue
            for name in self.claim.comparators:
                other = file.entrant(name, cell.family)
                if other is None:
                    continue
                found = compared(self.claim, self.findings, cell, entrant, other)
                if found is None:
                    self.missing += 1
                else:
                    self.all.append(found)

    def verdict(self, splits: tuple[Sequence[str], Sequence[str]]) -> Verdict:
        """All but the ruling, which takes every claim's p value."""
        claim, admitted = self.claim, self.admitted
        inadmissible = dict.fromkeys(
            f"{each.cell.task}, {each.cell.family}" for each in self.all if each not in admitted
        )
        blank = Verdict(
            id=claim.id,
            kind=claim.kind,
            statement=claim.statement,
            quote=claim.quote,
            source=claim.source,
            track=claim.track,
            protocol=self._protocol(),
            method=claim.method,
            comparators=claim.comparators,
            threshold=claim.threshold,
            direction=claim.direction,
            refuted_by=claim.refuted_by,
            unit=UNITS[claim.metric],
            verdict="not tested",
            reason=self._untested(),
            missing=self.missing,
            inadmissible=tuple(inadmissible),
        )
        if not admitted:
            return blank
        rng = np.random.default_rng([SEED, zlib.crc32(claim.id.encode())])
        number, self.bounds = estimate(claim.metric, admitted, rng)
        self.parts = list(self._parts(rng))
        tasks = {each.cell.task for each in admitted}
        return replace(
            self._shares(self._counted(blank), rng),
            estimate=number.value,
            low=number.low,
            high=number.high,
            p=p_value(claim, admitted),
            tasks=len(tasks),
            reason=f"fewer than {MIN_TASKS} tasks" if len(tasks) < MIN_TASKS else "",
            development=self._on(splits[0]),
            held_out=self._on(splits[1]),
            with_inadmissible=point(claim.metric, self.all) if inadmissible else None,
            by_part=tuple((name, value) for name, value, _, _ in self.parts),
        )

    def ruled(self, verdict: Verdict, adjusted_p: float | None) -> Verdict:
        """The verdict with its ruling."""
        if self.bounds is None:
            return verdict
        ruling = rule(
            self.bounds,
            self.claim.threshold,
            self.claim.direction,
            tasks=verdict.tasks,
            adjusted_p=0.0 if adjusted_p is None else adjusted_p,
            parts=[bounds for _, _, bounds, tasks in self.parts if tasks >= MIN_TASKS],
        )
        p = verdict.p if self.claim.kind == "claim" else None
        return replace(verdict, verdict=ruling, p=p, adjusted_p=adjusted_p)

    def _untested(self) -> str:
        if self.claim.untested:
            return self.claim.untested
        if self.claim.metric == "study":
            return "the study has not been run, or its rows were not given"
        if self.all:
            return "no cell that was run can tell schedules apart"
        return (
            f"none of its {self.missing} cells has been run in full"
            if self.missing
            else ("the suite has none of its entrants")
        )

    def _protocol(self) -> str:
        suite, claim = self.findings.suite, self.claim
        if claim.untested or claim.metric == "study":
            return TRACKS["study"] if claim.track == "study" else ""
        families = [one for one in suite.families if one in (claim.families or suite.families)]
        words = TRACKS[claim.track].format(decades=(suite.response_points - 1) / 2)
        extra = {
            "usable decades": f"; usable from {USABLE:g} of the budget on",
            "decades near its best": f"; near it from {USABLE:g} of the best budget-equivalent on",
            "expected best of 3": "; the best of three chosen on validation",
        }.get(claim.metric, "")
        if claim.metric.startswith("faster"):
            share = {1.0: "the whole budget", 0.5: "half of the budget"}.get(claim.target)
            extra = (
                "; to the loss that the tuned reference reaches with "
                f"{share or f'{claim.target:g} of the budget'}"
            )
        return (
            f"{claim.track}, {words}; {', '.join(families)}; {len(suite.evaluation_seeds)} paired "
            f"seeds; margin {claim.margin:.0%}{extra}"
        ).replace("%", " %")

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
        return replace(
            verdict,
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
        verdict = replace(
            verdict,
            average=average,
            interquartile=interquartile,
            improvement=improvement,
            by_margin=tuple(
                (margin, *self._at_margin(margin)) for margin in (self.claim.margin, *MARGINS)
            ),
            without_low=None if found is None else (found.low, found.low_without),
            without_high=None if found is None else (found.high, found.high_without),
        )
        if self.claim.track in ("T0", "T1") and UNITS[self.claim.metric] != UNITS["faster"]:
            share, null = strict(self.admitted, rng)
            return replace(verdict, strict=share, strict_null=null)
        return verdict

    def _at_margin(self, margin: float) -> tuple[float, float]:
        """The share not worse at another margin, and what it would be if the method were equal."""
        shown = (
            verdicts_of(each.differences, each.uninformative, margin) for each in self.admitted
        )
        equal = (ceiling_of(each, margin) for each in self.admitted)
        return (
            share_of(one for verdicts in shown for one in verdicts),
            share_of(one for verdicts in equal for one in verdicts),
        )

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
