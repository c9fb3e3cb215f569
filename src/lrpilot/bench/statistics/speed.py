"""How fast a loss is reached, from the evaluations of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

Evaluations = Sequence[tuple[int, float]]
"""(steps taken, validation loss), in order, as `Outcome.evaluations` has them."""

BACKWARD = 2  # a backward pass costs as much as two forward passes
LONGEST = 4.0  # where the profile's score ends, in multiples of the fastest


def steps_to_target(
    evaluations: Evaluations, target: float, *, diverged: bool = False
) -> float | None:
    """Steps until the loss is at most ``target`` and stays there to the end; None if it is not.

    Sustained, because the first crossing rewards noise: a rate too high dips below the target long
    before it could stay there. ln loss is taken as linear between evaluations, loss itself where
    one of the two is not positive. A diverged run has not reached its target, whatever it had seen
    before.

    >>> steps_to_target([(0, 4.0), (10, 1.0), (20, 3.0), (30, 1.0)], target=1.0)
    30.0
    >>> steps_to_target([(0, 4.0), (10, 1.0)], target=2.0)
    5.0
    """
    _check(evaluations)
    if diverged or not evaluations[-1][1] <= target:
        return None
    later = evaluations[-1]
    for earlier in reversed(evaluations[:-1]):
        if not earlier[1] <= target:  # above, or NaN
            return _crossing(earlier, later, target)
        later = earlier
    return float(later[0])


def compute_adjusted(steps: float, extra_forwards: float) -> float:
    """Steps of one forward and one backward pass that cost as much as what was computed.

    extra_forwards: forward passes beyond one per step, within these steps. For steps to a target
        charge the run's total in proportion: ``outcome.extra_forwards * steps / total_steps``.

    >>> compute_adjusted(100, extra_forwards=150)
    150.0
    """
    return ((1 + BACKWARD) * steps + extra_forwards) / (1 + BACKWARD)


def ratios_to_fastest(
    steps: Mapping[str, Sequence[float | None]],
) -> dict[str, list[float]]:
    """For each method and cell, steps over the fewest that any method took there.

    steps: for each method one entry per cell, cells in the same order; None if it never got there.
    A censored entry is infinite, also in a cell that no method solves.

    >>> ratios_to_fastest({"a": [100, None], "b": [200, 50]})
    {'a': [1.0, inf], 'b': [2.0, 1.0]}
    """
    rows = {
        method: [math.inf if taken is None else float(taken) for taken in row]
        for method, row in steps.items()
    }
    fastest = [min(column) for column in zip(*rows.values(), strict=True)]
    return {
        method: [_ratio(taken, best) for taken, best in zip(row, fastest, strict=True)]
        for method, row in rows.items()
    }


def performance_profile(ratios: Sequence[float], taus: Sequence[float]) -> list[float]:
    """Share of the cells with a ratio of at most tau, for each tau (Dolan and Moré 2002).

    ratios: steps over the fewest; infinite where the target was not reached.

    >>> performance_profile([1.0, 1.5, math.inf], taus=[1.0, 2.0])
    [0.3333333333333333, 0.6666666666666666]
    """
    if not ratios:
        raise ValueError("ratios is empty; a profile needs at least one cell")
    return [sum(ratio <= tau for ratio in ratios) / len(ratios) for tau in taus]


def profile_score(ratios: Sequence[float], longest: float = LONGEST) -> float:
    """Mean height of the performance profile over [1, longest], in [0, 1]; exact.

    >>> profile_score([1.0, 2.5, math.inf])
    0.5
    """
    if not ratios:
        raise ValueError("ratios is empty; a profile needs at least one cell")
    spans = [max(0.0, longest - max(1.0, ratio)) for ratio in ratios]
    return sum(spans) / len(spans) / (longest - 1)


def area_under_log_loss(evaluations: Evaluations, *, diverged: bool = False) -> float:
    """Mean of ln loss over the steps of the run, by trapezoids; infinite for a diverged run.

    Raises ValueError for a loss that is not positive: subtract the task's floor first.
    """
    _check(evaluations, at_least=2)
    if diverged or not all(math.isfinite(loss) for _, loss in evaluations):
        return math.inf
    for step, loss in evaluations:
        if loss <= 0:
            raise ValueError(
                f"losses must be positive to have a logarithm, got {loss:g} at step {step}; "
                f"subtract the task's lowest possible loss"
            )
    area = sum(
        (end - start) * (math.log(before) + math.log(after)) / 2
        for (start, before), (end, after) in pairwise(evaluations)
    )
    return area / (evaluations[-1][0] - evaluations[0][0])


def anytime(
    evaluations: Evaluations,
    total_steps: int,
    shares: Sequence[float] = (0.25, 0.5, 0.75),
) -> list[float]:
    """Loss at the last evaluation at or before each share of the budget.

    Infinite for a run that had ended by then: diverged runs stop short of ``total_steps``.

    >>> anytime([(0, 9.0), (5, 4.0), (10, 2.0)], total_steps=20, shares=(0.25, 0.3, 0.75))
    [4.0, 4.0, inf]
    """
    _check(evaluations)
    spacing = max((end[0] - start[0] for start, end in pairwise(evaluations)), default=0)
    losses: list[float] = []
    for share in shares:
        step = share * total_steps
        before = [(at, loss) for at, loss in evaluations if at <= step + 1e-9]
        ended = evaluations[-1][0] + spacing <= step
        losses.append(math.inf if ended or not before else before[-1][1])
    return losses


def _crossing(earlier: tuple[int, float], later: tuple[int, float], target: float) -> float:
    (start, above), (end, below) = earlier, later
    if not math.isfinite(above):
        return float(end)
    if min(above, below, target) > 0:
        above, below, target = math.log(above), math.log(below), math.log(target)
    return start + (end - start) * (above - target) / (above - below)


def _ratio(taken: float, fastest: float) -> float:
    if math.isinf(taken):
        return math.inf
    return taken / fastest if fastest > 0 else (1.0 if taken == 0 else math.inf)


def _check(evaluations: Evaluations, at_least: int = 1) -> None:
    if len(evaluations) < at_least:
        raise ValueError(f"evaluations must be {at_least} or more, got {len(evaluations)}")
    if any(start[0] >= end[0] for start, end in pairwise(evaluations)):
        raise ValueError("evaluations must be in the order of their steps, each step once")
