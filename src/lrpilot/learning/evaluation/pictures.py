"""What the evaluation shows, as SVG: set by set, and learned schedules beside classical ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from lrpilot.bench.batched.schedules import Scales
from lrpilot.bench.held_out import HeldOutRow, by_set, wrongs_of
from lrpilot.bench.page import COLOURS
from lrpilot.learning.evaluation.contest import GRID, on_grid
from lrpilot.learning.evaluation.sets import HeldOut, net_sets, nmf_sets
from lrpilot.learning.evaluation.tables import compared
from lrpilot.learning.playing import under_policies
from lrpilot.schedules import named_schedule
from lrpilot.schedules.learned.policy import BASES, load_policy

if TYPE_CHECKING:
    from lrpilot.learning.evaluation.evaluated import Evaluation

YARDSTICK: Mapping[str, str] = {"nmf": "tuned step", "net": "tuned cosine"}
BESIDE: Mapping[str, tuple[str, ...]] = {
    "nmf": ("step", "cosine", "exponential"),
    "net": ("cosine", "linear", "step"),
}
SHOWN: Mapping[str, tuple[tuple[str, float], ...]] = {
    "nmf": (("noise 0", 1.0), ("noise 0.2", 1.0), ("noise 1.5", 1.0), ("noise 1.5", 10.0)),
    "net": (
        ("611: teacher, adamw, 204 steps", 0.1),
        ("611: teacher, adamw, 204 steps", 10.0),
        ("83: modular, adamw, 413 steps", 0.1),
        ("83: modular, adamw, 413 steps", 10.0),
    ),
}
"""Sets, and factors of the base rate, whose schedules are drawn."""
TICKS, FINE_TICKS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), (0.8, 1.25)
PLAIN: dict[Any, Any] = {
    **{"svg.hashsalt": "lrpilot", "svg.fonttype": "none", "font.size": 9},
    **{"axes.spines.top": False, "axes.spines.right": False},
}


def save_pictures(evaluation: Evaluation, folder: Path) -> None:
    """Write sets.svg and schedules.svg into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: Mapping[str, Callable[[], Figure]] = {
        "sets.svg": lambda: sets(evaluation.kind, evaluation.rows),
        "schedules.svg": lambda: schedules(evaluation.kind),
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with mpl.rc_context(PLAIN):
            for name, figure in figures.items():
                figure().savefig(folder / name, metadata={"Date": None})
    finally:
        torch.set_num_threads(threads)


def sets(kind: str, rows: Sequence[HeldOutRow]) -> Figure:
    """Left by the policies over left by the yardstick, for each set and base rate."""
    named = by_set(rows)
    names = list(named)
    control = YARDSTICK[kind]
    figure = Figure(figsize=(7.5, 1.2 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="#999999", linewidth=0.8)
    for colour, wrong in zip(COLOURS, wrongs_of(rows), strict=False):
        ratios = [compared(of_set, control, wrong).ratio for of_set in named.values()]
        axes.plot(ratios, range(len(names)), "o", color=colour, label=f"base rate × {wrong:g}")
    labels = [f"{of_set[0].axis}: {name}" for name, of_set in named.items()]
    axes.set_yticks(range(len(names)), labels)
    axes.set_ylim(len(names), -1)
    _as_ratio(axes)
    figure.supxlabel(f"left by the policies / left by {control} (below 1: the policies are ahead)")
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    return figure


def schedules(kind: str) -> Figure:
    """The rate over time under the shipped policy, mean and range of runs, beside tuned ones."""
    held_out = {one.name: one for one in (nmf_sets() if kind == "nmf" else net_sets())}
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    for axes, (name, wrong) in zip(figure.subplots(2, 2).flat, SHOWN[kind], strict=True):
        _draw(axes, kind, held_out[name], wrong)
    figure.supxlabel("share of the horizon")
    figure.supylabel("rate / base rate of × 1")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, loc="outside upper center", ncols=5)
    return figure


def _draw(axes: Axes, kind: str, held_out: HeldOut, wrong: float) -> None:
    policy = load_policy(kind)
    runs = held_out.untuned("judged", 1, wrong)
    steps = np.arange(runs.total_steps)
    at = steps / runs.total_steps
    base = np.array([BASES[policy.base](float(x)) for x in at])
    ways = under_policies(runs, [policy]).offsets[:, 0]
    rates = wrong * base[:, None] * np.exp(ways)
    low, high = rates.min(axis=1), rates.max(axis=1)
    axes.fill_between(at, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(at, np.exp(np.log(rates + 1e-30).mean(axis=1)), color=COLOURS[0], label="learned")
    axes.plot(at, wrong * base, color=COLOURS[0], linestyle=":", label="its base")
    names = BESIDE[kind]
    made = [named_schedule(name, len(steps)) for name in names]
    scales = Scales(made, len(steps)).table[:-1].T.numpy()  # all of them are open loop
    tuned = _tuned(held_out, kind)
    for colour, name, factor, scale in zip(COLOURS[1:], names, tuned, scales, strict=False):
        axes.plot(at, factor * scale, color=colour, label=f"tuned {name}")
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 30)
    axes.set_title(f"{held_out.name}\nbase rate × {wrong:g}", fontsize=9)


def _tuned(held_out: HeldOut, kind: str) -> list[float]:
    """The best factor of each classical schedule on the tuning problems."""
    finals = on_grid(held_out, "tuning", BESIDE[kind], GRID[kind])
    return [GRID[kind][at] for at in finals.mean(axis=2).argmin(axis=1)]


def _as_ratio(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.85), max(high, 1.15))
    low, high = axes.get_xlim()
    ticks = TICKS if high > 8 * low else (*TICKS, *FINE_TICKS)
    axes.xaxis.set_major_locator(FixedLocator([x for x in ticks if low <= x <= high]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
