"""What the robustness study says of one claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from lrpilot.bench.claims.claim import UNITS, Claim, Metric
from lrpilot.bench.claims.rules import Bounds
from lrpilot.bench.claims.verdict import Judgement, untested
from lrpilot.bench.robustness.summary import Summary
from lrpilot.bench.robustness.verdicts import Measure, Standing
from lrpilot.bench.robustness.verdicts import Verdict as Cell
from lrpilot.bench.statistics.paired import p_above

STUDY_METRICS: dict[Metric, Measure] = {
    "penalty under perturbation": "penalty",
    "loss under perturbation": "loss",
}
NOT_RUN = "the robustness study has not been run, or its rows were not given"


def judge_study(claim: Claim, summary: Summary | None) -> Judgement:
    """What becomes of a claim on the study's admitted cells, at rates tuned undisturbed.

    A ratio below 1 is better. Cells are pairs of task and perturbation that passed the bite test.
    """
    blank = replace(
        untested(claim, UNITS[claim.metric], NOT_RUN),
        protocol="study of robustness, rates tuned without the perturbation, paired seeds; tasks "
        "and perturbations that pass the bite test",
    )
    standing = None if summary is None else _standing(claim, summary)
    if summary is None or standing is None:
        return Judgement(claim, blank, None, ())
    cells = [one for one in summary.verdicts if _concerns(claim, one)]
    by_task: dict[str, list[float]] = {}
    for cell in cells:
        by_task.setdefault(cell.task, []).append(math.log(cell.ratio))
    everywhere = standing.better + standing.identical + standing.undecided + standing.worse
    verdict = replace(
        blank,
        reason="",
        estimate=standing.ratio,
        low=standing.low,
        high=standing.high,
        p=_two_sided([fmean(row) for row in by_task.values()], math.log(claim.threshold)),
        tasks=len(by_task),
        cells=everywhere,
        better=standing.better,
        undecided=standing.undecided + standing.identical,
        worse=standing.worse,
        undecided_share=(standing.undecided + standing.identical) / everywhere,
        average=standing.ratio,
        lost=sum(summary.diverged.get(claim.method, {}).values()),
        by_part=tuple(_by_perturbation(cells)),
    )
    return Judgement(claim, verdict, Bounds(standing.low, standing.high, standing.high), ())


def _concerns(claim: Claim, one: Cell | Standing) -> bool:
    return (
        one.schedule == claim.method
        and one.rival == claim.comparators[0]
        and one.track == "surprise"
        and one.measure == STUDY_METRICS[claim.metric]
    )


def _standing(claim: Claim, summary: Summary) -> Standing | None:
    found = (one for one in summary.standings if _concerns(claim, one) and one.cells == "admitted")
    standing = next(found, None)
    return standing if standing is not None and math.isfinite(standing.ratio) else None


def _two_sided(values: Sequence[float], threshold: float) -> float:
    upwards = p_above(values, threshold)
    downwards = p_above([-value for value in values], -threshold)
    return min(1.0, 2 * min(upwards, downwards))


def _by_perturbation(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    logs: dict[str, list[float]] = {}
    for cell in cells:
        logs.setdefault(cell.perturbation, []).append(math.log(cell.ratio))
    return [(name, math.exp(fmean(row))) for name, row in logs.items()]
