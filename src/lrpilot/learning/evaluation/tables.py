"""What the rows show: ratios of what is left, by group of sets, set and policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lrpilot.bench.held_out import (
    CONTROLS,
    REPLAY,
    TIME,
    HeldOutRow,
    by_set,
    differences,
    interval_over_sets,
    policies_of,
    wrongs_of,
)
from lrpilot.bench.sheet import Sheet, ratio

TIE = 0.01  # ln of the factor within which nobody wins
RESAMPLES = 2000
SHOWN = ("base", "replay", "fixed", "tuned step", "tuned cosine", "oracle")


class Compared(NamedTuple):
    """Policies against a control on the same problems, over several sets.

    ratio: left by the policies over left by the control; geometric mean over the problems of a set,
    then sets, then policies. low, high: its interval over sets. each: of each policy. wins, losses:
    shares of problems and policies with a difference above 1 %. worst: ratio of the worst set.
    """

    ratio: float
    low: float
    high: float
    each: tuple[float, ...]
    wins: float
    losses: float
    worst: float
    sets: int


def tables(rows: Sequence[HeldOutRow]) -> list[Sheet]:
    """Against what, at which base rate, in which group; times; set by set; and lost runs."""
    return [summary(rows), times(rows), set_by_set(rows), lost(rows)]


def summary(rows: Sequence[HeldOutRow]) -> Sheet:
    """Every control in every group."""
    columns = ["problems", "base rate", "over", "ratio", "95 % over sets", "each policy"]
    columns += ["worst set", "wins", "losses", "sets"]
    lines: list[list[str]] = []
    for group in dict.fromkeys(row.group for row in rows):
        of_group = [row for row in rows if row.group == group]
        for wrong in wrongs_of(of_group):
            for control in _controls_of(of_group):
                found = compared(of_group, control, wrong)
                lines.append([group, f"× {wrong:g}", control, *_texts(found)])
    return Sheet("Policies over their controls", columns, lines)


def times(rows: Sequence[HeldOutRow]) -> Sheet:
    """When the policies are below what their base ends with, for good."""
    columns = ["problems", "base rate", "median share of the horizon", "runs that get there"]
    lines: list[list[str]] = []
    for group in dict.fromkeys(row.group for row in rows):
        for wrong in wrongs_of(rows):
            found = [
                row.finals
                for row in rows
                if (row.group, row.wrong) == (group, wrong) and row.contender.startswith(TIME)
            ]
            shares = np.concatenate(found) if found else np.array([np.inf])
            median = float(np.median(shares))
            there = f"{np.isfinite(shares).mean():.0%}"
            share = f"{median:.2f}" if math.isfinite(median) else "never"
            lines.append([group, f"× {wrong:g}", share, there])
    return Sheet("Time to what the base ends with", columns, lines)


def set_by_set(rows: Sequence[HeldOutRow]) -> Sheet:
    """Every set at every base rate."""
    columns = ["axis", "set", "base rate", *(f"over {control}" for control in SHOWN)]
    lines: list[list[str]] = []
    for name, of_set in by_set(rows).items():
        for wrong in wrongs_of(of_set):
            ratios = [ratio(compared(of_set, control, wrong).ratio) for control in SHOWN]
            lines.append([of_set[0].axis, name, f"× {wrong:g}", *ratios])
    return Sheet("Set by set", columns, lines)


def lost(rows: Sequence[HeldOutRow]) -> Sheet:
    """Runs that diverged, of all."""
    kinds = {"policies": policies_of(rows)}
    kinds |= {name: [name] for name in _controls_of(rows) if name not in (REPLAY, "oracle")}
    lines: list[list[str]] = []
    for kind, names in kinds.items():
        finals = np.concatenate([row.finals for row in rows if row.contender in names])
        lines.append([kind, str(int(np.isinf(finals).sum())), str(len(finals))])
    return Sheet("Lost runs", ["under", "lost", "runs"], lines)


def compared(rows: Sequence[HeldOutRow], control: str, wrong: float) -> Compared:
    """The policies at a base rate that is ``wrong``, against ``control`` on the same sets."""
    of_set = [differences(some, "learned", control, wrong) for some in by_set(rows).values()]
    means = np.array([one.mean(axis=1) for one in of_set])  # (sets, policies)
    over_sets = means.mean(axis=1)
    every = np.concatenate([one.ravel() for one in of_set])
    low, high = interval_over_sets(over_sets.tolist(), RESAMPLES)
    return Compared(
        math.exp(over_sets.mean()),
        math.exp(low),
        math.exp(high),
        tuple(np.exp(means.mean(axis=0)).tolist()),
        float((every < -TIE).mean()),
        float((every > TIE).mean()),
        math.exp(over_sets.max()),
        len(of_set),
    )


def _controls_of(rows: Sequence[HeldOutRow]) -> list[str]:
    there = {row.contender for row in rows}
    return [REPLAY, *(name for name in CONTROLS if name in there)]


def _texts(found: Compared) -> list[str]:
    return [
        f"**{found.ratio:.3f}**",
        f"{found.low:.3f} to {found.high:.3f}",
        ", ".join(f"{one:.3f}" for one in found.each),
        f"{found.worst:.3f}",
        f"{found.wins:.0%}",
        f"{found.losses:.0%}",
        str(found.sets),
    ]
