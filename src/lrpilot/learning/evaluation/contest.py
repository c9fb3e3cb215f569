"""One held-out set: policies from right and wrong base rates, tuned schedules, controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from cmaes import CMA

from lrpilot.bench.held_out import REPLAY, TIME, TUNED, WORST, HeldOutRow
from lrpilot.learning.evaluation.sets import HeldOut, Part
from lrpilot.learning.playing import (
    Played,
    under_base,
    under_offsets,
    under_policies,
    under_schedules,
)
from lrpilot.learning.runs import Floats
from lrpilot.schedules import named_schedule
from lrpilot.schedules.learned.policy import Action, Policy

WRONGS = (0.1, 1.0, 10.0)
"""Factors by which the untuned rate is off: that of theory, or the tuned one of cosine."""
GRID: Mapping[str, tuple[float, ...]] = {
    "nmf": tuple(10 ** (k / 4) for k in range(-8, 5)),
    "net": tuple(10 ** (k / 4) for k in range(-5, 6)),
}
"""Rates that schedules are tuned over, as factors of the untuned one."""
WATCH = 3  # decisions from one look at the measure to the next
KNOTS = 7  # of the best fixed schedule: ln of its rate over the base's, straight between them
CANDIDATES, GENERATIONS = 10, 16  # of the search for it


def contest(held_out: HeldOut, kind: str, policies: Mapping[str, Policy]) -> list[HeldOutRow]:
    """All contenders on one set, whose judged problems none of them was tuned on.

    base: the untuned base schedule, as an untrained policy. policies: by name. replay NAME: the
    policy's mean trajectory on the tuning problems, followed blindly. tuned SCHEDULE: at the rate
    that is best on the tuning problems. fixed: the best fixed trajectory there, searched in the
    policy's parametrisation. oracle: for each judged problem the best of all tuned schedules and
    rates on that very problem. Under the first three, whose rates may be wrong, networks that
    diverge are put back; under base and policies, which retreat, also those that lose ground.
    """
    several = list(policies.values())
    first, count = several[0], len(several)
    rows: list[HeldOutRow] = []
    for wrong in WRONGS:
        base = held_out.untuned("judged", 1, wrong)
        finals = under_base(base, first.base, first.action)
        rows.append(_row(held_out, "base", wrong, finals))
        played = under_policies(held_out.untuned("judged", count, wrong), several, watch=WATCH)
        shares = times(played, finals, base.total_steps)
        tuning = under_policies(held_out.untuned("tuning", count, wrong), several)
        ways = tuning.offsets.mean(axis=2)
        replayed = under_offsets(held_out.untuned("judged", count, wrong), first.base, ways)
        kinds = {"": played.finals, f"{TIME} ": shares, f"{REPLAY} ": replayed}
        for prefix, found in kinds.items():
            for name, values in zip(policies, found, strict=True):
                rows.append(_row(held_out, prefix + name, wrong, values))
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


def on_grid(held_out: HeldOut, part: Part, names: Sequence[str], grid: Sequence[float]) -> Floats:
    """ln of what is left (names, grid, problems), each schedule at every rate of the grid."""
    each = [name for name in names for _ in grid]
    runs = held_out.stack(part, len(each), 1.0)
    made = [named_schedule(name, runs.total_steps) for name in each]
    finals = under_schedules(runs, made, list(grid) * len(names))
    return finals.reshape(len(names), len(grid), -1)


def _tuned(held_out: HeldOut, grid: Sequence[float]) -> list[HeldOutRow]:
    tuning, judged = (on_grid(held_out, part, TUNED, grid) for part in ("tuning", "judged"))
    found = [_row(held_out, "oracle", 1.0, judged.min(axis=(0, 1)))]
    for name, best, left in zip(TUNED, tuning.mean(axis=2).argmin(axis=1), judged, strict=True):
        found.append(_row(held_out, f"tuned {name}", 1.0, left[best]))
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
