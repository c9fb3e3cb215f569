"""What the entries show: ratios of what is left, by group of sets, set and policy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrpilot.bench.sheet import Sheet, ratio
from lrpilot.learning.evaluation.contest import TUNED
from lrpilot.learning.runs import Floats

if TYPE_CHECKING:
    from lrpilot.learning.evaluation.evaluated import Result

WORST = 3.0  # ln of the factor by which one run counts at most
TIE = 0.01  # ln of the factor within which nobody wins
RESAMPLES, LEVEL = 2000, 0.95
UNTUNED = {"base"}
OTHERS = {*UNTUNED, "fixed", "oracle", *(f"tuned {name}" for name in TUNED)}


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


def tables(results: Sequence[Result]) -> list[Sheet]:
    """Against what, at which base rate, in which group; set by set; and lost runs."""
    return [summary(results), by_set(results), lost(results)]


def summary(results: Sequence[Result]) -> Sheet:
    """Every control in every group."""
    columns = ["problems", "base rate", "over", "ratio", "95 % over sets", "each policy"]
    columns += ["worst set", "wins", "losses", "sets"]
    rows: list[list[str]] = []
    for group in distinct(one.group for one in results):
        of_group = [one for one in results if one.group == group]
        for wrong in wrongs_of(of_group):
            for control in controls_of(of_group):
                found = compared(of_group, control, wrong)
                rows.append([group, f"× {wrong:g}", control, *_texts(found)])
    return Sheet("Policies over their controls", columns, rows)


def by_set(results: Sequence[Result]) -> Sheet:
    """Every set at every base rate."""
    shown = ["base", "replay", "fixed", "tuned step", "tuned cosine", "oracle"]
    columns = ["axis", "set", "base rate", *(f"over {control}" for control in shown)]
    rows: list[list[str]] = []
    for name in distinct(one.name for one in results):
        of_set = [one for one in results if one.name == name]
        for wrong in wrongs_of(of_set):
            ratios = [ratio(compared(of_set, control, wrong).ratio) for control in shown]
            rows.append([of_set[0].axis, name, f"× {wrong:g}", *ratios])
    return Sheet("Set by set", columns, rows)


def lost(results: Sequence[Result]) -> Sheet:
    """Runs that diverged, of all."""
    rows: list[list[str]] = []
    kinds = {"policies": policies_of(results), "base": ["base"], "fixed": ["fixed"]}
    kinds |= {control: [control] for control in controls_of(results) if control.startswith("tuned")}
    for kind, names in kinds.items():
        finals = np.concatenate([one.entry.finals for one in results if one.entry[0] in names])
        rows.append([kind, str(int(np.isinf(finals).sum())), str(len(finals))])
    return Sheet("Lost runs", ["under", "lost", "runs"], rows)


def compared(results: Sequence[Result], control: str, wrong: float) -> Compared:
    """The policies at a base rate that is ``wrong``, against ``control`` on the same sets.

    control: "replay" stands for each policy's own; what is tuned is the same at every base rate.
    """
    policies = policies_of(results)
    of_set = [_differences(results, name, policies, control, wrong) for name in _names(results)]
    means = np.array([one.mean(axis=1) for one in of_set])  # (sets, policies)
    over_sets = means.mean(axis=1)
    every = np.concatenate([one.ravel() for one in of_set])
    rng = np.random.default_rng(0)
    drawn = over_sets[rng.integers(len(over_sets), size=(RESAMPLES, len(over_sets)))].mean(axis=1)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
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


def policies_of(results: Sequence[Result]) -> list[str]:
    """Names of the policies."""
    names = distinct(one.entry.contender for one in results)
    return [name for name in names if name not in OTHERS and not name.startswith("replay ")]


def controls_of(results: Sequence[Result]) -> list[str]:
    """All that the policies are compared with."""
    names = distinct(one.entry.contender for one in results)
    return ["replay", *(name for name in names if name in OTHERS)]


def wrongs_of(results: Sequence[Result]) -> list[float]:
    """The factors by which base rates are off."""
    return sorted({one.entry.wrong for one in results})


def distinct(names: Iterable[str]) -> list[str]:
    """Each name once, in order."""
    return list(dict.fromkeys(names))


def _names(results: Sequence[Result]) -> list[str]:
    return distinct(one.name for one in results)


def _differences(
    results: Sequence[Result], name: str, policies: Sequence[str], control: str, wrong: float
) -> Floats:
    """ln of left over left (policies, problems) on the set called ``name``."""
    finals = {one.entry[:2]: np.array(one.entry.finals) for one in results if one.name == name}
    rows: list[Floats] = []
    for policy in policies:
        other = f"replay {policy}" if control == "replay" else control
        at = wrong if control == "replay" or control in UNTUNED else 1.0
        ours, theirs = finals[policy, wrong], finals[other, at]
        ours, theirs = np.nan_to_num(ours, posinf=1e3), np.nan_to_num(theirs, posinf=1e3)
        rows.append(np.clip(ours - theirs, -WORST, WORST))
    return np.stack(rows)


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
