"""What whole factorisations at shares of the stability bound say of one claim."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from scipy.special import bdtr, bdtrc

from lrpilot.bench.claims.claim import UNITS, Claim, Metric
from lrpilot.bench.claims.rules import Bounds
from lrpilot.bench.claims.verdict import Judgement, Verdict, untested
from lrpilot.bench.row_file import read_rows, write_rows
from lrpilot.bench.statistics.shares import exact_interval

STABILITY_METRIC: Metric = "runs above their start"
DIGITS = 4
RISEN = 1.01  # times the loss at the start: noise at the floor is no rise

# Those whose bound a theorem proves; 2 / λmax with minibatches is the tempting wrong one.
PROVED = ("joint, exact", "joint, noise", "minibatch, 2/calL", "heavy tails, 2/calL")
NOT_RUN = "its rows were not given; benchmarks/nmf_whole_runs.py makes them"


class StabilityRow(NamedTuple):
    """One factorisation: how it was sampled, and what it left.

    share: rate over the bound. left: share of ‖V‖² at the end; the scaled start leaves at most 1.
    """

    regime: str
    share: float
    problem: int
    left: float

    @property
    def rose(self) -> bool:
        """Whether it ended above where any scaled start is, or not at all."""
        return not self.left <= RISEN


def save_rows(path: Path, rows: Iterable[StabilityRow], about: Mapping[str, str]) -> None:
    """Write ``rows``; ``about`` has command and versions. See `write_rows`."""
    write_rows(path, StabilityRow._fields, rows, about, digits=DIGITS, curve_digits=DIGITS)


def load_rows(path: Path) -> tuple[dict[str, str], list[StabilityRow]]:
    """What `save_rows` wrote: what it is about, and the rows.

    Raises ValueError if the file is no such file.
    """
    return read_rows(
        path,
        StabilityRow._fields,
        _read,
        what="rows of whole factorisations",
        writer="benchmarks/nmf_whole_runs.py",
    )


def judge_stability(claim: Claim, rows: Sequence[StabilityRow] | None) -> Judgement:
    """What becomes of a claim on all runs up to the bound, under samplings with a theorem.

    The interval is the exact binomial one over runs; samplings stand in for tasks.
    """
    blank = replace(
        untested(claim, UNITS[claim.metric], NOT_RUN),
        protocol="whole runs of 500 steps at 0.1 to 0.95 of the bound, recomputed at every step, "
        "neither clipped nor balanced; exact and noisy joint steps, minibatches of 8 columns, "
        "columns of equal and of heavy-tailed length",
    )
    below = [row for row in rows or () if row.share <= 1 and row.regime in PROVED]
    if not below:
        return Judgement(claim, blank, None, ())
    judged, bounds = counted(claim, blank, [row.rose for row in below])
    verdict = replace(
        judged,
        tasks=len({row.regime for row in below}),
        lost=sum(not math.isfinite(row.left) for row in below),
        by_part=tuple(_by_regime(rows or ())),
    )
    return Judgement(claim, verdict, bounds, ())


def counted(claim: Claim, blank: Verdict, rose: Sequence[bool]) -> tuple[Verdict, Bounds]:
    """The share of runs that rose, with the exact binomial interval and p value."""
    risen, count = sum(rose), len(rose)
    low, high = exact_interval(risen, count)
    verdict = replace(
        blank,
        reason="",
        estimate=risen / count,
        low=low,
        high=high,
        p=_two_sided(risen, count, claim.threshold),
        cells=count,
        runs=count,
    )
    return verdict, Bounds(low, high, high)


def _two_sided(successes: int, count: int, share: float) -> float:
    at_most = float(bdtr(successes, count, share))
    at_least = float(bdtrc(successes - 1, count, share)) if successes else 1.0
    return min(1.0, 2 * min(at_most, at_least))


def _by_regime(rows: Sequence[StabilityRow]) -> Iterable[tuple[str, float]]:
    """Each sampling at and above the bound, the wrong bound's too."""
    groups: dict[str, list[bool]] = {}
    for row in rows:
        where = "up to the bound" if row.share <= 1 else f"at {row.share:g} of it"
        groups.setdefault(f"{row.regime}, {where}", []).append(row.rose)
    return [(name, sum(rose) / len(rose)) for name, rose in groups.items()]


def _read(line: Sequence[str]) -> StabilityRow:
    regime, share, problem, left = line
    return StabilityRow(regime, float(share), int(problem), float(left))
