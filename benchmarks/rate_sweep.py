"""Test accuracy against the initial rate: what a schedule makes of a rate that nobody has tuned.

Run `.venv/bin/python benchmarks/rate_sweep.py`: about five minutes on one core, needs the `dev`
extra. A perceptron 64-64-10 on scikit-learn's digits (1,500 train, 297 test), SGD with momentum
0.9, batch 64, 60 epochs, five seeds. Runs are appended to rate_sweep.csv, and one that is there is
not run again. `--batch 32` and so on for other batches.
"""

import argparse
import itertools
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from rows import append, stored
from sklearn.datasets import load_digits
from torch import nn, optim
from torch.nn.functional import cross_entropy

from lrpilot import Constant, Cosine, Greedy, OpenLoop, cooldown
from lrpilot.torch import ScheduledLR

RESULTS = Path(__file__).with_suffix(".csv")
FIELDS = ("schedule", "batch", "lr", "seed", "accuracy", "end_scale")
LRS = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SEEDS = range(5)
EPOCHS = 60
TEST = 297

SCHEDULES = {
    "constant": lambda steps: OpenLoop(Constant(), steps),
    "cosine": lambda steps: OpenLoop(Cosine(), steps),
    "paper settings": lambda steps: Greedy(test="threshold", factor=0.95, patience=10, window=50),
    "default": lambda steps: Greedy(),
    "untuned": lambda steps: Greedy.untuned(),
    "untuned, cooldown": lambda steps: (Greedy.untuned() >> cooldown(0.2)).over(steps),
}


def digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    inputs = torch.from_numpy(pixels[order] / 16).float()
    targets = torch.from_numpy(labels[order])
    return inputs[TEST:], targets[TEST:], inputs[:TEST], targets[:TEST]


def train(name: str, batch: int, lr: float, seed: int) -> tuple[float, float]:
    inputs, targets, test_inputs, test_targets = digits()
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    steps = EPOCHS * (len(targets) // batch)
    scheduler = ScheduledLR(optimizer, SCHEDULES[name](steps))
    for _ in range(EPOCHS):
        order = torch.randperm(len(targets))
        for rows in order[: len(order) - len(order) % batch].split(batch):
            loss = cross_entropy(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step(loss.item())
    with torch.no_grad():
        right = model(test_inputs).argmax(1) == test_targets
    return right.float().mean().item(), scheduler.state.scale


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy against the initial rate.")
    parser.add_argument("--batch", type=int, default=64)
    batch = parser.parse_args().batch
    torch.set_num_threads(1)
    done = {tuple(row[field] for field in FIELDS[:4]) for row in stored(RESULTS)}
    todo = list(itertools.product(SCHEDULES, LRS, SEEDS))
    for at, (name, lr, seed) in enumerate(todo):
        key = (name, str(batch), str(lr), str(seed))
        if key not in done:
            accuracy, scale = train(name, batch, lr, seed)
            append(
                RESULTS,
                FIELDS,
                dict(zip(FIELDS, (*key, f"{accuracy:.4f}", f"{scale:.4g}"), strict=True)),
            )
        print(f"\r{at + 1}/{len(todo)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    print("Test accuracy, batch", batch, "- worst of five seeds (mean)\n")
    print("| schedule | " + " | ".join(f"{lr:g}" for lr in LRS) + " |")
    print("|---|" + "---|" * len(LRS))
    for name in SCHEDULES:
        cells = []
        for lr in LRS:
            found = [
                float(row["accuracy"])
                for row in stored(RESULTS)
                if (row["schedule"], row["batch"], row["lr"]) == (name, str(batch), str(lr))
            ]
            cells.append(f"{min(found):.3f} ({statistics.fmean(found):.3f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
