"""Rows of learned policies on held-out problems, beside their controls: kept, and compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrpilot.bench.row_file import read_rows, write_rows

WORST = 3.0  # ln of the factor by which one run counts at most
LARGEST = 1e3  # stands for an infinite ln
TUNED = ("constant", "step", "exponential", "cosine", "linear", "greedy", "greedy-cooldown")
UNTUNED = ("base",)  # controls that begin at the base rate that the policies begin at
CONTROLS = (*UNTUNED, "fixed", "oracle", *(f"tuned {name}" for name in TUNED))
REPLAY = "replay"  # of each policy its own
TIME = "time"  # before a policy's name: shares of the horizon instead of losses
COLUMNS = ("set", "group", "axis", "contender", "wrong", "finals")

Floats = NDArray[np.float64]


class HeldOutRow(NamedTuple):
    """Where the problems of a set ended under one contender, a policy or one of `CONTROLS`.

    Of "time NAME" finals are instead the shares of the horizon from which on the policy stayed
    below what its base schedule ends with, from the same base rate; infinite for never.

    group: that the set is counted with. axis: what is new about it. wrong: factor by which the base
    rate was off; 1 for what is tuned. finals: ln of what is left, by problem; infinite for a run
    that diverged.
    """

    name: str
    group: str
    axis: str
    contender: str
    wrong: float
    finals: tuple[float, ...]


def differences(rows: Sequence[HeldOutRow], ours: str, control: str, wrong: float) -> Floats:
    """ln of what ours left over what a control left, on one set: (ours, problems).

    ours: "learned" for all policies, or the name of one of `CONTROLS`. control: one of these, or
    "replay" for each policy's own. What is tuned is the same at every base rate.
    """
    finals = {(row.contender, row.wrong): np.array(row.finals) for row in rows}
    found: list[Floats] = []
    for name in policies_of(rows) if ours == "learned" else [ours]:
        other = f"{REPLAY} {name}" if control == REPLAY else control
        at = wrong if control == REPLAY or control in UNTUNED else 1.0
        found.append(ratios(finals[name, wrong], finals[other, at]))
    return np.stack(found)


def ratios(finals: Floats, others: Floats, worst: float = WORST) -> Floats:
    """ln of the ratios, each within ``worst`` of 0; 0 where both have diverged."""
    ahead = finals.clip(-LARGEST, LARGEST) - others.clip(-LARGEST, LARGEST)
    return ahead.clip(-worst, worst)


def interval_over_sets(means: Sequence[float], resamples: int) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of what sets have shown."""
    values, rng = np.asarray(means), np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def by_set(rows: Iterable[HeldOutRow]) -> dict[str, list[HeldOutRow]]:
    """The rows of each set, in order."""
    found: dict[str, list[HeldOutRow]] = {}
    for row in rows:
        found.setdefault(row.name, []).append(row)
    return found


def policies_of(rows: Iterable[HeldOutRow]) -> list[str]:
    """Names of the policies, each once."""
    names = dict.fromkeys(row.contender for row in rows)
    others = tuple(f"{prefix} " for prefix in (REPLAY, TIME))
    return [name for name in names if name not in CONTROLS and not name.startswith(others)]


def wrongs_of(rows: Iterable[HeldOutRow]) -> list[float]:
    """The factors by which base rates are off."""
    return sorted({row.wrong for row in rows})


def save_rows(path: Path, rows: Sequence[HeldOutRow], about: Mapping[str, str]) -> None:
    """Write rows; about: what made them, and the ``kind`` of the policies."""
    write_rows(path, COLUMNS, rows, about, digits=4, curve_digits=6)


def load_rows(path: Path) -> tuple[dict[str, str], list[HeldOutRow]]:
    """What `save_rows` wrote; ValueError if the file is no such file."""

    def read(texts: Sequence[str]) -> HeldOutRow:
        name, group, axis, contender, wrong, finals = texts
        left = tuple(map(float, finals.split()))
        return HeldOutRow(name, group, axis, contender, float(wrong), left)

    return read_rows(
        path, COLUMNS, read, what="an evaluation", writer="lrpilot evaluate KIND --save"
    )
