"""A decision replay as one self-contained HTML page."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrpilot.bench.page import COLOURS, embedded, save_page
from lrpilot.bench.replay.replay import LABEL, Replays, about, first_move
from lrpilot.schedules.explanation import Replay, describe

POINTS = 2000  # per curve

# Told apart by shape as well as by place.
SYMBOLS = {
    "raise": "triangle-up",
    "warmup": "triangle-up-open",
    "lower": "triangle-down",
    "cooldown": "triangle-down-open",
    "ignore": "x",
}


def write_page(path: Path, replays: Replays, command: str) -> None:
    """Write the page: loss and scale over steps, each decision a marker that says why.

    command: how the page was made, for its reader to repeat.
    """
    body = BODY.format(
        command=html.escape(command),
        label=html.escape(LABEL[0].upper() + LABEL[1:]),
        about=html.escape(about(replays)),
        schedules="".join(map(_item, replays.by_name, replays.by_name.values())),
        figure=embedded(_figure(replays)),
    )
    save_page(path, "lrpilot: decision replay", body)


BODY = """<h1>What would these settings have decided?</h1>
<p><strong>{label}.</strong></p>
<p>{about}.</p>
<ul>{schedules}</ul>
{figure}
<p><code>{command}</code></p>"""


def _item(name: str, found: Replay) -> str:
    log, first = found.log, first_move(found.log)
    moves = f"{log.up:,} moves up, {log.down:,} down" + (
        f", the first at step {first}" * bool(first)
    )
    dropped = f"; {log.dropped:,} decisions without a marker" if log.dropped else ""
    settings = html.escape(repr(found.schedule))
    return f"<li>{html.escape(name)}: {moves}{dropped}<br><code>{settings}</code></li>"


def _figure(replays: Replays) -> go.Figure:
    """Loss above, scales below, over the same steps."""
    what = "scale" if replays.lr is None else "learning rate"
    losses = replays.recording.losses
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    shown = thinned(losses)
    figure.add_trace(
        go.Scatter(
            x=[at + 1 for at in shown],
            y=[losses[at] for at in shown],
            name=replays.recording.column or "loss",
            line={"color": "#666", "width": 1},
            hovertemplate="%{y:.5g}",
        ),
        row=1,
        col=1,
    )
    for at, (name, found) in enumerate(replays.by_name.items()):
        for trace in _traces(name, found, COLOURS[at % len(COLOURS)]):
            figure.add_trace(trace, row=2, col=1)
    figure.update_xaxes(title_text="optimizer steps", row=2, col=1)
    figure.update_yaxes(title_text="recorded loss", row=1, col=1)
    rising = all(min(found.scales) > 0 for found in replays.by_name.values())
    figure.update_yaxes(title_text=what, type="log" if rising else "linear", row=2, col=1)
    figure.update_layout(
        template="plotly_white",
        font={"size": 11},
        height=760,
        margin={"t": 30, "l": 70, "r": 20},
        legend={"orientation": "v", "x": 1.02, "y": 1.0},
    )
    return figure


def _traces(name: str, found: Replay, colour: str) -> list[go.Scatter]:
    """The scale as a staircase, and its decisions as markers on it."""
    rates = [found.base_lr * scale for scale in found.scales]
    shown = thinned(rates)
    decisions = found.log.decisions
    line = go.Scatter(
        x=[at + 1 for at in shown],
        y=[rates[at] for at in shown],
        name=name,
        legendgroup=name,
        line={"color": colour, "width": 2, "shape": "hv"},
        hovertemplate="%{y:.4g}",
    )
    markers = go.Scatter(
        # A decision holds from the next step on.
        x=[one.step + 1 for one in decisions],
        y=[found.base_lr * one.new for one in decisions],
        text=[f"after step {one.step}, {html.escape(describe(one))}" for one in decisions],
        name=f"{name}: decisions",
        legendgroup=name,
        mode="markers",
        marker={
            "color": colour,
            "size": 9,
            "symbol": [SYMBOLS.get(one.reason, "circle") for one in decisions],
        },
        hovertemplate="%{text}<extra></extra>",
    )
    return [line, markers]


def thinned(values: Sequence[float], points: int = POINTS) -> list[int]:
    """Positions of at most about ``points`` values that keep every peak and every trough.

    >>> thinned([0, 0, 9, 0, 0, 0, -9, 0], points=4)
    [0, 2, 4, 6, 7]
    """
    width = max(math.ceil(2 * len(values) / points), 1)
    if width <= 2:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    for start in range(0, len(values), width):
        finite = [
            at for at in range(start, min(start + width, len(values))) if math.isfinite(values[at])
        ]
        if finite:
            kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
    return sorted(kept)
