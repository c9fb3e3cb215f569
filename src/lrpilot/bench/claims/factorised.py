"""What the NMF study says of one claim."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from lrpilot.bench.claims.claim import UNITS, Claim, ClaimsFile
from lrpilot.bench.claims.findings import Findings
from lrpilot.bench.claims.judged import judge
from lrpilot.bench.claims.stability import STABILITY_METRIC, counted
from lrpilot.bench.claims.verdict import Judgement, untested

NOT_RUN = "its rows were not given; `lrpilot claims --study nmf` makes them"


def judge_factorised(claim: Claim, file: ClaimsFile, findings: Findings | None) -> Judgement:
    """What becomes of a claim on the study's matrices, with kinds of noise as families."""
    if findings is None:
        return Judgement(claim, untested(claim, UNITS[claim.metric], NOT_RUN), None, ())
    return (_lost if claim.metric == STABILITY_METRIC else judge)(claim, file, findings)


def _lost(claim: Claim, file: ClaimsFile, findings: Findings) -> Judgement:
    """How many runs of the method and the comparators alike are lost, at any rate and seed."""
    suite, names = findings.suite, (claim.method, *claim.comparators)
    families = claim.families or suite.families
    rose: dict[str, list[bool]] = {}
    tasks: set[str] = set()
    for cell in findings.cells:
        for name in names if cell.family in families else ():
            entrant = file.entrant(name, cell.family)
            rows = entrant and findings.rows(cell, entrant, "T2")
            lost = [row.status != "done" for at_rate in rows or () for row in at_rate]
            for part in (cell.family, name) if lost else ():
                rose.setdefault(part, []).extend(lost)
            tasks |= {cell.task} if lost else set()
    everything = [lost for family in families for lost in rose.get(family, ())]
    blank = replace(
        untested(claim, UNITS[claim.metric], NOT_RUN),
        protocol=f"whole runs under {len(names)} schedules, each over the same rates of "
        f"{(suite.response_points - 1) / 2:g} decades; {', '.join(families)}; "
        f"{len(suite.evaluation_seeds)} seeds; clipped by the bound, nothing mended",
    )
    if not everything:
        return Judgement(claim, blank, None, ())
    verdict, bounds = counted(claim, blank, everything)
    parts = tuple((part, fmean(lost)) for part, lost in rose.items())
    verdict = replace(verdict, tasks=len(tasks), lost=sum(everything), by_part=parts)
    return Judgement(claim, verdict, bounds, ())
