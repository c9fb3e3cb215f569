"""Imitate the best of recorded runs: a policy to begin reinforcement learning from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lrpilot.bench.store import Store
from lrpilot.learning.cma import Layers
from lrpilot.learning.past import PastRun, PastRuns
from lrpilot.learning.student import Shown, Student
from lrpilot.schedules.learned.features import (
    MEASURED,
    NAMES,
    NOTHING,
    Numbers,
    begun,
    features,
    seen_with,
    worst_counted,
)
from lrpilot.schedules.learned.learned import closed, window_after
from lrpilot.schedules.learned.policy import BASES, Action

BEST = 0.15  # share of a group's runs that is imitated
FEWEST = 5  # runs of a group, of which one is imitated
UPDATES = 1500
RATE = 0.01


class Recording(NamedTuple):
    """A run with every loss and rate.

    group: what runs have in common that are judged against each other. final: the measure at the
    end, lower is better; infinite if the run was lost.
    """

    group: str
    lr: float
    losses: Sequence[float]
    rates: Sequence[float]
    final: float


def imitated(
    path: Path,
    *,
    base: str,
    action: Action,
    hidden: tuple[int, ...],
    seed: int,
    unseen: Sequence[str] = (),
) -> Layers:
    """A network that acts as the best runs of a store did, without seeing some features.

    Raises ValueError if no group of runs is large enough to have best ones.
    """
    chosen = best(recordings(path))
    if not chosen:
        raise ValueError(
            f"{path} has nothing to imitate: it needs {FEWEST} or more runs of a task with every "
            f"loss and rate, trials of lrpilot compare or imported runs described by task=..."
        )
    shown = [decisions(one, base, action) for one in chosen]
    both = Shown(*(np.concatenate(parts) for parts in zip(*shown, strict=True)))
    return clone(both, hidden, seed, unseen)


def recordings(path: Path) -> list[Recording]:
    """Trials and imported runs that have losses and rates.

    Trials of a task, optimizer and horizon are a group, whatever their rate and schedule; imported
    runs with equal descriptions of "task" are one. A base rate is described by "base_lr", and
    otherwise the first rate.
    """
    found: list[Recording] = []
    with Store(path) as store:
        for trial, outcome in store.outcomes(store.trials()):
            if outcome.status == "failed" or not outcome.rates:
                continue
            loss = outcome.validation_loss if outcome.status == "done" else None
            final = math.inf if loss is None else loss
            group = f"{trial.task}, {trial.optimizer}, {trial.total_steps}"
            found.append(Recording(group, trial.lr, outcome.losses, outcome.rates, final))
    return [*found, *(one for run in PastRuns(path).all() if (one := _recorded(run)))]


def best(found: Sequence[Recording], share: float = BEST) -> list[Recording]:
    """The best ``share`` of each group with `FEWEST` runs or more, one at least; none that is lost.

    >>> runs = [Recording("a", 1.0, [], [], final) for final in (3.0, 1.0, 2.0, 5.0, 4.0)]
    >>> [run.final for run in best(runs)]
    [1.0]
    """
    groups: dict[str, list[Recording]] = {}
    for one in found:
        groups.setdefault(one.group, []).append(one)
    chosen: list[Recording] = []
    for runs in groups.values():
        if len(runs) >= FEWEST:
            count = max(round(share * len(runs)), 1)
            ended = [run for run in runs if math.isfinite(run.final)]
            chosen += sorted(ended, key=lambda run: run.final)[:count]
    return chosen


def decisions(run: Recording, base: str, action: Action) -> Shown:
    """What a policy would have seen at each decision, and the action that the run then took.

    An offset is the mean ln of the rate over the base schedule's in a window; the action is the one
    that leads from a window's offset to the next one's.
    """
    total_steps, shape = len(run.losses), BASES[base]
    scales = np.array([shape(step / total_steps) for step in range(total_steps)])
    with np.errstate(divide="ignore"):
        offsets = np.log(np.asarray(run.rates) / run.lr) - np.log(scales)
    # Where the base is 0, as it is before a warm-up, nothing says what the offset is.
    offsets = np.where(scales > 0, offsets, np.nan).clip(-action.limit, action.limit)
    seen, rows, taken = None, list[Sequence[float]](), list[float]()
    last = offset = 0.0
    for begins, ends, after in _windows(total_steps):
        if not ends:
            rows.append(NOTHING)
        else:
            x = np.asarray(run.losses[begins:ends], dtype=np.float64)
            x = x if seen is None else np.minimum(x, worst_counted(seen, Numbers))
            noise = float(np.square(np.diff(x)).sum())
            window = closed(ends - begins, float(x.sum()), noise)
            seen = begun(window) if seen is None else seen_with(seen, window, Numbers)
            share, progress = offset / action.limit, ends / total_steps
            rows.append(features(seen, ends - begins, progress, share, last, Numbers))
        known = offsets[ends:after][np.isfinite(offsets[ends:after])]
        wanted = float(known.mean()) if len(known) else offset
        moved = wanted - offset if action.kind == "steps" else wanted
        last = min(max(moved / action.size, -1.0), 1.0)
        taken.append(last)
        offset = wanted
    return Shown(np.array(rows).reshape(-1, len(NAMES)), np.array(taken))


def clone(shown: Shown, hidden: tuple[int, ...], seed: int, unseen: Sequence[str] = ()) -> Layers:
    """The network with the least squared error of its actions."""
    never = itertools.chain(*MEASURED.values())  # recordings have losses and rates alone
    student = Student(hidden, seed, (*unseen, *never))
    student.fit(shown, updates=UPDATES, rate=RATE)
    return student.layers


def _windows(total_steps: int) -> Iterator[tuple[int, int, int]]:
    """Of each decision: where the window before it begins and ends, and where the next one ends.

    Before the first decision is none: it begins and ends at 0.
    """
    begins = ends = 0
    while ends < total_steps:
        after = min(ends + window_after(ends, total_steps), total_steps)
        yield begins, ends, after
        begins, ends = ends, after


def _recorded(run: PastRun) -> Recording | None:
    task, rates = run.description.get("task"), [rate for _, rate in run.series.get("rates", [])]
    losses, evaluations = [loss for _, loss in run.losses], run.series.get("evaluations", [])
    if task is None or len(rates) != len(losses) or not evaluations:
        return None
    lr = float(run.description.get("base_lr", rates[0]))
    final = evaluations[-1][1]
    is_lost = not all(map(math.isfinite, [*losses, final]))
    return Recording(task, lr, losses, rates, math.inf if is_lost else final)
