"""StochasticNMF beside scikit-learn's NMF and MiniBatchNMF: loss against passes and time.

One thread, means of three seeds; every model with its defaults but for the passes and a random
start. Three cases: dense matrices that fit into memory, a stream whose pieces are seen once, and a
matrix of which a third is missing. Prints the tables of docs/nmf.md; about four minutes. The runs
of the first case are kept in nmf_against_sklearn.csv and drawn; `--draw` draws them again, and
`--dense` runs that case alone.

Time is that of the processor, which is wall time where nothing else runs on the core. A model is
fitted anew for each count of passes, since what ours does depends on when it is to end.
"""

import csv
import sys
import time
import warnings
from collections import defaultdict
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF, MiniBatchNMF
from threadpoolctl import threadpool_limits

from lrpilot.nmf import StochasticNMF
from lrpilot.tasks.matrices import docstrings_matrix

ROWS = Path(__file__).with_suffix(".csv")
PICTURE = Path(__file__).parents[1] / "docs" / "nmf" / "against-sklearn.svg"
PLAIN = {"svg.fonttype": "none", "svg.hashsalt": "lrpilot", "font.size": 9}
COLOURS = {
    **{"NMF, cd": "#0072b2", "NMF, mu": "#56b4e9"},
    **{"MiniBatchNMF": "#009e73", "StochasticNMF": "#d55e00"},
}
SEEDS = range(3)
PASSES = (2, 5, 10, 20, 50, 200)

DATA = {
    "digits, rank 20": (load_digits().data / 16, 20),
    "docstrings, rank 10": (docstrings_matrix()["train"].double().numpy(), 10),
}
DENSE = {
    "NMF, cd": lambda rank, passes, seed: NMF(
        rank, init="random", max_iter=passes, tol=0, random_state=seed
    ),
    "NMF, mu": lambda rank, passes, seed: NMF(
        rank, init="random", solver="mu", max_iter=passes, tol=0, random_state=seed
    ),
    "MiniBatchNMF": lambda rank, passes, seed: MiniBatchNMF(
        rank, init="random", max_iter=passes, tol=0, max_no_improvement=None, random_state=seed
    ),
    "StochasticNMF": lambda rank, passes, seed: StochasticNMF(
        rank, max_iter=passes, random_state=seed
    ),
}


def left(X, model):
    return np.square(X - model.transform(X) @ model.components_).sum() / np.square(X).sum()


def timed(make, X):
    began = time.process_time()
    model = make.fit(X)
    return time.process_time() - began, left(X, model)


def dense():
    """Fit every model for every count of passes; print the table and keep the runs."""
    print(f"| matrix | model | {' | '.join(f'{count} passes' for count in PASSES)} |")
    print("|---" * (len(PASSES) + 2) + "|")
    kept = []
    for name, (X, rank) in DATA.items():
        for model, make in DENSE.items():
            make(rank, 2, 0).fit(X)  # the first fit of all pays for what others find loaded
            cells = []
            for passes in PASSES:
                runs = [timed(make(rank, passes, seed), X) for seed in SEEDS]
                kept += [
                    (name, model, passes, seed, f"{seconds:.3g}", f"{loss:.5g}")
                    for seed, (seconds, loss) in zip(SEEDS, runs, strict=True)
                ]
                seconds, loss = np.mean(runs, axis=0)
                cells.append(f"{loss:.4f} ({seconds:.2f} s)")
            print(f"| {name} | {model} | {' | '.join(cells)} |", flush=True)
    with ROWS.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("matrix", "model", "passes", "seed", "seconds", "left"), *kept])


def draw():
    """What each model leaves, against passes and against time."""
    runs = defaultdict(list)
    with ROWS.open() as file:
        for row in csv.DictReader(file):
            point = [float(row[name]) for name in ("passes", "seconds", "left")]
            runs[row["matrix"], row["model"], point[0]].append(point)
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for row, matrix in zip(figure.subplots(len(DATA), 2, sharey="row"), DATA, strict=True):
        for model, colour in COLOURS.items():
            means = [
                np.mean(found, axis=0) for at, found in runs.items() if at[:2] == (matrix, model)
            ]
            passes, seconds, left = np.transpose(means)
            for axes, x in zip(row, (passes, seconds), strict=True):
                axes.loglog(x, left, "o-", color=colour, label=model, lw=1.4, ms=3.5)
        for axes, words in zip(row, ("passes", "seconds of one thread"), strict=True):
            axes.set(title=matrix, xlabel=words)
            axes.yaxis.set_major_formatter("{x:.2f}")
            axes.yaxis.set_minor_formatter("{x:.2f}")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(color="0.92", which="both")
        row[0].set_ylabel("share of ‖X‖² left")
    figure.axes[0].legend(frameon=False)
    with matplotlib.rc_context(PLAIN):
        figure.savefig(PICTURE, metadata={"Date": None})


def streamed():
    """Pieces of 100 samples, each seen once; the share that is left of all of them at the end."""
    print("| stream | MiniBatchNMF | StochasticNMF |\n|---|---|---|")
    for name, (X, rank) in DATA.items():
        cells = []
        for make in (MiniBatchNMF, StochasticNMF):
            found = []
            for seed in SEEDS:
                model = make(rank, init="random", random_state=seed)
                began = time.process_time()
                order = np.random.default_rng(seed).permutation(len(X))
                for at in np.array_split(order, len(X) // 100):
                    model.partial_fit(X[at])
                found.append((time.process_time() - began, left(X, model)))
            seconds, loss = np.mean(found, axis=0)
            cells.append(f"{loss:.4f} ({seconds:.2f} s)")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def missing():
    """A third of the entries hidden: the error on them, relative to their size.

    At the rank of the tables above, and at 3: many parts fit what is known and not what is hidden.
    """
    print("| missing | zeros, NMF cd | means of features, NMF cd | mask, StochasticNMF |")
    print("|---|---|---|---|")
    ranks = [(name, X, rank) for name, (X, full) in DATA.items() for rank in (3, full)]
    for name, X, rank in ranks:
        found = []
        for seed in SEEDS:
            known = np.random.default_rng(seed).random(X.shape) > 1 / 3
            means = np.where(known, X, 0).sum(0) / np.maximum(known.sum(0), 1)
            guesses = []
            for filled in (np.where(known, X, 0), np.where(known, X, means)):
                model = NMF(rank, init="random", max_iter=200, random_state=seed)
                guesses.append(model.fit_transform(filled) @ model.components_)
            ours = StochasticNMF(rank, random_state=seed)
            guesses.append(ours.inverse_transform(ours.fit_transform(X, mask=known)))
            hidden = X[~known]
            found.append(
                [np.square(hidden - g[~known]).sum() / np.square(hidden).sum() for g in guesses]
            )
        cells = " | ".join(f"{x:.3f}" for x in np.mean(found, axis=0))
        print(f"| {name.split(',')[0]}, rank {rank} | {cells} |", flush=True)


def main():
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # that so few passes have not converged
    with threadpool_limits(1):
        if "--draw" not in sys.argv:
            dense()
        draw()
        if not {"--draw", "--dense"} & set(sys.argv):
            streamed()
            missing()


if __name__ == "__main__":
    main()
