"""The reference curve: which share of the budget the tuned reference needs for a loss."""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypedDict

from lrpilot.bench.statistics.paired import CellResult, cell_verdict
from lrpilot.bench.statistics.stats import MARGIN, standard_error

MIN_FALL = 3.0  # standard errors per octave
MIN_ELASTICITY = 0.05
MAX_DIVERGED = 0.05


class PlainCurve(TypedDict):
    """A reference curve as JSON holds it; None is a lost run."""

    horizons: list[float]
    losses: list[list[float | None]]
    floor: float


@dataclass(frozen=True, kw_only=True)
class ReferenceCurve:
    """R(h): the final loss of the reference, tuned for a budget of ``h`` times the task's own.

    horizons: rising, in budgets: by the protocol 1/4, 1/2, 0.7, 1, 1.4 and 2.
    losses: for each horizon the final loss of each seed, in the same order of seeds everywhere;
        infinite for a run that did not end.
    floor: the lowest loss possible, if known; what is interpolated is the excess over it.

    R is the median over the seeds of ln(loss - floor), made non-increasing by pooling adjacent
    violators with the number of seeds as weights, and linear in ln h between the horizons. The
    median, because it commutes with the logarithm and stays where it is when one seed in ten is
    lost or stuck; that it is noisier than a mean shifts the method and the reference alike and
    cancels in their difference.

    Raises ValueError for horizons that do not rise, a loss at or below the floor or NaN, or a
    horizon at which half of the runs were lost.
    """

    horizons: tuple[float, ...]
    losses: tuple[tuple[float, ...], ...]
    floor: float = 0.0

    def __post_init__(self) -> None:
        if len(self.horizons) < 2 or any(low >= high for low, high in pairwise(self.horizons)):
            raise ValueError(f"horizons must rise, and be two or more, got {self.horizons}")
        if self.horizons[0] <= 0:
            raise ValueError(f"horizons must be positive, got {self.horizons[0]}")
        seeds = [len(losses) for losses in self.losses]
        if len(seeds) != len(self.horizons) or len(set(seeds)) > 1 or not seeds[0]:
            raise ValueError(
                f"losses must have one tuple per horizon ({len(self.horizons)}), all of the same "
                f"seeds; got tuples of {seeds}"
            )
        for horizon, losses in zip(self.horizons, self.losses, strict=True):
            _check_losses(losses, self.floor, horizon)

    @cached_property
    def log_excess(self) -> tuple[float, ...]:
        """ln(R - floor) at each horizon: non-increasing."""
        medians = [math.log(statistics.median(losses) - self.floor) for losses in self.losses]
        return tuple(non_increasing(medians, [len(losses) for losses in self.losses]))

    def budget_equivalent(self, loss: float | None) -> float:
        """The smallest share of the budget with which the reference reaches ``loss``: R^-1(loss).

        Clipped to the horizons; infinite, NaN or None, for a run that did not end, is the lowest.
        Where R is flat the inverse is the start of the flat stretch, so it jumps over the stretch
        as the loss falls below it. A loss at or below the floor is the highest. Never rises with
        the loss.

        >>> curve = ReferenceCurve(horizons=(0.5, 1.0, 2.0), losses=((2.0,), (1.0,), (0.5,)))
        >>> [round(curve.budget_equivalent(loss), 3) for loss in (9.0, 2.0, 1.41, 1.0, 0.1)]
        [0.5, 0.5, 0.709, 1.0, 2.0]
        """
        if loss is None or not math.isfinite(loss):
            return self.horizons[0]
        if loss <= self.floor:
            return self.horizons[-1]
        wanted, log_excess = math.log(loss - self.floor), self.log_excess
        # The first horizon at which R is no higher than wanted.
        at = bisect_left(log_excess, -wanted, key=lambda value: -value)
        if at == 0:
            return self.horizons[0]
        if at == len(log_excess):
            return self.horizons[-1]
        share = (log_excess[at - 1] - wanted) / (log_excess[at - 1] - log_excess[at])
        low, high = self.horizons[at - 1], self.horizons[at]
        return min(low * (high / low) ** share, high)

    def censored(self, loss: float | None) -> bool:
        """Whether ``loss`` lies beyond the curve, so that its budget-equivalent is clipped."""
        if loss is None or not math.isfinite(loss) or loss <= self.floor:
            return True
        return not self.log_excess[-1] <= math.log(loss - self.floor) <= self.log_excess[0]

    def loss_at(self, horizon: float) -> float:
        """R(horizon), the horizon clipped to the curve's.

        >>> curve = ReferenceCurve(horizons=(0.5, 1.0, 2.0), losses=((2.0,), (1.0,), (0.5,)))
        >>> round(curve.loss_at(1.0), 6)
        1.0
        """
        horizon = min(max(horizon, self.horizons[0]), self.horizons[-1])
        at = max(bisect_left(self.horizons, horizon), 1)
        low, high = self.horizons[at - 1], self.horizons[at]
        share = math.log(horizon / low) / math.log(high / low)
        start, end = self.log_excess[at - 1], self.log_excess[at]
        return math.exp(start + share * (end - start)) + self.floor

    def elasticity(self, horizon: float = 1.0) -> float:
        """-d ln(R - floor) / d ln h over the octave around ``horizon``; never negative."""
        low = max(horizon / math.sqrt(2), self.horizons[0])
        high = min(horizon * math.sqrt(2), self.horizons[-1])
        start, end = (math.log(self.loss_at(at) - self.floor) for at in (low, high))
        return (start - end) / math.log(high / low)

    def to_plain(self) -> PlainCurve:
        """Lists and numbers that JSON can hold."""
        losses = [[x if math.isfinite(x) else None for x in seeds] for seeds in self.losses]
        return {"horizons": list(self.horizons), "losses": losses, "floor": self.floor}

    @classmethod
    def from_plain(cls, plain: PlainCurve) -> ReferenceCurve:
        """The curve that `to_plain` wrote."""
        losses = [[math.inf if x is None else x for x in seeds] for seeds in plain["losses"]]
        return cls(
            horizons=tuple(plain["horizons"]),
            losses=tuple(map(tuple, losses)),
            floor=plain["floor"],
        )


