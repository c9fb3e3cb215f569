"""The answer of a comparison as one self-contained HTML page."""

from __future__ import annotations

import html
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lrpilot.bench.comparison.answer import Cell, Row, by_task
from lrpilot.bench.comparison.table import columns, entries, footnote, ranked, title
from lrpilot.bench.page import COLOURS, embedded, save_page
from lrpilot.bench.trial import Outcome
from lrpilot.tasks import TASKS

POINTS = 200  # per curve; more cannot be seen
RATE_RANGE = 1e-3  # of the highest rate: how far down the rate axis goes

DASHES = ("solid", "dash", "dot")  # when the colours run out

Curve = tuple[list[float], list[float]]


def write_report(path: Path, cells: Sequence[Cell], rows: Sequence[Row], command: str) -> None:
    """Write the page: tables, loss curves, rate curves and, for a grid, loss against rate.

    command: how the page was made, for its reader to repeat.
    """
    names = list(dict.fromkeys(cell.schedule for cell in cells))
    styles = {
        name: {
            "color": COLOURS[at % len(COLOURS)],
            "dash": DASHES[at // len(COLOURS) % len(DASHES)],
        }
        for at, name in enumerate(names)
    }
    sections: list[str] = []
    for mine, answers in zip(by_task(cells), by_task(rows), strict=True):
        sections.append(
            f"<h2>{html.escape(title(answers[0]))}</h2>"
            f"<p>{html.escape(_about(mine[0].task))}</p>{_table(answers)}"
            f"{embedded(_figure(mine, styles))}"
        )
    body = BODY.format(
        command=html.escape(command),
        footnote=html.escape(footnote(rows)).replace("\n", "<br>"),
        sections="\n".join(sections),
    )
    save_page(path, "lrpilot: schedules compared", body)


BODY = """<h1>Which learning-rate schedule ends lower?</h1>
<p><code>{command}</code></p>
{sections}
<p class="quiet">Curves: mean over the seeds, each schedule at its best rate.<br>{footnote}</p>"""


def _about(task: str) -> str:
    return TASKS[task].summary if task in TASKS else "A training function and the loss it reports."


def _metric(task: str) -> str:
    return TASKS[task].metric if task in TASKS else "loss"


def _table(rows: Sequence[Row]) -> str:
    lines = ["".join(f"<th>{html.escape(heading)}</th>" for heading in columns(rows))]
    for row in ranked(rows):
        *items, verdict = map(html.escape, entries(row, rows))
        style = {"good or better": "good", "worse": "worse"}.get(row.verdict or "", "quiet")
        lines.append(
            "".join(f"<td>{item}</td>" for item in items) + f'<td class="{style}">{verdict}</td>'
        )
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _figure(cells: Sequence[Cell], styles: Mapping[str, Mapping[str, str]]) -> go.Figure:
    """Loss and rate over steps, mean over seeds; loss against base rate if there is a grid."""
    has_grid = any(len(cell.by_lr) > 1 for cell in cells)
    panels = ["Validation loss", "Training loss, smoothed", "Learning rate"]
    figure = make_subplots(
        rows=2,
        cols=2,
        specs=[[{}, {}], [{}, {}] if has_grid else [{"colspan": 2}, None]],
        subplot_titles=[*panels, "Final validation loss by base rate"] if has_grid else panels,
        horizontal_spacing=0.1,
        vertical_spacing=0.16,
    )
    for cell in cells:
        line = {**styles[cell.schedule], "width": 2}
        curves = [
            _mean_curve([_evaluated(outcome) for outcome in cell.best]),
            _mean_curve([_smoothed(outcome.losses) for outcome in cell.best]),
            _mean_curve([_thinned(outcome.rates) for outcome in cell.best]),
            *([_response(cell)] if has_grid else []),
        ]
        for at, (x, y) in enumerate(curves):
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=y,
                    name=cell.schedule,
                    legendgroup=cell.schedule,
                    showlegend=at == 0,
                    mode="lines+markers" if at == 3 else "lines",
                    line=line,
                    hovertemplate="%{y:.4g}",
                ),
                row=at // 2 + 1,
                col=at % 2 + 1,
            )
    _label(figure, _metric(cells[0].task), has_grid)
    if has_grid:
        lrs = sorted({lr for cell in cells for lr in cell.by_lr})
        figure.update_xaxes(tickvals=lrs, ticktext=[f"{lr:g}" for lr in lrs], row=2, col=2)
    highest = max((max(o.rates, default=0.0) for cell in cells for o in cell.best), default=0.0)
    if highest > 0:  # the last steps of an anneal would take up the whole axis
        top = math.log10(highest)
        figure.update_yaxes(range=[top + math.log10(RATE_RANGE), top + 0.1], row=2, col=1)
    return figure


def _label(figure: go.Figure, loss: str, has_grid: bool) -> None:
    for at, (x, y) in enumerate(
        (
            ("optimizer steps", loss),
            ("optimizer steps", loss),
            ("optimizer steps", "learning rate"),
            ("base learning rate", loss),
        )[: 4 if has_grid else 3]
    ):
        row, col = at // 2 + 1, at % 2 + 1
        figure.update_xaxes(title_text=x, type="log" if at == 3 else "linear", row=row, col=col)
        figure.update_yaxes(title_text=y, type="log", exponentformat="power", row=row, col=col)
    figure.update_layout(
        template="plotly_white",
        font={"size": 11},
        height=820,
        hovermode="x unified",
        margin={"t": 70, "l": 70, "r": 20},
        legend={"orientation": "v", "x": 1.02, "y": 1.0, "title": "schedule"},
    )


def _evaluated(outcome: Outcome) -> Curve:
    return [float(step) for step, _ in outcome.evaluations], [y for _, y in outcome.evaluations]


def _thinned(values: Sequence[float]) -> Curve:
    stride = max(len(values) // POINTS, 1)
    return [float(step) for step in range(0, len(values), stride)], list(values[::stride])


def _smoothed(losses: Sequence[float]) -> Curve:
    """Means over 50 stretches of the run."""
    width = max(len(losses) // 50, 1)
    starts = range(0, len(losses) - width + 1, width)
    return (
        [start + width / 2 for start in starts],
        [statistics.fmean(losses[start : start + width]) for start in starts],
    )


def _mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over the seeds, at the points that every seed has reached."""
    length = min((len(x) for x, _ in curves), default=0)
    if not length:
        return [], []
    means = [statistics.fmean(y[at] for _, y in curves) for at in range(length)]
    return curves[0][0][:length], [mean if math.isfinite(mean) else math.nan for mean in means]


def _response(cell: Cell) -> Curve:
    """Final validation loss against the base rate; rates at which a run was lost have no point."""
    finals = {
        lr: [o.validation_loss for o in outcomes if o.validation_loss is not None]
        for lr, outcomes in cell.by_lr.items()
    }
    kept = {lr: losses for lr, losses in finals.items() if len(losses) == len(cell.by_lr[lr])}
    return list(kept), [statistics.fmean(losses) for losses in kept.values()]
