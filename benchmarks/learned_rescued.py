"""What a policy for networks is worth in torch, and what a guard and snapshots add to it.

Run `.venv/bin/python benchmarks/learned_rescued.py`: seven minutes on one core. The held-out cells
688 to 699 from ten times too low, right and ten times too high a rate, five seeds each, one run at
a time in torch: `LearnedLR` without its guard; with it, as it comes; and with snapshots besides;
and for a control its base schedule with guard and snapshots. A run is lost if its last loss, on
held-out data, is not finite. "Over cosine": test loss at the end over that of cosine at the tuned
rate with the same seed, geometric mean, a run at most e³ (and lost ones that).

With names of tasks, `... learned_rescued.py waves-gru digits-vit`, these under AdamW instead, three
seeds, with snapshots, beside cosine at the rate that the task has for AdamW: other data, larger
models, longer runs.
"""

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.learning.distributions import tuned_lr
from lrpilot.learning.guarded import snapshots_every
from lrpilot.learning.net_cells import data_of, problem_of, random_cell
from lrpilot.schedules import Guard, OpenLoop, load_policy, named_schedule
from lrpilot.schedules.learned.policy import BASES
from lrpilot.tasks import Problem, find_task
from lrpilot.torch import LearnedLR, ScheduledLR, Snapshots

CELLS, SEEDS, RATES, WORST = range(688, 700), range(5), (0.1, 1.0, 10.0), 3.0


class Setting(NamedTuple):
    """problem: of a seed."""

    problem: Callable[[int], Problem]
    optimizer: str
    total_steps: int
    lr: float


def of_cell(number):
    cell = random_cell(number)
    problem = partial(problem_of, cell, data=data_of(cell))
    return Setting(problem, cell.optimizer, cell.total_steps, tuned_lr(cell))


def of_task(name):
    task = find_task(name)
    return Setting(task.problem, "adamw", task.total_steps, task.lrs["adamw"])


def trained(setting, seed, factor, make):
    """The test loss, infinite if the run is lost."""
    problem = setting.problem(seed)
    values = {name: nn.Parameter(x.clone()) for name, x in problem.parameters.items()}
    model = nn.ParameterList(values.values())
    optimizer = OPTIMIZERS[setting.optimizer](list(model), factor * setting.lr)
    scheduler = make(model, optimizer, setting.total_steps)
    for _ in range(setting.total_steps):
        loss = problem.loss({**values, **problem.fixed}, problem.draw())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    with torch.no_grad():
        final = problem.held_out_loss({**values, **problem.fixed}, "test").item()
    return final if math.isfinite(final) else math.inf


def kept(model, optimizer, steps):
    return Snapshots(model, optimizer, every=snapshots_every(steps))


def base(model, optimizer, steps):
    shape = BASES[load_policy("net").base]
    guarded = Guard(OpenLoop(shape, steps))
    return ScheduledLR(optimizer, guarded, snapshots=kept(model, optimizer, steps))


def cosine(model, optimizer, steps):
    return ScheduledLR(optimizer, named_schedule("cosine", steps))


WAYS = {
    "policy, no guard": lambda model, optimizer, steps: LearnedLR(optimizer, steps, guard=False),
    "policy, as it comes": lambda model, optimizer, steps: LearnedLR(optimizer, steps),
    "policy, with snapshots": lambda model, optimizer, steps: LearnedLR(
        optimizer, steps, snapshots=kept(model, optimizer, steps)
    ),
    "base, with guard and snapshots": base,
}


def main():
    torch.set_num_threads(1)
    settings = [of_task(name) for name in sys.argv[1:]] or [of_cell(number) for number in CELLS]
    seeds, ways = (SEEDS[:3], list(WAYS)[2:]) if sys.argv[1:] else (SEEDS, WAYS)
    left = {(way, rate): [] for way in ways for rate in RATES}
    for at, setting in enumerate(settings, start=1):
        print(f"{at} of {len(settings)}", file=sys.stderr, flush=True)
        for seed in seeds:
            reference = trained(setting, seed, 1.0, cosine)
            for way, rate in left:
                final = trained(setting, seed, rate, WAYS[way])
                left[way, rate].append(final / reference)
    print(
        "| schedule | rate | runs | lost | over cosine at the tuned rate |\n|---|---|---|---|---|"
    )
    for (way, rate), ratios in left.items():
        lost = sum(math.isinf(one) for one in ratios)
        over = np.exp(np.clip(np.log(ratios), -WORST, WORST).mean())
        print(f"| {way} | × {rate:g} | {len(ratios)} | {lost} | {over:.2f} |")


if __name__ == "__main__":
    main()
