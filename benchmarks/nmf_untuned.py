"""The untuned default of the NMF solver against the best tuned schedule, judged on other seeds.

Tuned: every schedule at its best absolute rate (clipped by the bound) of nine half-decades around
2 / L at the start, by the median loss of seeds 100 and 101. Untuned: the anchored rate, whatever
the matrix, with linear and cosine decay. Judged on seeds 0 to 4: log10 of the share of ‖V‖² that is
left after 20 passes. Prints the table of docs/nmf.md; about six minutes on one core.
"""

import math
import statistics
import sys

import numpy as np
import torch
from sklearn.datasets import load_digits

from lrpilot.nmf import Settings, Solver, coefficients, random_start
from lrpilot.schedules import Signal, named_schedule
from lrpilot.tasks.matrices import docstrings_matrix, photo_matrix

PASSES = 20
SCHEDULES = ("constant", "step", "exponential", "cosine", "linear", "greedy")
TUNING, JUDGED = (100, 101), range(5)


def synthetic():
    rng = np.random.default_rng(5)
    V = rng.gamma(0.5, size=(60, 8)) @ rng.gamma(0.3, size=(8, 1000))
    return np.clip(V + 0.1 * V.mean() * rng.standard_normal(V.shape), 0, None)


# Samples are columns. The docstrings are every third, for time.
DATA = {
    "digits": ((load_digits().data / 16).T, 20),
    "docstrings": (docstrings_matrix()["train"].double().numpy().T[:, ::3], 10),
    "photo": (photo_matrix()["train"].double().numpy().T, 16),
    "synthetic": (synthetic(), 8),
}


def run(V, rank, name, seed, **settings):
    """log10 of the share that is left, with the best coefficients for the parts found."""
    rng = np.random.default_rng(seed)
    solver = Solver(V, random_start(V, rank, rng), Settings(**settings), rng)
    steps = PASSES * solver.period
    schedule = named_schedule(name, steps)
    state = schedule.init()
    for _ in range(steps):
        loss = solver.step(state.scale)
        state = schedule.update(state, Signal(float(loss)))
    solver.H = coefficients(V, solver.W, tol=1e-5)
    return math.log10(solver.loss())


def best(V, rank, name):
    """The best absolute rate of a schedule, extended while it is at the edge."""
    rng = np.random.default_rng(TUNING[0])
    H = random_start(V, rank, rng).H
    middle = 2 / np.linalg.eigvalsh((H @ H.T).numpy())[-1]
    losses = {}
    at = list(range(-4, 5))
    while at:
        for k in at:
            rate = middle * 10 ** (k / 2)
            found = [run(V, rank, name, seed, rate=rate, ceiling=1.0) for seed in TUNING]
            losses[k] = statistics.median(found)
        chosen = min(losses, key=losses.get)
        edges = {min(losses): min(losses) - 1, max(losses): max(losses) + 1}
        at = [edges[chosen]] if chosen in edges and len(losses) < 13 else []
    return middle * 10 ** (chosen / 2), losses[chosen]


def main():
    torch.set_num_threads(1)
    print("| matrix | tuned best | at | untuned, linear | untuned, cosine | gaps |")
    print("|---|---|---|---|---|---|")
    for matrix, (X, rank) in DATA.items():
        V = torch.from_numpy(np.ascontiguousarray(X.T)).T
        tuned = {}
        for name in SCHEDULES:
            print(matrix, name, file=sys.stderr, flush=True)
            tuned[name] = best(V, rank, name)
        name = min(tuned, key=lambda one: tuned[one][1])
        rate = tuned[name][0]
        mean = {
            "tuned": statistics.fmean(
                run(V, rank, name, seed, rate=rate, ceiling=1.0) for seed in JUDGED
            ),
            **{
                decay: statistics.fmean(run(V, rank, decay, seed) for seed in JUDGED)
                for decay in ("linear", "cosine")
            },
        }
        gaps = ", ".join(f"{mean[decay] - mean['tuned']:+.4f}" for decay in ("linear", "cosine"))
        print(
            f"| {matrix} | {mean['tuned']:.4f} | `{name}`, {rate:.2g} | {mean['linear']:.4f} "
            f"| {mean['cosine']:.4f} | {gaps} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
