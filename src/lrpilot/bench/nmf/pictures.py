"""The study's pictures as SVG; equal rows, and equal runs of its own, make equal files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lrpilot.bench.claims.findings import Cell, Entrant, Findings
from lrpilot.bench.nmf.matrices import matrix
from lrpilot.bench.nmf.study import SUITE, Job, optimizer_name, share_left, started
from lrpilot.bench.nmf.tables import TITLES
from lrpilot.bench.page import COLOURS
from lrpilot.bench.statistics.response import USABLE
from lrpilot.nmf import Solver
from lrpilot.schedules import Signal, named_schedule

JOB = Job("digits", "minibatch", 0)  # what is drawn of single runs
RATE = 100.0  # ten times the default's: too high, as guesses are
COLOUR_OF = {"bound": COLOURS[0], "unclipped": COLOURS[1]}
LINE_OF = {"constant": ":", "linear": "-", "greedy": "-.", "greedy-cooldown": "--"}
RATED = ("linear", "step", "greedy", "greedy-cooldown")
PLAIN = {
    **{"svg.hashsalt": "lrpilot", "svg.fonttype": "none", "font.size": 9},
    **{"axes.spines.top": False, "axes.spines.right": False},
}

CAPTIONS = {
    "responses.svg": (
        "Budget-equivalent against the rate, geometric mean over all matrices. The grey line is "
        f"the level of the usable range, {USABLE:g}; the reference curve ends at 1/4, which is "
        "also what a lost run counts."
    ),
    "rates.svg": (
        "Rate and bound at each step on digits, from the default's rate, under minibatch noise. "
        "The clip decides until the schedule asks for less; GreedyLR without a cooldown never does."
    ),
    "parts.svg": (
        f"The ten parts of digits that linear decay finds from a = {RATE:g}, ten times the "
        "default: inside the bound, and at the same rate without it. Each part in its own scale."
    ),
}


def save_pictures(findings: Findings, folder: Path) -> None:
    """Write all of `CAPTIONS` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: Mapping[str, Callable[[], Figure]] = {
        "responses.svg": lambda: responses(findings),
        "rates.svg": rates,
        "parts.svg": parts,
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bits, which an unstable run blows up, depend on it
    try:
        with mpl.rc_context(PLAIN):  # pyright: ignore[reportArgumentType]
            for name in CAPTIONS:
                figures[name]().savefig(folder / name, format="svg", metadata={"Date": None})
    finally:
        torch.set_num_threads(threads)


def responses(findings: Findings) -> Figure:
    """Inside the bound and without it, under each noise."""
    families = findings.suite.families
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(families), sharey=True)
    for axes, family in zip(panels, families, strict=True):
        for arm, colour in COLOUR_OF.items():
            for schedule, line in LINE_OF.items():
                points = response(findings, family, Entrant(optimizer_name(arm, family), schedule))
                label = f"{schedule}, {TITLES[arm]}"
                axes.plot(*np.array(points).T, color=colour, ls=line, lw=1.4, label=label)
        axes.axhline(USABLE, color="0.6", lw=0.8)
        axes.set(xscale="log", yscale="log", title=family, xlabel="rate a, in 1 / L at the start")
        axes.set_yticks((0.25, 0.5, 1), ("0.25", "0.5", "1"))
        axes.minorticks_off()
        axes.grid(color="0.92")
    panels[0].set_ylabel("budget-equivalent")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def response(findings: Findings, family: str, entrant: Entrant) -> list[tuple[float, float]]:
    """(rate, geometric mean over matrices and seeds)."""
    logs: dict[float, list[float]] = {}
    for task in findings.suite.tasks:
        scores = findings.scores(Cell(task, family), entrant, "T2")
        if scores is None:
            continue
        for lr, row in zip(scores.lrs, scores.budget_equivalents, strict=True):
            logs.setdefault(lr, []).append(float(np.log(row).mean()))
    return [(lr, math.exp(float(np.mean(row)))) for lr, row in logs.items()] or [(1.0, math.nan)]


def rates() -> Figure:
    """Rate and bound of each step, under schedules with and without an end."""
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    for axes, schedule in zip(figure.subplots(1, len(RATED), sharey=True), RATED, strict=True):
        record = run("bound", schedule, SUITE.centre or 1.0).history()
        axes.semilogy(record.bound[:, 0].numpy(), color=COLOURS[1], lw=1, label="bound, 2 / L")
        axes.semilogy(record.lr[:, 0].numpy(), color=COLOURS[0], lw=1.2, label="rate taken")
        axes.set(title=schedule, xlabel="step")
        axes.grid(color="0.92")
    figure.axes[0].set(ylabel="rate of W", ylim=(1e-4, None))
    figure.axes[0].legend(frameon=False, loc="lower left")
    return figure


def parts() -> Figure:
    """Parts of digits as images, with and without the clip."""
    figure = Figure(figsize=(10, 2.6), layout="constrained")
    grid = figure.add_gridspec(1, len(COLOUR_OF))
    for at, arm in enumerate(COLOUR_OF):
        side = figure.add_subfigure(grid[0, at])
        solver = run(arm, "linear", RATE)
        left = share_left(matrix(JOB.task)[0], solver.W, solver.H).item()
        side.suptitle(f"{TITLES[arm]}: {shown(left)} left")
        panels: list[Axes] = side.subplots(2, 5).flat
        for axes, part in zip(panels, solver.W[0].T.numpy(), strict=True):
            axes.imshow(part.reshape(8, 8), cmap="Greys", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(True)
    return figure


def run(arm: str, schedule: str, lr: float) -> Solver:
    """One run to its end."""
    solver, steps = started(JOB, arm, 1), SUITE.budget(JOB.task)
    rule = named_schedule(schedule, steps)
    state = rule.init()
    for _ in range(steps):
        loss = solver.step(lr * state.scale)
        state = rule.update(state, Signal(loss.item()))
    return solver


def shown(left: float) -> str:
    """A share in words that also holds for one beyond all bounds."""
    return f"{100 * left:.1f} % of ‖V‖²" if left < 10 else f"{left:.0e} times ‖V‖²"
