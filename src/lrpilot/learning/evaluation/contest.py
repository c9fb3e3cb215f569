"""One held-out set: policies from right and wrong base rates, tuned schedules, controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from cmaes import CMA

from lrpilot.bench.held_out import TUNED, HeldOutRow
from lrpilot.learning.evaluation.playing import (
    Played,
    under_offsets,
    under_policies,
    under_schedules,
)
from lrpilot.learning.evaluation.sets import HeldOut
from lrpilot.learning.runs import Floats
from lrpilot.schedules import named_schedule
from lrpilot.schedules.learned.policy import Action, Policy

WRONGS: Mapping[str, tuple[float, ...]] = {"nmf": (0.1, 1.0, 10.0), "net": (0.1, 1.0, 10.0)}
"""Factors by which the untuned rate is off: that of theory, or the tuned one of cosine."""
GRID: Mapping[str, tuple[float, ...]] = {
    "nmf": tuple(10 ** (k / 4) for k in range(-8, 5)),
    "net": tuple(10 ** (k / 4) for k in range(-5, 6)),
}
"""Rates that schedules are tuned over, as factors of the untuned one."""
WATCH = 3  # decisions from one look at the measure to the next
KNOTS = 7  # of the best fixed schedule: ln of its rate over the base's, straight between them
CANDIDATES, GENERATIONS = 10, 16  # of the search for it
WORST = 3.0  # ln of the factor by which a run counts at most there


def contest(held_out: HeldOut, kind: str, policies: Mapping[str, Policy]) -> list[HeldOutRow]:
    """All contenders on one set, whose judged problems none of them was tuned on.

    base: the untuned base schedule. policies: by name. replay NAME: the policy's mean trajectory on
    the tuning problems, followed blindly. tuned SCHEDULE: at the rate that is best on the tuning
    problems. fixed: the best fixed trajectory there, searched in the policy's parametrisation.
    oracle: for each judged problem the best of all tuned schedules and rates on that very problem.
    """
    first = next(iter(policies.values()))
    rows: list[HeldOutRow] = []
    for wrong in WRONGS[kind]:
        base = held_out.stack("judged", 1, wrong)
        finals = under_offsets(base, first.base, np.zeros((base.total_steps, 1)))
        rows.append(_row(held_out, "base", wrong, finals[0]))
        played = under_policies(
            held_out.stack("judged", len(policies), wrong), list(policies.values()), watch=WATCH
        )
        rows += [_row(held_out, n, wrong, f) for n, f in zip(policies, played.finals, strict=True)]
        shares = times(played, finals[0], base.total_steps)
        rows += [
            _row(held_out, f"time {n}", wrong, f) for n, f in zip(policies, shares, strict=True)
        ]
        ways = under_policies(
            held_out.stack("tuning", len(policies), wrong), list(policies.values())
        ).offsets.mean(axis=2)
        replayed = under_offsets(held_out.stack("judged", len(policies), wrong), first.base, ways)
        rows += [
            _row(held_out, f"replay {n}", wrong, f) for n, f in zip(policies, replayed, strict=True)
        ]
    rows += _tuned(held_out, GRID[kind])
    rows.append(_row(held_out, "fixed", 1.0, _fixed(held_out, first.base, first.action)))
    return rows


def _row(held_out: HeldOut, contender: str, wrong: float, finals: Floats) -> HeldOutRow:
    where = held_out.name, held_out.group, held_out.axis
    return HeldOutRow(*where, contender, wrong, tuple(finals.tolist()))


def times(played: Played, target: Floats, total_steps: int) -> Floats:
    """From which share of the horizon on runs stayed at or below ``target``: (copies, problems).

    Infinite for a run that ends above it, or whose target is infinite.
    """
    below = (played.watched <= target) & np.isfinite(target)
    since = np.logical_and.accumulate(below[::-1], axis=0)[::-1]  # from here on to the end
    first = np.where(since.any(axis=0), since.argmax(axis=0), -1)
    shares = np.append(played.steps / total_steps, np.inf)
    return shares[first]


def _tuned(held_out: HeldOut, grid: Sequence[float]) -> list[HeldOutRow]:
    names = [name for name in TUNED for _ in grid]
    factors = list(grid) * len(TUNED)

    def finals(part: str) -> Floats:
        runs = held_out.stack(part, len(names), 1.0)  # pyright: ignore[reportArgumentType]
        schedules = [named_schedule(name, runs.total_steps) for name in names]
        return under_schedules(runs, schedules, factors)

    tuning, judged = finals("tuning"), finals("judged")
    found = [_row(held_out, "oracle", 1.0, judged.min(axis=0))]
    for at, name in enumerate(TUNED):
        rows = slice(at * len(grid), (at + 1) * len(grid))
        best = int(tuning[rows].mean(axis=1).argmin())
        found.append(_row(held_out, f"tuned {name}", 1.0, judged[rows][best]))
    return found


def _fixed(held_out: HeldOut, base: str, action: Action) -> Floats:
    """ln of what the best trajectory leaves on the judged problems."""

    def ways(knots: Floats, total_steps: int) -> Floats:
        at = np.arange(total_steps) / total_steps * (KNOTS - 1)
        limited = np.clip(knots, -action.limit, action.limit)
        return np.stack([np.interp(at, np.arange(KNOTS), one) for one in limited], axis=1)

    search = CMA(mean=np.zeros(KNOTS), sigma=0.7, seed=0, population_size=CANDIDATES)
    for _ in range(GENERATIONS):
        asked = np.stack([search.ask() for _ in range(CANDIDATES)])
        runs = held_out.stack("tuning", CANDIDATES, 1.0)
        finals = under_offsets(runs, base, ways(asked, runs.total_steps))
        centre = np.median(np.where(np.isfinite(finals), finals, math.log(1e9)), axis=0)
        scores = np.clip(finals - centre, -WORST, WORST).mean(axis=1)
        search.tell([(x, float(score)) for x, score in zip(asked, scores, strict=True)])
    runs = held_out.stack("judged", 1, 1.0)
    return under_offsets(runs, base, ways(search.mean[None], runs.total_steps))[0]
