"""Two pictures of a robustness study, as SVG files that equal rows make byte for byte."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lrpilot.bench.page import COLOURS
from lrpilot.bench.robustness.summary import Summary
from lrpilot.bench.robustness.tables import RESPECTS
from lrpilot.bench.robustness.verdicts import RIVALS
from lrpilot.bench.sheet import ratio

COLOUR_OF = {"cosine": COLOURS[0], "constant": COLOURS[1]}
TICKS = (0.5, 0.7, 1.0, 1.4, 2.0)
SHOWN_UP_TO = 30.0  # penalties beyond have the last colour


def save_pictures(summary: Summary, folder: Path) -> list[Path]:
    """Write the map of penalties and the standings into ``folder``."""
    pictures = {
        "robustness-penalties.svg": penalty_map(summary),
        "robustness-standings.svg": standings(summary),
    }
    paths: list[Path] = []
    # Without a salt, the names of shapes are random.
    with mpl.rc_context({"svg.hashsalt": "lrpilot", "svg.fonttype": "none"}):
        for name, figure in pictures.items():
            figure.savefig(folder / name, format="svg", metadata={"Date": None})
            paths.append(folder / name)
    return paths


def penalty_map(summary: Summary) -> Figure:
    """Penalties by perturbation and schedule; darker is worse."""
    shown = [penalty for penalty in summary.penalties if penalty.runs]
    names = list(dict.fromkeys(penalty.perturbation for penalty in shown))
    schedules = list(summary.diverged)
    grid = [[math.nan] * len(schedules) for _ in names]
    for penalty in shown:
        place = names.index(penalty.perturbation), schedules.index(penalty.schedule)
        grid[place[0]][place[1]] = penalty.ratio
    figure = Figure(figsize=(10, 0.45 * max(len(names), 1) + 2), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xticks(range(len(schedules)), schedules, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    if names:
        image = axes.imshow(grid, norm=LogNorm(0.8, SHOWN_UP_TO), cmap="cividis_r", aspect="auto")
        figure.colorbar(image, label="final loss over the unperturbed twin's")
    for row, of_row in enumerate(grid):
        for column, value in enumerate(of_row):
            colour = "white" if value > 5 else "black"
            axes.text(column, row, ratio(value), ha="center", va="center", color=colour)
    axes.set_title("Penalty of each perturbation, geometric mean over admitted tasks")
    return figure


def standings(summary: Summary) -> Figure:
    """Every schedule's ratio to constant and to cosine, with intervals, in each respect."""
    schedules = list(summary.diverged)
    figure = Figure(figsize=(12, 0.4 * len(schedules) + 1.6), layout="constrained")
    panels = figure.subplots(1, len(RESPECTS), sharey=True)
    for axes, (track, measure, title) in zip(panels, RESPECTS, strict=True):
        for offset, rival in zip((-0.15, 0.15), RIVALS, strict=True):
            found = [
                standing
                for standing in summary.standings
                if (standing.rival, standing.track, standing.measure) == (rival, track, measure)
                and standing.cells == "admitted"
            ]
            axes.errorbar(
                [standing.ratio for standing in found],
                [schedules.index(standing.schedule) + offset for standing in found],
                xerr=[
                    [standing.ratio - standing.low for standing in found],
                    [standing.high - standing.ratio for standing in found],
                ],
                fmt="o",
                capsize=3,
                color=COLOUR_OF[rival],
                label=f"over {rival}'s",
            )
        axes.axvline(1.0, color="grey", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_title(title.replace(", ", ",\n"), fontsize=10)
        axes.set_xlabel("ratio; left of 1 is better")
    panels[0].set_yticks(range(len(schedules)), schedules)
    panels[0].invert_yaxis()
    panels[-1].legend(fontsize=8)
    return figure