def judge(
    curve: ReferenceCurve,
    losses: Sequence[float | None],
    reference: Sequence[float | None],
    *,
    margin: float = MARGIN,
) -> CellResult:
    """The verdict on a cell from final losses of the same seeds in the same order.

    None, NaN or infinite for a run that did not end.
    """
    pairs = [
        (curve.budget_equivalent(loss), curve.budget_equivalent(other))
        for loss, other in zip(losses, reference, strict=True)
    ]
    clipped = [
        curve.censored(loss) and curve.censored(other) and ours == theirs
        for loss, other, (ours, theirs) in zip(losses, reference, pairs, strict=True)
    ]
    differences = [math.log(ours / theirs) for ours, theirs in pairs]
    return cell_verdict(differences, margin=margin, uninformative=clipped)


def admissible(
    curve: ReferenceCurve,
    *,
    best_at_edge: bool,
    diverged_share: float,
    constant_losses: Sequence[float | None],
    reference_losses: Sequence[float | None],
) -> list[str]:
    """Why a task under an optimizer cannot tell schedules apart; empty if it can.

    best_at_edge: whether the reference's best rate is at the edge of its grid.
    diverged_share: share of the reference's runs at its best rate that were lost.
    constant_losses, reference_losses: final losses of the constant schedule and the reference,
        both tuned, of the same seeds: the positive control. If the constant rate is not shown
        worse, by the verdict that judges every method, nothing else would be.
    """
    reasons = _flat_octaves(curve)
    if curve.elasticity() < MIN_ELASTICITY:
        reasons.append(
            f"saturated: elasticity {curve.elasticity():.3f} at the budget, "
            f"below {MIN_ELASTICITY:g}"
        )
    if best_at_edge:
        reasons.append("edge: the reference's best rate is at the edge of its grid")
    if diverged_share >= MAX_DIVERGED:
        reasons.append(
            f"unstable: {diverged_share:.0%} of the reference's runs were lost at its best rate, "
            f"not below {MAX_DIVERGED:.0%}"
        )
    control = judge(curve, constant_losses, reference_losses)
    if control.verdict != "worse":
        reasons.append(
            f"constant ties: a constant rate is {control.verdict} "
            f"(budget-equivalent {control.ratio:.2f} of the reference's)"
        )
    return reasons


def non_increasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The non-increasing sequence nearest to ``values`` in weighted squares.

    Pool adjacent violators: neighbours in the wrong order are replaced by their weighted mean.

    >>> non_increasing([3.0, 1.0, 2.0], weights=[1, 1, 1])
    [3.0, 1.5, 1.5]
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, weight in zip(values, weights, strict=True):
        block = (float(value), float(weight), 1)
        while blocks and blocks[-1][0] <= block[0]:
            mean, total, length = blocks.pop()
            both = total + block[1]
            block = ((mean * total + block[0] * block[1]) / both, both, length + block[2])
        blocks.append(block)
    return [mean for mean, _, length in blocks for _ in range(length)]


def _check_losses(losses: Sequence[float], floor: float, horizon: float) -> None:
    lowest = min(losses)
    if lowest <= floor:
        raise ValueError(
            f"losses must be above the floor ({floor:g}) to have a logarithm, got {lowest:g} at "
            f"horizon {horizon:g}; give the task's lowest possible loss as floor"
        )
    if any(map(math.isnan, losses)):
        raise ValueError(f"losses must not be NaN (horizon {horizon:g}); a lost run is infinite")
    if math.isinf(statistics.median(losses)):
        raise ValueError(
            f"half of the reference's runs or more were lost at horizon {horizon:g}; tune its rate "
            f"for that horizon"
        )


def _flat_octaves(curve: ReferenceCurve) -> list[str]:
    """From which horizons to their doubles the loss does not surely fall, seed by seed."""
    by_horizon = list(zip(curve.horizons, curve.losses, strict=True))
    octaves = [
        (low, before, after)
        for low, before in by_horizon
        for high, after in by_horizon
        if math.isclose(high, 2 * low)
    ]
    if not octaves:
        return ["no octave: the curve has no horizon together with its double"]
    reasons: list[str] = []
    for low, before, after in octaves:
        falls = [
            math.log((x - curve.floor) / (y - curve.floor))
            for x, y in zip(before, after, strict=True)
            if math.isfinite(x) and math.isfinite(y)
        ]
        fall = statistics.fmean(falls) if falls else 0.0
        error = standard_error(falls) if len(falls) > 1 else math.inf
        if not fall > MIN_FALL * error:
            reasons.append(
                f"flat: from {low:g} to {2 * low:g} budgets ln loss falls by {fall:.3g}, "
                f"not by {MIN_FALL:g} standard errors ({error:.2g})"
            )
    return reasons
