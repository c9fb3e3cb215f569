"""Trials per second of one core: batches as tensor programs against a loop of single trials.

`.venv/bin/python benchmarks/batched_speed.py [task ...]`; every batchable task of the standard
suite by default. Batches and single trials alternate, so that a busy machine slows both; the
figures are medians of the paired rounds.
"""

import statistics
import sys
import time
from dataclasses import replace

import torch

from lrpilot.bench import Plan, run_trial
from lrpilot.bench.batched.program import run_batch, runs_per_batch
from lrpilot.bench.suite import EVALUATION_SEEDS, SUITES, grid, nominal_lr
from lrpilot.tasks import TASKS

SCHEDULES = ["linear", "cosine", "constant", "greedy", "plateau"]
ROUNDS = 3
SINGLES = 3  # per round: they take long, and differ little


def trials_of(task: str) -> list:
    """As many of the suite's trials as make a batch, within the range of rates that train."""
    plan = Plan(
        tasks=[task],
        optimizers=["adamw"],
        schedules=SCHEDULES,
        lrs=grid(nominal_lr(TASKS[task], "adamw"), 5),
        seeds=len(EVALUATION_SEEDS),
    )
    return plan.trials[: runs_per_batch(TASKS[task])]


def measure(task: str) -> tuple[int, float, float]:
    trials = trials_of(task)
    batch = [replace(trial, engine="batched") for trial in trials]
    together, alone = [], []
    for turn in range(ROUNDS):
        began = time.perf_counter()
        run_batch(batch)
        together.append(len(batch) / (time.perf_counter() - began))
        began = time.perf_counter()
        for trial in trials[turn * SINGLES :][:SINGLES]:
            run_trial(trial, lambda share: None)
        alone.append(SINGLES / (time.perf_counter() - began))
    ratios = [ours / theirs for ours, theirs in zip(together, alone, strict=True)]
    return len(batch), statistics.median(together), statistics.median(ratios)


def main() -> None:
    torch.set_num_threads(1)
    tasks = sys.argv[1:] or [name for name in SUITES["standard"].tasks if TASKS[name].batchable]
    print("| task | trials in a batch | batched trials / s | against a loop of single trials |")
    print("|---|---|---|---|")
    for task in tasks:
        count, rate, ratio = measure(task)
        print(f"| `{task}` | {count} | {rate:.1f} | {ratio:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
