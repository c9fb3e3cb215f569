"""What became of a claim: everything that a table, a page or a program wants to know of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

from lrpilot.bench.claims.claim import Claim
from lrpilot.bench.claims.rules import Bounds, Ruling


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a claim. Shares and numbers are None where there is nothing to compute from.

    estimate, low, high: the claim's number with its 95 % interval, in ``unit``.
    reason: why it is not tested, or undecided for lack of tasks.
    p, adjusted_p: two-sided, by itself and after Holm's correction; None for a control.
    cells: pairs of method and comparator, on track T2 times rates. better to worse: verdicts on
        them. missing: pairs of which runs are missing. absent: names that the suite does not have.
    runs, lost, lost_by_comparators: runs of the method, those of them that did not end, and the
        comparators' that did not.
    edges: of the method's cells, those whose best rate is still at the edge of its grid.
    unusable: in which share of its cells and seeds the method has no usable rate, and in which the
        comparators have none; of usable decades only.
    by_margin: for the claim's margin and wider ones, the share not worse, and the one to expect of
        a method that equals the others in truth and scatters as this one does. Empty where no share
        of the budget is compared.
    strict, strict_null: the share by the 1 % yardstick, and that of an equal method.
    average, interquartile, improvement: mean, mean of the middle half of the cells, and chance to
        beat a comparator with a paired seed, of what the metric compares; ratios geometrically.
    without_low, without_high: the lowest and highest number without one task, and which it is.
    development, held_out: the number on these tasks alone.
    inadmissible: cells left out since they tell nothing apart; with_inadmissible: the number with
        them.
    by_part: the number of each family and each comparator, or of each perturbation.
    controls: how many of them held. command: what computes the verdict from the rows.
    """

    id: str
    kind: str
    statement: str
    quote: str
    source: str
    track: str
    method: str
    comparators: tuple[str, ...]
    threshold: float
    direction: str
    refuted_by: str
    unit: str
    verdict: Ruling
    reason: str = ""
    protocol: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    adjusted_p: float | None = None
    tasks: int = 0
    cells: int = 0
    better: int = 0
    not_worse: int = 0
    undecided: int = 0
    worse: int = 0
    undecided_share: float | None = None
    missing: int = 0
    absent: tuple[str, ...] = ()
    runs: int = 0
    lost: int = 0
    lost_by_comparators: int = 0
    edges: int = 0
    unusable: tuple[float, float] | None = None
    by_margin: tuple[tuple[float, float, float], ...] = ()
    strict: float | None = None
    strict_null: float | None = None
    average: float | None = None
    interquartile: float | None = None
    improvement: float | None = None
    without_low: tuple[float, str] | None = None
    without_high: tuple[float, str] | None = None
    development: float | None = None
    held_out: float | None = None
    inadmissible: tuple[str, ...] = ()
    with_inadmissible: float | None = None
    by_part: tuple[tuple[str, float], ...] = ()
    controls: str = ""
    command: str = ""

    def as_json(self) -> dict[str, object]:
        """The verdict as strict JSON-able data."""
        return asdict(self)


def number(verdict: Verdict) -> str:
    """The claim's number with its interval, its unit and what it must be read with, or a dash."""
    if verdict.estimate is None or verdict.low is None or verdict.high is None:
        return "-"
    digits = 4 if 0 < verdict.high < 0.01 else 2
    estimate, low, high = (
        f"{value:.{digits}f}".replace("-", "−")
        for value in (verdict.estimate, verdict.low, verdict.high)
    )
    text = f"{estimate} [{low}, {high}] {verdict.unit}"
    if verdict.unusable is not None:
        mine, theirs = (f"{100 * share:.0f} %" for share in verdict.unusable)
        text += f"; no usable rate in {mine} of cells and seeds, {theirs} of the comparator's"
    return text


class Judgement(NamedTuple):
    """A claim and its verdict, but for the ruling, which takes the p values of all claims.

    bounds: of the claim's number; None if it is not tested. parts: bounds of the number of each
    family and each comparator that was run on enough tasks.
    """

    claim: Claim
    verdict: Verdict
    bounds: Bounds | None
    parts: tuple[Bounds, ...]


def untested(claim: Claim, unit: str, reason: str) -> Verdict:
    """The verdict on a claim of which no row is known."""
    return Verdict(
        id=claim.id,
        kind=claim.kind,
        statement=claim.statement,
        quote=claim.quote,
        source=claim.source,
        track=claim.track,
        method=claim.method,
        comparators=claim.comparators,
        threshold=claim.threshold,
        direction=claim.direction,
        refuted_by=claim.refuted_by,
        unit=unit,
        verdict="not tested",
        reason=reason,
    )
