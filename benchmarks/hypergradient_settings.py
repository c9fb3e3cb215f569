"""How fast hypergradient descent should learn its rates: nine values on the development tasks.

Run `.venv/bin/python benchmarks/hypergradient_settings.py`: about ten minutes on one core. Each
value has the rate tuned as the bench tunes it: nine half-decades, two tuning seeds, the best median
of the validation loss. What is in hypergradient_settings.csv is not run again. The table is the
geometric mean over the tasks of that loss divided by the best of the nine.
"""

import math
import statistics
from pathlib import Path

import torch
from rows import append, stored

from lrpilot.bench.batched import UPDATES, program, run_batch
from lrpilot.bench.batched.hypergradient import Hypergradient
from lrpilot.bench.stages import Method
from lrpilot.bench.suite import TUNING_POINTS, TUNING_SEEDS, grid, nominal_lr
from lrpilot.bench.trial import Outcome, Trial
from lrpilot.optimizers.packaged import HYPER_LRS
from lrpilot.tasks import TASKS

RESULTS = Path(__file__).with_suffix(".csv")
FIELDS = ("task", "optimizer", "hyper_lr", "lr", "loss")
DEVELOPMENT = ("noisy-quadratic", "cancer-logreg", "digits-mlp", "nmf-digits")  # that are batched
VALUES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.06, 0.1, 0.2, 0.4)


def tuned(task: str, optimizer: str, hyper_lr: float) -> dict[str, str]:
    """The best rate and its median loss, as a row."""
    _, direction, per = optimizer.split("-")
    program.UPDATES = {
        **UPDATES,
        optimizer: lambda values: Hypergradient(
            values, per, adam=direction == "adam", hyper_lr=hyper_lr
        ),
    }
    method = Method(task, optimizer, "constant", TASKS[task].total_steps)
    lrs = grid(nominal_lr(TASKS[task], optimizer), TUNING_POINTS)
    trials = [method.trial(lr, seed) for lr in lrs for seed in TUNING_SEEDS]
    loss, lr = min(medians(trials, run_batch(trials)))
    return {
        "task": task,
        "optimizer": optimizer,
        "hyper_lr": str(hyper_lr),
        "lr": str(lr),
        "loss": f"{loss:.5g}",
    }


def medians(trials: list[Trial], outcomes: list[Outcome]) -> list[tuple[float, float]]:
    """Median loss and rate; a run that did not end counts as infinite."""
    losses: dict[float, list[float]] = {}
    for trial, outcome in zip(trials, outcomes, strict=True):
        loss = math.inf if outcome.validation_loss is None else outcome.validation_loss
        losses.setdefault(trial.lr, []).append(loss)
    return [(statistics.median(found), lr) for lr, found in losses.items()]


def main() -> None:
    torch.set_num_threads(1)
    have = {(row["task"], row["optimizer"], row["hyper_lr"]) for row in stored(RESULTS)}
    for task in DEVELOPMENT:
        for optimizer in HYPER_LRS:
            for value in VALUES:
                if (task, optimizer, str(value)) not in have:
                    append(RESULTS, FIELDS, tuned(task, optimizer, value))
    rows = {(r["task"], r["optimizer"], r["hyper_lr"]): float(r["loss"]) for r in stored(RESULTS)}
    print(f"| optimizer | {' | '.join(map(str, VALUES))} |")
    print("|---" * (len(VALUES) + 1) + "|")
    for optimizer in HYPER_LRS:
        shown = [f"{worse(rows, optimizer, str(value)):.3g}" for value in VALUES]
        print(f"| `{optimizer}` | {' | '.join(shown)} |")


def worse(rows: dict[tuple[str, str, str], float], optimizer: str, value: str) -> float:
    """How much higher the loss is than with each task's best value; a factor."""
    logs = [
        math.log(rows[task, optimizer, value] / min(rows[task, optimizer, str(v)] for v in VALUES))
        for task in DEVELOPMENT
    ]
    return math.exp(statistics.fmean(logs))


if __name__ == "__main__":
    main()
