"""Draws the pictures of nmf.md into docs/nmf: `.venv/bin/python docs/nmf_pictures.py`.

Parts of handwritten digits, and the rate of a run against its bound. Equal runs make equal files.
Prints the topics of the standard library's docstrings as a table.
"""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer

from lrpilot.nmf import StochasticNMF
from lrpilot.tasks.matrices import TERMS, docstrings

FOLDER = Path(__file__).with_suffix("").with_name("nmf")
PLAIN = {"svg.fonttype": "none", "svg.hashsalt": "lrpilot", "font.size": 9}
BLUE, ORANGE = "#0072b2", "#d55e00"


def digit_parts() -> Figure:
    """Twenty parts of 1,797 handwritten digits, and three digits made of them."""
    X = load_digits().data / 16
    model = StochasticNMF(20, random_state=0)
    coefficients = model.fit_transform(X)
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(5, 2.4))
    left.suptitle("20 parts")
    for axes, part in zip(left.subplots(4, 5).flat, model.components_, strict=True):
        show(axes, part)
    right.suptitle("digits, and as parts")
    made = model.inverse_transform(coefficients)
    for row, at in zip(right.subplots(4, 2), (0, 3, 5, 8), strict=True):
        show(row[0], X[at])
        show(row[1], made[at])
    return figure


def show(axes, pixels) -> None:
    axes.imshow(pixels.reshape(8, 8), cmap="Greys", interpolation="nearest")
    axes.set(xticks=[], yticks=[])


def rate_and_bound() -> Figure:
    """Rate and bound of each step on digits: linear and step decay, as anchored rates."""
    X = load_digits().data / 16
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("linear", "step"), strict=True):
        model = StochasticNMF(20, schedule=name, max_iter=50, random_state=0).fit(X)
        axes.semilogy(model.bounds_, color=ORANGE, lw=1, label="bound, 2 / calL")
        axes.semilogy(model.lrs_, color=BLUE, lw=1.2, label="rate taken")
        axes.set(xlabel="step", title=f"{name}: {100 * last(model.losses_):.1f} % of ‖V‖² left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9")
    figure.axes[0].set(ylabel="rate of W", ylim=(1e-5, None))
    figure.axes[0].legend(frameon=False, loc="lower left")
    return figure


def last(losses: np.ndarray) -> float:
    return float(losses[-15:].mean())


def topics() -> str:
    """The eight heaviest words of each of ten topics."""
    words = TfidfVectorizer(max_features=TERMS, stop_words="english", token_pattern="[a-z]{3,}")
    X = words.fit_transform(docstrings()["train"])
    model = StochasticNMF(10, random_state=0).fit(X)
    names = words.get_feature_names_out()
    rows = [", ".join(names[np.argsort(-part)[:8]]) for part in model.components_]
    return "\n".join(f"| {at} | {row} |" for at, row in enumerate(rows, start=1))


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    with matplotlib.rc_context(PLAIN):
        for draw in (digit_parts, rate_and_bound):
            path = FOLDER / f"{draw.__name__.replace('_', '-')}.svg"
            draw().savefig(path, metadata={"Date": None})
    print(topics())


if __name__ == "__main__":
    main()
