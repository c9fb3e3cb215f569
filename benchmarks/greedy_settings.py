"""What GreedyLR's settings do to the final loss, at base rates too low, tuned and too high.

Run `.venv/bin/python benchmarks/greedy_settings.py`: about ten minutes on one core. Each run is
appended to greedy_settings.csv as it ends; a run that is in the file is not run again. Then the
table is printed: geometric mean over the tasks of the final validation loss divided by cosine's at
the same task, base rate and seed.
"""

import itertools
import math
import statistics
import sys
from pathlib import Path

import torch
from rows import append, stored

from lrpilot import WSD, Constant, Cosine, Greedy, Linear, OpenLoop, Signal, cooldown
from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.tasks import TASKS

RESULTS = Path(__file__).with_suffix(".csv")
FIELDS = ("task", "optimizer", "steps", "rate", "schedule", "seed", "loss", "end_scale")
LOST = 1e6  # stands for a loss that is not finite

CELLS = [
    ("digits-mlp", "adamw", 1000),
    ("digits-cnn", "momentum", 500),
    ("nmf-digits", "momentum", 1000),
    ("cancer-logreg", "adamw", 150),
    ("noisy-quadratic", "adamw", 2000),
    ("digits-mlp", "momentum", 5000),
]
RATES = (0.1, 1.0, 3.0)  # times the task's own
SEEDS = (100, 101)


def plain(**settings) -> Greedy:
    return Greedy(test="threshold", **settings)


SCHEDULES = {
    "cosine": lambda steps: OpenLoop(Cosine(), steps),
    "linear": lambda steps: OpenLoop(Linear(), steps),
    "constant": lambda steps: OpenLoop(Constant(), steps),
    "wsd20": lambda steps: OpenLoop(WSD(decay=0.2), steps),
    "greedy": lambda steps: Greedy(),
    "greedy, cooldown": lambda steps: (Greedy() >> cooldown(0.2)).over(steps),
    "factor 0.5, cooldown": lambda steps: (Greedy(factor=0.5) >> cooldown(0.2)).over(steps),
    "factor 0.9, cooldown": lambda steps: (Greedy(factor=0.9) >> cooldown(0.2)).over(steps),
    "evidence 3, cooldown": lambda steps: (Greedy(evidence=3.0) >> cooldown(0.2)).over(steps),
    "window 5, cooldown": lambda steps: (Greedy(window=5) >> cooldown(0.2)).over(steps),
    "untuned": lambda steps: Greedy.untuned(),
    "untuned, cooldown": lambda steps: (Greedy.untuned() >> cooldown(0.2)).over(steps),
    # The plain test: names are what differs from its defaults.
    "threshold rule": lambda steps: plain(),
    "threshold 0.01": lambda steps: plain(threshold=0.01),
    "window 1": lambda steps: plain(window=1),
    "window 10": lambda steps: plain(window=10),
    "patience 5, window 20": lambda steps: plain(patience=5, window=20),
    "factor 0.9": lambda steps: plain(factor=0.9),
    "min_scale 0.01": lambda steps: plain(min_scale=0.01),
    "max_scale 1": lambda steps: plain(max_scale=1.0),
    "warmup 5": lambda steps: plain(warmup=5),
    "cooldown 5": lambda steps: plain(cooldown=5),
    "warmup 5, cooldown 5": lambda steps: plain(warmup=5, cooldown=5),
}


def main() -> None:
    torch.set_num_threads(1)
    done = {tuple(row[field] for field in FIELDS[:6]) for row in stored(RESULTS)}
    todo = list(itertools.product(CELLS, RATES, SEEDS, SCHEDULES))
    for at, ((task, optimizer, steps), rate, seed, name) in enumerate(todo):
        key = (task, optimizer, str(steps), str(rate), name, str(seed))
        if key not in done:
            loss, scale = train(task, optimizer, steps, rate, seed, name)
            append(
                RESULTS,
                FIELDS,
                dict(zip(FIELDS, (*key, f"{loss:.6g}", f"{scale:.4g}"), strict=True)),
            )
        print(f"\r{at + 1}/{len(todo)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print_table()


def train(task, optimizer, steps, rate, seed, name) -> tuple[float, float]:
    run = TASKS[task].start(seed, OPTIMIZERS[optimizer])
    schedule = SCHEDULES[name](steps)
    state, base_lr = schedule.init(), rate * TASKS[task].lrs[optimizer]
    for _ in range(steps):
        loss = run.step(base_lr * state.scale)
        state = schedule.update(state, Signal(loss))
    final = run.evaluate()
    return (final if math.isfinite(final) else LOST), state.scale


def print_table() -> None:
    losses = {
        tuple(row[field] for field in FIELDS[:6]): float(row["loss"]) for row in stored(RESULTS)
    }
    print("| schedule | " + " | ".join(f"rate x {rate:g}" for rate in RATES) + " |")
    print("|---|" + "---|" * len(RATES))
    for name in SCHEDULES:
        means = []
        for rate in RATES:
            logs = [
                math.log(loss / losses[(*cell, "cosine", seed)])
                for (*cell, schedule, seed), loss in losses.items()
                if schedule == name and cell[3] == str(rate)
            ]
            means.append(f"{math.exp(statistics.fmean(logs)):.3f}")
        print(f"| {name} | " + " | ".join(means) + " |")


if __name__ == "__main__":
    main()
