"""What GreedyLR does to the rate when the loss is nothing but a drift in noise.

Run `.venv/bin/python benchmarks/greedy_dynamics.py`: about two minutes on one core, needs the `dev`
extra. The loss of step t is -drift * t + noise, the same whatever the rate; noise has standard
deviation 1. Prints, by drift, the median over 20 seeds of the final rate over the first, and the
share of runs that end within 10 % of their start. Without drift 1 and 100 % are right.
"""

import math
import statistics
import sys

import numpy as np
from torch import nn, optim, zeros
from transformers.optimization import GreedyLR as Theirs

from lrpilot import Greedy, Signal

STEPS = 5000
SEEDS = range(20)
DRIFTS = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
WIDE = {"min_scale": 1e-4, "max_scale": 1e3}  # room to move, for all alike
START = 1.0


def transformers(losses: list[float], **settings) -> float:
    optimizer = optim.SGD([nn.Parameter(zeros(1))], lr=START)
    scheduler = Theirs(optimizer, min_lr=1e-4, max_lr=1e3, **settings)
    for loss in losses:
        scheduler.step(loss)
    return optimizer.param_groups[0]["lr"]


def ours(losses: list[float], **settings) -> float:
    greedy = Greedy(**settings)
    state = greedy.init()
    for loss in losses:
        state = greedy.update(state, Signal(loss))
    return state.scale


RULES = {
    "default": lambda losses: ours(losses),
    "default, bounds 1e-4 and 1e3": lambda losses: ours(losses, **WIDE),
    "untuned": lambda losses: ours(losses, factor=0.5, window=5, **WIDE),
    "threshold": lambda losses: ours(losses, test="threshold", **WIDE),
    "transformers": lambda losses: transformers(losses),
    "transformers, window 50": lambda losses: transformers(losses, smooth=True),
    "Algorithm 2, window 50": lambda losses: ours(losses, variant="algorithm2", window=50, **WIDE),
}


def correlated(rng: np.random.Generator, correlation: float) -> np.ndarray:
    noise = rng.normal(size=STEPS)
    for t in range(1, STEPS):
        noise[t] = correlation * noise[t - 1] + math.sqrt(1 - correlation**2) * noise[t]
    return noise


NOISES = {
    "independent": lambda rng: rng.normal(size=STEPS),
    "autocorrelated .9": lambda rng: correlated(rng, 0.9),
    "Student t, 3 degrees": lambda rng: rng.standard_t(3, size=STEPS),
}


def table(title: str, rows: list[tuple[str, list[str]]], head: list[str]) -> None:
    print(f"\n{title}\n\n| rule | " + " | ".join(head) + " |")
    print("|---|" + "---|" * len(head))
    for name, cells in rows:
        print(f"| {name} | " + " | ".join(cells) + " |")


def finals(rule, noise, drift: float) -> list[float]:
    trend = drift * np.arange(STEPS)
    # The level does not matter to a sound rule; 10 keeps relative thresholds out of it.
    return [rule((10 + noise(np.random.default_rng(s)) - trend).tolist()) for s in SEEDS]


def main() -> None:
    rows = []
    for name, rule in RULES.items():
        print(name, end="\r", file=sys.stderr)
        rates = [statistics.median(finals(rule, NOISES["independent"], d)) for d in DRIFTS]
        rows.append((name, [f"{rate:.3g}" for rate in rates]))
    table("Median final rate, by drift / noise", rows, [f"{drift:g}" for drift in DRIFTS])

    rows = []
    for name, rule in RULES.items():
        print(name, end="\r", file=sys.stderr)
        cells = []
        for noise in NOISES.values():
            rates = finals(rule, noise, 0.0)
            near = sum(abs(math.log(rate)) < math.log(1.1) for rate in rates)
            cells.append(f"{near / len(rates):.0%}")
        rows.append((name, cells))
    table("Without drift: runs that end within 10 % of their start", rows, list(NOISES))


if __name__ == "__main__":
    main()
