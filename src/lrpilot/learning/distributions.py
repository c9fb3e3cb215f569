"""What policies are trained on: stacks of random problems, and the actions that they allow."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import numpy as np

from lrpilot.learning.guarded import GuardedRuns
from lrpilot.learning.net_cells import NetCell, data_of, problem_of, random_cell
from lrpilot.learning.net_runs import runs_at
from lrpilot.learning.nmf_runs import NMFRuns, random_matrices, random_setting, runs_of
from lrpilot.learning.paired import Draw
from lrpilot.learning.playing import under_offsets
from lrpilot.learning.runs import Floats, Mask
from lrpilot.learning.taught import Exercise, Exercises
from lrpilot.schedules.learned.policy import Action

KINDS = ("nmf", "net")
VERSIONS: Mapping[str, int] = {"nmf": 4, "net": 5}
"""Rises with every change that alters what a seed trains on."""

BASE_OF: Mapping[str, str] = {"nmf": "inverse-linear", "net": "ramp-linear"}
ACTION_OF: Mapping[str, Action] = {
    "nmf": Action(kind="steps", size=math.log(2.5), limit=4.5),
    "net": Action(kind="steps", size=math.log(2.5), limit=math.log(100)),
}
UNSEEN_OF: Mapping[str, tuple[str, ...]] = {"nmf": (), "net": ("level",)}
"""Features that get no weight, since what they say of one kind of loss does not hold for another,
as with how low it is."""

NMF_PROBLEMS = 16  # per stack
OFTEN_WRONG = 0.5  # share of the stacks of factorisations whose base rates are off
TRIED = np.linspace(math.log(0.01), math.log(10), 13)  # offsets, of which the right ones are found
GOOD = 0.01  # in ln, that such a one may end above the best
TRAINING_CELLS = (*range(64), *range(96, 608))
VALIDATION_CELLS = range(64, 80)  # policies are chosen on these; features, on 80 to 95
WRONG = 10.0  # factor by which a base rate may be off
WIDE = 12  # problems or rates of a wide stack
RATES = 8  # per stack of networks
LONGER, OFTEN_LONGER = 3, 0.2  # times the horizon, and how often
TRAINING_SEEDS = 800  # so many different starts of a cell
TRAINING_STACKS: Mapping[str, int] = {"nmf": 4, "net": 6}  # that a generation is judged on
VALIDATION_STACKS: Mapping[str, int] = {"nmf": 32, "net": len(VALIDATION_CELLS)}


def nmf_stack(rng: np.random.Generator, copies: int, *, problems: int = NMF_PROBLEMS) -> NMFRuns:
    """Factorisations of a random setting, each ``copies`` times.

    The base rates of half of the stacks are up to `WRONG` times off.
    """
    setting = random_setting(rng)
    V = random_matrices(setting, problems, rng)
    logs = wrong_by(rng, problems) * (rng.random() < OFTEN_WRONG)
    return runs_of(setting, V, rng, wrong=np.exp(logs), copies=copies)


def nmf_exercise(rng: np.random.Generator) -> Exercise:
    """Factorisations of a random setting at rates that are off.

    The offsets are right with which the base ends as low as with any, or hardly above: from the
    mean over the problems, each tried with all of `TRIED`.
    """
    setting = random_setting(rng)
    V = random_matrices(setting, WIDE, rng)
    tried = np.tile(TRIED, (setting.total_steps, 1))
    runs = runs_of(setting, V, rng, copies=len(TRIED))
    left = under_offsets(runs, BASE_OF["nmf"], tried).mean(axis=1)
    first, last = around(left <= left.min() + GOOD, int(left.argmin()))
    # Beyond what was tried nothing is known to be worse.
    low = TRIED[first] if first else -np.inf
    high = TRIED[last] if last < len(TRIED) - 1 else np.inf
    logs = wrong_by(rng, WIDE)
    return Exercise(runs_of(setting, V, rng, wrong=np.exp(logs)), low - logs, high - logs)


def around(which: Mask, at: int) -> tuple[int, int]:
    """The first and the last of those true in a row that ``at`` is among.

    >>> around(np.array([True, False, True, True]), 2)
    (2, 3)
    """
    others = np.flatnonzero(~which)
    before, after = others[others < at], others[others > at]
    first = before[-1] + 1 if len(before) else 0
    return int(first), int(after[0]) - 1 if len(after) else len(which) - 1


def net_stack(
    rng: np.random.Generator,
    copies: int,
    *,
    rates: int = RATES,
    cells: Sequence[int] = TRAINING_CELLS,
) -> GuardedRuns:
    """Networks of a random cell at ``rates`` base rates, each ``copies`` times, from one start.

    The rates are up to `WRONG` times off, as `wrong_by` has it.
    A guard brakes those that diverge, and puts them back. Some cells get `LONGER` horizons.
    """
    return _networks(rng, copies, rates, cells)[0]


def net_exercise(rng: np.random.Generator, cells: Sequence[int] = TRAINING_CELLS) -> Exercise:
    """Networks of a random cell; the offset that is right undoes what is wrong with the rate."""
    runs, right = _networks(rng, 1, WIDE, cells)
    return Exercise(runs, right, right)


def wrong_by(rng: np.random.Generator, rates: int) -> Floats:
    """ln of the factors by which base rates are off: up to `WRONG`, more often by much (rates,)."""
    at = (np.arange(rates) + rng.uniform(0, 1, rates)) / rates  # one in each part of the range
    at = 2 * at - 1
    return math.log(WRONG) * (at + np.sin(np.pi / 2 * at)) / 2


def _networks(
    rng: np.random.Generator, copies: int, rates: int, cells: Sequence[int]
) -> tuple[GuardedRuns, Floats]:
    """Runs, and ln of the tuned rate over the base rate of each."""
    cell = random_cell(int(rng.choice(cells)))
    logs = wrong_by(rng, rates)
    problem = problem_of(cell, int(rng.integers(TRAINING_SEEDS)), data_of(cell))
    longer = LONGER if rng.random() < OFTEN_LONGER else 1
    runs = runs_at(
        [problem],
        (tuned_lr(cell) * np.exp(logs)).tolist(),
        optimizer=cell.optimizer,
        total_steps=longer * cell.total_steps,
        copies=copies,
    )
    return GuardedRuns(runs), np.tile(-logs, copies)


STACKS: Mapping[str, Draw] = {"nmf": nmf_stack, "net": net_stack}
WIDE_STACKS: Mapping[str, Draw] = {
    "nmf": lambda rng, copies: nmf_stack(rng, copies, problems=WIDE),
    "net": lambda rng, copies: net_stack(rng, copies, rates=WIDE),
}
"""With more problems, for a learner that tries one policy at a time."""
EXERCISES: Mapping[str, Exercises] = {"nmf": nmf_exercise, "net": net_exercise}
"""Where the right rate is known, so that a teacher can tell it."""


def validation_draw(kind: str, number: int) -> Draw:
    """The stack of number ``number`` that policies are chosen on, the same at every call.

    None of its problems is trained on.
    """
    if kind == "nmf":
        return lambda rng, copies: nmf_stack(np.random.default_rng([number, 1]), copies)
    cells = range(VALIDATION_CELLS[number], VALIDATION_CELLS[number] + 1)
    return lambda rng, copies: net_stack(np.random.default_rng([number, 1]), copies, cells=cells)


def tuned_lr(cell: NetCell) -> float:
    """The best base rate for cosine, as `lrpilot.learning.tuned` found it."""
    return _tuned()[cell.seed]


@cache
def _tuned() -> dict[int, float]:
    text = (resources.files("lrpilot.learning") / "cells.csv").read_text(encoding="utf-8")
    return {int(row["cell"]): float(row["lr"]) for row in csv.DictReader(text.splitlines())}
