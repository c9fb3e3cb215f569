"""What a policy for networks owes to what it sees, how it acts, and what it is rewarded for.

Run `.venv/bin/python benchmarks/learned_ablations.py [VARIANT ...]`: five minutes of one core for
each variant. Ten lessons, then PPO with 16 hidden units for 20 updates, two seeds, on the training
cells that train fast (mixtures, teachers, spectra), base rates wrong by up to ten times, runs
guarded and put back. Judged on the fast ones of the cells 80 to 95, which nobody is trained or
chosen on, at five rates from 0.1 to 10 times the tuned one, three seeds of networks: mean ln of
what the policy leaves over what its base does, which retreats too, and over what the best of seven
tuned schedules leaves. The policy of the last update is judged, whatever validation said.
"""

import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from lrpilot.bench.held_out import TUNED, WORST
from lrpilot.learning import ppo
from lrpilot.learning.distributions import (
    ACTION_OF,
    BASE_OF,
    TRAINING_CELLS,
    UNSEEN_OF,
    WIDE,
    net_exercise,
    net_stack,
    tuned_lr,
)
from lrpilot.learning.evaluation.contest import GRID
from lrpilot.learning.guarded import GuardedRuns
from lrpilot.learning.net_cells import data_of, problem_of, random_cell
from lrpilot.learning.net_runs import runs_at
from lrpilot.learning.playing import under_base, under_policies, under_schedules
from lrpilot.learning.taught import taught
from lrpilot.schedules import Policy, named_schedule
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import Action

FAST = ("mixture", "teacher", "spectrum")
JUDGED = range(80, 96)
LESSONS, UPDATES, SEEDS = 10, 20, (0, 1)
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)
ACTION, BASE = ACTION_OF["net"], BASE_OF["net"]
HIDDEN = tuple(name for name in NAMES if name not in ("progress", "offset", "action"))
GRADIENTS, WEIGHTS = ("alignment", "persistence", "certainty"), ("movement", "travel", "evenness")
WITHOUT = {
    "as shipped": {},
    "without lessons": {"lessons": 0},
    "lessons alone": {"updates": 0},
    "without what weights tell": {"unseen": WEIGHTS},
    "without evenness": {"unseen": ("evenness",)},
    "without what gradients tell": {"unseen": GRADIENTS},
    "the loss alone": {"unseen": GRADIENTS + WEIGHTS},
    "weights alone": {"unseen": tuple(name for name in HIDDEN if name not in WEIGHTS)},
    "with the level of the loss": {"shows_level": True},
    "blind: progress, offset and action alone": {"unseen": HIDDEN},
    "on a linear warm-up": {"base": "warmup-linear"},
    "trained without guard and snapshots": {"guarded": False},
    "anchored actions, up to 10 times": {
        "action": Action(kind="anchored", size=math.log(10), limit=math.log(10))
    },
    "reward at the end alone": {"every": 10**6},
}


def fast(cells):
    return [cell for cell in cells if random_cell(cell).data in FAST]


def trained(
    seed,
    *,
    lessons=LESSONS,
    updates=UPDATES,
    guarded=True,
    shows_level=False,
    unseen=(),
    base=BASE,
    action=ACTION,
    every=ppo.EVERY,
):
    """The policy after so many lessons and updates."""
    ppo.EVERY = every
    cells, last, begin = fast(TRAINING_CELLS), [], None
    unseen = unseen if shows_level else (*UNSEEN_OF["net"], *unseen)
    both = {"base": base, "action": action, "hidden": (16,), "seed": seed, "unseen": unseen}

    def stack(rng, copies):
        runs = net_stack(rng, copies, rates=WIDE, cells=cells)
        return runs if guarded else runs.runs

    def exercise(rng):
        found = net_exercise(rng, cells)
        return found if guarded else found._replace(runs=found.runs.runs)

    def report(update):
        last.append(update.policy)
        return update.number < updates

    if lessons:
        begin = taught(exercise, lessons=lessons, **both)
    if not updates:
        return Policy(name="taught", squash="clip", base=base, action=action, **begin._asdict())
    with tempfile.TemporaryDirectory() as folder:
        ppo.improve(
            stack,
            checkpoint=Path(folder) / "learner.zip",
            log_dir=None,
            begin=begin,
            report=report,
            **both,
        )
    return last[-1]


def held_out(cell, copies, rates, seeds):
    problems = [problem_of(cell, seed, data_of(cell)) for seed in seeds]
    lrs = [tuned_lr(cell) * rate for rate in rates]
    settings = {"optimizer": cell.optimizer, "total_steps": cell.total_steps, "copies": copies}
    return runs_at(problems, lrs, **settings)


def references(cell):
    """ln of what the base leaves (rates, seeds), and what the best tuned schedule does (seeds,)."""
    base = under_base(GuardedRuns(held_out(cell, 1, RATES, range(3))), BASE, ACTION)
    names, factors = [n for n in TUNED for _ in GRID["net"]], list(GRID["net"]) * len(TUNED)
    made = [named_schedule(name, cell.total_steps) for name in names]
    runs = held_out(cell, len(names), (1.0,), range(900, 903))
    best = int(under_schedules(runs, made, factors).mean(axis=1).argmin())
    tuned = under_schedules(held_out(cell, 1, (1.0,), range(3)), [made[best]], [factors[best]])
    return base.reshape(len(RATES), -1), tuned[0]


def main():
    torch.set_num_threads(1)
    cells = [random_cell(cell) for cell in fast(JUDGED)]
    known = [references(cell) for cell in cells]
    print(
        f"| variant | over base, each seed | over the best tuned, each seed ({len(cells)} cells) |"
    )
    print("|---|---|---|", flush=True)
    for name in sys.argv[1:] or WITHOUT:
        settings = WITHOUT[name]
        over = []
        for seed in SEEDS:
            print(name, seed, file=sys.stderr, flush=True)
            policy, found = trained(seed, **settings), []
            for cell, (base, tuned) in zip(cells, known, strict=True):
                runs = GuardedRuns(held_out(cell, 1, RATES, range(3)))
                left = under_policies(runs, [policy]).finals.reshape(len(RATES), -1)
                pairs = [(left, base), (left, np.broadcast_to(tuned, left.shape))]
                ends = [np.nan_to_num(np.stack(pair), posinf=1e3) for pair in pairs]
                found.append([np.clip(a - b, -WORST, WORST).mean() for a, b in ends])
            over.append(np.mean(found, axis=0))
        columns = [", ".join(f"{one[at]:+.3f}" for one in over) for at in range(2)]
        print(f"| {name} | {columns[0]} | {columns[1]} |", flush=True)


if __name__ == "__main__":
    main()
