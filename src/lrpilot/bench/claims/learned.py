"""What the evaluation of learned policies on held-out problems says of one claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

import numpy as np

from lrpilot.bench.claims.claim import UNITS, Claim, Metric
from lrpilot.bench.claims.rules import LEVEL, Bounds
from lrpilot.bench.claims.verdict import Judgement, untested
from lrpilot.bench.held_out import (
    HeldOutRow,
    by_set,
    differences,
    interval_over_sets,
    policies_of,
    wrongs_of,
)
from lrpilot.bench.statistics.paired import p_above

HELD_OUT_METRIC: Metric = "loss on held-out problems"
FILES: Mapping[str, str] = {
    "learned-nmf": "learned_nmf.csv.gz",
    "learned-net": "learned_net.csv.gz",
}
"""The rows of each kind of policies, in the folder of results."""
NOT_RUN = "its rows were not given; `lrpilot evaluate {kind} --save` makes them"
RESAMPLES = 10_000


def judge_learned(claim: Claim, rows: Sequence[HeldOutRow] | None) -> Judgement:
    """What becomes of a claim on the held-out sets, which count as tasks and as cells.

    A ratio below 1 is better. On track T1 the policies begin at the untuned base rate; on track T2
    at ones that are also wrong by the factors of the evaluation.
    """
    kind = claim.study.removeprefix("learned-")
    blank = untested(claim, UNITS[claim.metric], NOT_RUN.format(kind=kind))
    if rows is None:
        return Judgement(claim, blank, None, ())
    rows = [row for row in rows if not claim.families or row.group in claim.families]
    wrongs = [1.0] if claim.track == "T1" else wrongs_of(rows)
    every = {name: _of_set(claim, some, wrongs) for name, some in by_set(rows).items()}
    means = [float(values.mean()) for values in every.values()]
    low, high = interval_over_sets(means, RESAMPLES)
    better = sum(p_above([-x for x in values], 0.0) < LEVEL for values in every.values())
    worse = sum(p_above(values.tolist(), 0.0) < LEVEL for values in every.values())
    threshold = math.log(claim.threshold)
    sides = p_above(means, threshold), p_above([-x for x in means], -threshold)
    policies, ours = len(policies_of(rows)), _finals(claim, rows, wrongs)
    verdict = replace(
        blank,
        reason="",
        protocol=f"{len(every)} held-out sets; {policies} policies, each from training "
        f"seeds of its own; base rate {', '.join(f'x {wrong:g}' for wrong in wrongs)} "
        "of the untuned one, the comparator "
        + ("tuned" if claim.comparators[0].startswith("tuned") else "likewise"),
        estimate=math.exp(fmean(means)),
        low=math.exp(low),
        high=math.exp(high),
        p=min(1.0, 2 * min(sides)),
        tasks=len(every),
        cells=len(every),
        better=better,
        undecided=len(every) - better - worse,
        worse=worse,
        undecided_share=(len(every) - better - worse) / len(every),
        average=math.exp(fmean(means)),
        runs=len(ours),
        lost=int(np.isinf(ours).sum()),
        by_part=tuple(_by_group(rows, every)),
    )
    bounds = Bounds(math.exp(low), math.exp(high), math.exp(high))
    return Judgement(claim, verdict, bounds, ())


def _of_set(claim: Claim, rows: Sequence[HeldOutRow], wrongs: Sequence[float]) -> np.ndarray:
    """ln of the ratio of each problem, over policies and base rates."""
    (control,) = claim.comparators
    found = [differences(rows, claim.method, control, wrong).mean(axis=0) for wrong in wrongs]
    return np.mean(found, axis=0)


def _finals(claim: Claim, rows: Sequence[HeldOutRow], wrongs: Sequence[float]) -> np.ndarray:
    """ln of what each run of the method leaves."""
    names = policies_of(rows) if claim.method == "learned" else [claim.method]
    ours = [row.finals for row in rows if row.contender in names and row.wrong in wrongs]
    return np.concatenate(ours)


def _by_group(
    rows: Sequence[HeldOutRow], every: Mapping[str, np.ndarray]
) -> list[tuple[str, float]]:
    sets: dict[str, list[float]] = {}
    for name, some in by_set(rows).items():
        for part in dict.fromkeys((some[0].group, some[0].axis)):
            sets.setdefault(part, []).append(float(every[name].mean()))
    return [(part, math.exp(fmean(means))) for part, means in sets.items()]
