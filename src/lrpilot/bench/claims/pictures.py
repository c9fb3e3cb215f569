"""The pictures of the claims page as SVG; the one file that needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from lrpilot.bench.claims.findings import Array, Cell, Findings
from lrpilot.bench.claims.overview import (
    TRIALS,
    Standing,
    admissible_cells,
    log_ratios,
    profiles,
    responses,
    scores_of,
)
from lrpilot.bench.page import COLOURS
from lrpilot.bench.statistics.response import USABLE
from lrpilot.bench.statistics.speed import LONGEST, performance_profile
from lrpilot.bench.suite import BUDGET_REFERENCE

# At most as many as there are colours.
FEATURED = (
    *("linear", "cosine", "wsd20", "constant"),
    *("greedy", "greedy-cooldown", "greedy-untuned", "transformers-greedy"),
)
# GreedyLR's lie on the others', broken, so that both are seen where they coincide.
BROKEN = {
    "greedy": (0.0, (4, 3)),
    "greedy-cooldown": (0.0, (6, 2)),
    "greedy-untuned": (0.0, (1, 1)),
    "transformers-greedy": (0.0, (6, 2, 1, 2)),
}
# Beside each other in pairs: few enough to be read, with one of each kind that claims name.
PAIRED = (
    *FEATURED,
    *("step", "line-search", "schedule-free-sgd", "schedule-free-adamw"),
    *("hypergradient-sgd-parameter", "hypergradient-adam-parameter"),
)
STYLE = {
    "svg.hashsalt": "lrpilot",  # names in the file, which are random otherwise
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
}
EMPTY = "#cccccc"  # a place where nothing was run


CAPTIONS = {
    "profiles.svg": (
        "Performance profiles: in which share of the cells a method reaches a target within so "
        "many times the steps of the fastest method there, forward passes charged. Left: the loss "
        "of the tuned reference at the full budget; right: at half of it. Methods that reach it in "
        "no cell lie at 0, one upon another (each dashed otherwise)."
    ),
    "responses.svg": (
        "Response to the initial rate: budget-equivalent against the rate, in multiples of the "
        "tuned reference's; geometric mean over the cells that have the rate. The grey line is the "
        f"level of the usable range, {USABLE:g}; the reference curve ends at 1/4."
    ),
    "trials.svg": (
        "What to expect after so many random rates out of the response, the best chosen on "
        "validation and reported on test: budget-equivalent, geometric mean over cells."
    ),
    "wins.svg": (
        "How probable it is that the row's method beats the column's: random admissible cell, "
        "random paired seed, each at its best rate. A choice of the methods in the table. "
        "Grey: itself, or a method of another family, with which it shares no cell."
    ),
    "tasks.svg": (
        "Budget-equivalent of each method over the reference's, by family and task, each at its "
        "best rate. Grey was not run: baselines compete in one family. Bracketed tasks cannot tell "
        "schedules apart under that family."
    ),
}


def draw_all(folder: Path, findings: Findings, standings: Sequence[Standing]) -> dict[str, str]:
    """Write every picture into ``folder``; return name of file to what it shows.

    Equal findings make equal files, byte for byte, with one version of matplotlib.
    """
    pictures: Mapping[str, Callable[[], Figure]] = {
        "profiles.svg": lambda: _profiles(findings),
        "responses.svg": lambda: _responses(findings),
        "trials.svg": lambda: _trials(standings),
        "wins.svg": lambda: _wins(findings, standings),
        "tasks.svg": lambda: _tasks(findings, standings),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):  # pyright: ignore[reportArgumentType]
        for name in CAPTIONS:
            metadata = {"Date": None, "Creator": None}
            pictures[name]().savefig(folder / name, metadata=metadata)
    return CAPTIONS


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    found = figure.subplots(1, count, squeeze=False, sharey=True)
    return figure, [found[0, at] for at in range(count)]


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float], *, steps: bool) -> None:
    axes.plot(
        x,
        y,
        label=name,
        color=COLOURS[FEATURED.index(name) % len(COLOURS)],
        linestyle=BROKEN.get(name, "-"),
        zorder=3 if name in BROKEN else 2,
        drawstyle="steps-post" if steps else "default",
        linewidth=1.6 if name in BROKEN else 2,
    )


def _legend(figure: Figure, axes: Axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False)


def _profiles(findings: Findings) -> Figure:
    taus = np.linspace(1, LONGEST, 121).tolist()
    figure, panels = _panels(2, 9, 3.4)
    for axes, target in zip(panels, (1.0, 0.5), strict=True):
        for name, ratios in profiles(findings, FEATURED, target).items():
            _line(axes, name, taus, performance_profile(ratios, taus), steps=True)
        axes.set(
            xlabel="steps over the fewest",
            title="to the loss at the full budget" if target == 1 else "at half of it",
            ylim=(-0.02, 1.02),
            xlim=(1, LONGEST),
        )
    panels[0].set_ylabel("share of cells")
    _legend(figure, panels[0])
    return figure


def _responses(findings: Findings) -> Figure:
    families = findings.suite.families
    figure, panels = _panels(len(families), 3.2 * len(families) + 1.6, 3.4)
    for axes, family in zip(panels, families, strict=True):
        for name in FEATURED:
            found = responses(findings, name, family)
            most = max((len(values) for values in found.values()), default=0)
            # Rates that few tasks have would show these tasks, not the rate.
            kept = {at: values for at, values in found.items() if 2 * len(values) > most}
            means = [math.exp(fmean(map(math.log, values))) for values in kept.values()]
            if kept:
                _line(axes, name, [10 ** (at / 2) for at in kept], means, steps=False)
        axes.axhline(USABLE, color="#888888", linewidth=0.8)
        axes.set(xscale="log", yscale="log", title=family, xlabel="rate over the tuned one")
        axes.set_yticks([0.25, 0.5, 1.0], ["0.25", "0.5", "1"])
        axes.minorticks_off()
    panels[0].set_ylabel("budget-equivalent")
    _legend(figure, panels[0])
    return figure


def _trials(standings: Sequence[Standing]) -> Figure:
    figure, panels = _panels(1, 6, 3.4)
    for standing in standings:
        if standing.name in FEATURED and standing.best_of:
            _line(panels[0], standing.name, TRIALS, standing.best_of, steps=False)
    panels[0].set(xlabel="random rates tried", ylabel="budget-equivalent", xticks=TRIALS)
    _legend(figure, panels[0])
    return figure


def _wins(findings: Findings, standings: Sequence[Standing]) -> Figure:
    names = [standing.name for standing in standings if standing.name in PAIRED]
    values = np.full((len(names), len(names)), np.nan)
    for row, name in enumerate(names):
        for column, other in enumerate(names):
            ratios = [] if row == column else list(log_ratios(findings, name, other).values())
            if ratios:
                values[row, column] = np.mean((np.sign(ratios) + 1) / 2)
    size = 0.38 * len(names)
    figure = Figure(figsize=(size + 2.6, size + 2.6), layout="constrained")
    axes: Axes = figure.subplots()
    _heat(axes, values, (0.0, 1.0), names, names)
    for (row, column), value in np.ndenumerate(values):
        if not math.isnan(value):
            dark = abs(value - 0.5) > 0.35
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if dark else "black",
            )
    axes.set_title("% of paired runs in which the row beats the column")
    return figure


def _tasks(findings: Findings, standings: Sequence[Standing]) -> Figure:
    names = [standing.name for standing in standings]
    cells = sorted(findings.reasons, key=lambda cell: findings.suite.families.index(cell.family))
    admitted = set(admissible_cells(findings))
    values = np.full((len(names), len(cells)), np.nan)
    for column, cell in enumerate(cells):
        for row, name in enumerate(names):
            values[row, column] = _log2_ratio(findings, name, cell)
    shown = [f"{cell.task}" if cell in admitted else f"({cell.task})" for cell in cells]
    figure = Figure(
        figsize=(0.26 * len(cells) + 4.2, 0.22 * len(names) + 2.4), layout="constrained"
    )
    axes: Axes = figure.subplots()
    image = _heat(axes, values, (-1.5, 1.5), names, shown)
    for column in range(1, len(cells)):
        if cells[column].family != cells[column - 1].family:
            axes.axvline(column - 0.5, color="black", linewidth=1)
    for family in findings.suite.families:
        columns = [at for at, cell in enumerate(cells) if cell.family == family]
        if columns:
            axes.text(fmean(columns), -0.8, family, ha="center", va="bottom")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, ticks=[-1.5, -1, 0, 1, 1.5])
    bar.set_label("budget-equivalent over the reference's")
    bar.ax.set_yticklabels(["≤ 0.35", "0.5", "1", "2", "≥ 2.8"])
    return figure


def _log2_ratio(findings: Findings, name: str, cell: Cell) -> float:
    mine = scores_of(findings, name, cell, response=False)
    reference = scores_of(findings, BUDGET_REFERENCE, cell, response=False)
    if mine is None or reference is None:
        return math.nan
    return float(np.log2(mine.budget_equivalents / reference.budget_equivalents).mean())


def _heat(
    axes: Axes,
    values: Array,
    limits: tuple[float, float],
    rows: Sequence[str],
    columns: Sequence[str],
) -> AxesImage:
    # Orange is worse, blue is better; a scale that colour-blind readers can tell.
    ends = [COLOURS[1], "#ffffff", COLOURS[0]]
    colours = LinearSegmentedColormap.from_list("worse to better", ends).with_extremes(bad=EMPTY)
    image = axes.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)
    return image
