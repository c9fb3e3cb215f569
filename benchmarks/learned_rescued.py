"""What a guard and snapshots save of the runs that a policy for networks loses.

Run `.venv/bin/python benchmarks/learned_rescued.py`: seven minutes on one core. The held-out cells
640 to 655 from ten times too low, right and ten times too high a rate, five seeds each, one run at
a time in torch: `LearnedLR` without its guard; with it, as it comes; and with snapshots besides;
and for a control its base schedule with guard and snapshots. A run is lost if its last loss, on
held-out data, is not finite. "Over cosine": test loss at the end over that of cosine at the tuned
rate with the same seed, geometric mean, a run at most e³ (and lost ones that).
"""

import math
import sys

import numpy as np
import torch
from torch import nn

from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.learning.distributions import tuned_lr
from lrpilot.learning.guarded import snapshots_every
from lrpilot.learning.net_cells import data_of, problem_of, random_cell
from lrpilot.schedules import Guard, OpenLoop, load_policy, named_schedule
from lrpilot.schedules.learned.policy import BASES
from lrpilot.torch import LearnedLR, ScheduledLR, Snapshots

CELLS, SEEDS, RATES, WORST = range(640, 656), range(5), (0.1, 1.0, 10.0), 3.0


def trained(cell, data, seed, lr, make):
    """The test loss, infinite if the run is lost."""
    problem = problem_of(cell, seed, data)
    values = {name: nn.Parameter(x.clone()) for name, x in problem.parameters.items()}
    model = nn.ParameterList(values.values())
    optimizer = OPTIMIZERS[cell.optimizer](list(model), lr)
    scheduler = make(model, optimizer, cell.total_steps)
    for _ in range(cell.total_steps):
        loss = problem.loss(values, problem.draw())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
    with torch.no_grad():
        final = problem.held_out_loss(values, "test").item()
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
    left = {(way, rate): [] for way in WAYS for rate in RATES}
    for number in CELLS:
        print(number, file=sys.stderr, flush=True)
        cell = random_cell(number)
        data, lr = data_of(cell), tuned_lr(cell)
        for seed in SEEDS:
            reference = trained(cell, data, seed, lr, cosine)
            for way, rate in left:
                final = trained(cell, data, seed, rate * lr, WAYS[way])
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
