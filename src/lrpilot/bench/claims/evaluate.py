"""Every claim, on the rows of a suite and of a study: its number, its interval, its verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from lrpilot.bench.claims.claim import ClaimsFile
from lrpilot.bench.claims.factorised import judge_factorised
from lrpilot.bench.claims.findings import Findings
from lrpilot.bench.claims.judged import judge
from lrpilot.bench.claims.learned import HELD_OUT_METRIC, judge_learned
from lrpilot.bench.claims.rules import rule
from lrpilot.bench.claims.stability import STABILITY_METRIC, StabilityRow, judge_stability
from lrpilot.bench.claims.studied import STUDY_METRICS, judge_study
from lrpilot.bench.claims.verdict import Judgement, Verdict
from lrpilot.bench.held_out import HeldOutRow
from lrpilot.bench.robustness.summary import Summary
from lrpilot.bench.statistics.aggregates import holm


def evaluate(
    file: ClaimsFile,
    findings: Findings,
    *,
    study: Summary | None = None,
    stability: Sequence[StabilityRow] | None = None,
    nmf: Findings | None = None,
    learned: Mapping[str, Sequence[HeldOutRow]] | None = None,
    development: Sequence[str] = (),
    held_out: Sequence[str] = (),
    command: str = "",
) -> list[Verdict]:
    """A verdict on each claim, in the order of the file.

    study: of robustness; without it its claims are not tested.
    stability: rows of whole factorisations; without them the claim on the bound is not tested.
    nmf: what the NMF study found; without it its claims are not tested.
    learned: rows of learned policies by the name of their study, as far as there are any.
    development, held_out: tasks whose numbers are also given apart.
    command: what computes all this from the rows; each verdict names it.
    """
    splits = (development, held_out)
    judgements = [
        judge_study(claim, study)
        if claim.metric in STUDY_METRICS
        else judge_learned(claim, (learned or {}).get(claim.study))
        if claim.metric == HELD_OUT_METRIC
        else judge_factorised(claim, file, nmf)
        if claim.study == "nmf"
        else judge_stability(claim, stability)
        if claim.metric == STABILITY_METRIC
        else judge(claim, file, findings, splits)
        for claim in file.claims
    ]
    tested = [
        at
        for at, (claim, verdict, *_) in enumerate(judgements)
        if claim.kind == "claim" and verdict.p is not None
    ]
    adjusted = holm([judgements[at].verdict.p or 0.0 for at in tested])
    by_place = dict(zip(tested, adjusted, strict=True))
    ruled = [_ruled(each, by_place.get(at)) for at, each in enumerate(judgements)]
    controls = [one for one in ruled if one.kind == "control" and one.cells]
    held = sum(one.verdict == "supported" for one in controls)
    summary = f"{held} of {len(controls)} controls came out as they must"
    return [replace(one, controls=summary, command=command) for one in ruled]


def _ruled(judgement: Judgement, adjusted_p: float | None) -> Verdict:
    claim, verdict, bounds, parts = judgement
    if bounds is None:
        return verdict
    ruling = rule(
        bounds,
        claim.threshold,
        claim.direction,
        tasks=verdict.tasks,
        adjusted_p=0.0 if adjusted_p is None else adjusted_p,
        parts=parts,
    )
    p = verdict.p if claim.kind == "claim" else None
    return replace(verdict, verdict=ruling, p=p, adjusted_p=adjusted_p)
