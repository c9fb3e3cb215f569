"""One held-out set: policies from right and wrong base rates, tuned schedules, controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from cmaes import CMA

from lrpilot.learning.evaluation.playing import under_offsets, under_policies, under_schedules
from lrpilot.learning.evaluation.sets import HeldOut
from lrpilot.learning.runs import Floats
from lrpilot.schedules import named_schedule
from lrpilot.schedules.learned.policy import Action, Policy

WRONGS: Mapping[str, tuple[float, ...]] = {"nmf": (0.1, 1.0, 10.0), "net": (0.1, 1.0, 10.0)}
"""Factors by which the untuned rate is off: that of theory, or the tuned one of cosine."""
TUNED = ("constant", "step", "exponential", "cosine", "linear", "greedy", "greedy-cooldown")
GRID: Mapping[str, tuple[float, ...]] = {
    "nmf": tuple(10 ** (k / 4) for k in range(-8, 5)),
    "net": tuple(10 ** (k / 4) for k in range(-5, 6)),
}
"""Rates that schedules are tuned over, as factors of the untuned one."""
KNOTS = 7  # of the best fixed schedule: ln of its rate over the base's, straight between them
CANDIDATES, GENERATIONS = 10, 16  # of the search for it
WORST = 3.0  # ln of the factor by which a run counts at most there


class Entry(NamedTuple):
    """Where the problems of a set ended under one contender.

    wrong: factor by which its base rate was off; 1 for what is tuned. finals: ln of what is left,
    by problem; infinite for a run that diverged.
    """

    contender: str
    wrong: float
    finals: tuple[float, ...]


def contest(held_out: HeldOut, kind: str, policies: Mapping[str, Policy]) -> list[Entry]:
    """All contenders on one set, whose judged problems none of them was tuned on.

    base: the untuned base schedule. policies: by name. replay NAME: the policy's mean trajectory on
    the tuning problems, followed blindly. tuned SCHEDULE: at the rate that is best on the tuning
    problems. fixed: the best fixed trajectory there, searched in the policy's parametrisation.
    oracle: for each judged problem the best of all tuned schedules and rates on that very problem.
    """
    first = next(iter(policies.values()))
    entries: list[Entry] = []
    for wrong in WRONGS[kind]:
        base = held_out.stack("judged", 1, wrong)
        finals = under_offsets(base, first.base, np.zeros((base.total_steps, 1)))
        entries.append(_entry("base", wrong, finals[0]))
        played = under_policies(
            held_out.stack("judged", len(policies), wrong), list(policies.values())
        )
        entries += [_entry(n, wrong, f) for n, f in zip(policies, played.finals, strict=True)]
        ways = under_policies(
            held_out.stack("tuning", len(policies), wrong), list(policies.values())
        ).offsets.mean(axis=2)
        replayed = under_offsets(held_out.stack("judged", len(policies), wrong), first.base, ways)
        entries += [
            _entry(f"replay {n}", wrong, f) for n, f in zip(policies, replayed, strict=True)
        ]
    entries += _tuned(held_out, GRID[kind])
    entries.append(_entry("fixed", 1.0, _fixed(held_out, first.base, first.action)))
    return entries


def _entry(name: str, wrong: float, finals: Floats) -> Entry:
    return Entry(name, wrong, tuple(finals.tolist()))


def _tuned(held_out: HeldOut, grid: Sequence[float]) -> list[Entry]:
    names = [name for name in TUNED for _ in grid]
    factors = list(grid) * len(TUNED)

    def finals(part: str) -> Floats:
        runs = held_out.stack(part, len(names), 1.0)  # pyright: ignore[reportArgumentType]
        schedules = [named_schedule(name, runs.total_steps) for name in names]
        return under_schedules(runs, schedules, factors)

    tuning, judged = finals("tuning"), finals("judged")
    found = [_entry("oracle", 1.0, judged.min(axis=0))]
    for at, name in enumerate(TUNED):
        rows = slice(at * len(grid), (at + 1) * len(grid))
        best = int(tuning[rows].mean(axis=1).argmin())
        found.append(_entry(f"tuned {name}", 1.0, judged[rows][best]))
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
