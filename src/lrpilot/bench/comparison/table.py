"""The answer of a comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from lrpilot.bench.comparison.answer import Interval, Row, by_task

VERDICT_STYLES = {"good or better": "green", "worse": "red", "undecided": "yellow"}


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """A table per task and optimizer, the lowest loss first."""
    return map(_table, by_task(rows))


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Rows by the mean of the loss that they are judged on; rows without one last."""

    def rank(row: Row) -> tuple[bool, float]:
        loss = row.test_mean if row.judged_on == "test" else row.mean
        return loss is None, loss or 0.0

    return sorted(rows, key=rank)


def footnote(rows: Sequence[Row]) -> str:
    """What the columns mean, in a sentence each."""
    margin = f"{rows[0].margin:.0%}".replace("%", " %")
    lines = [
        "Mean final loss ± half of its 95 % t interval; the difference is paired by seed, and "
        "negative is better.",
        f"Verdict: good or better if the difference is shown (one-sided 95 %) to be below {margin} "
        "of the reference's loss, worse if shown to be above, else undecided.",
    ]
    if _on_test(rows):
        lines.append(
            "Each schedule at its best rate of the grid, chosen on validation; difference and "
            "verdict on test."
        )
    if any(row.judged_on == "validation" and len(row.lrs) > 1 for row in rows):
        lines.append(
            "Where there is no test loss, the best rate is chosen and judged on the same "
            "validation losses, which flatters every schedule."
        )
    if any(row.at_edge for row in rows):
        lines.append("* best rate at the edge of the grid: a better one may lie outside.")
    return "\n".join(lines)


def title(row: Row) -> str:
    """What a table or a section is about; a training function's optimizer is its own affair."""
    name = f"{row.task}, {row.optimizer}" if row.optimizer else row.task
    return f"{name}, {row.seeds} paired seed{'s' * (row.seeds > 1)}"


def spread(value: float | None, within: Interval | None, sign: str = "") -> str:
    """A mean with the half-width of its interval.

    >>> spread(0.5, (0.4, 0.6)), spread(-0.5, None, sign="+")
    ('0.5 ± 0.1', '-0.5')
    """
    if value is None:
        return "-"
    text = f"{value:{sign}.4g}"
    return text if within is None else f"{text} ± {(within[1] - within[0]) / 2:.2g}"


def judgement(row: Row) -> str:
    """The verdict, and how many runs were lost."""
    counts = ((row.diverged, "diverged"), (row.failed, "failed"))
    lost = ", ".join(f"{count} of {row.seeds} {what}" for count, what in counts if count)
    return (row.verdict or "reference") + (f" ({lost})" if lost else "")


def rate(row: Row) -> str:
    """The best rate, marked if it lies at the edge of its grid."""
    return f"{row.lr:g}" + ("*" if row.at_edge else "")


def columns(rows: Sequence[Row]) -> list[str]:
    """Headings of the table of one task; the verdict comes last."""
    test = ["test loss"] if _on_test(rows) else []
    return [
        "schedule",
        "validation loss",
        *test,
        f"minus {rows[0].reference}",
        "best rate",
        "verdict",
    ]


def entries(row: Row, rows: Sequence[Row]) -> list[str]:
    """What stands under `columns` in one line of the table."""
    test = [spread(row.test_mean, row.test_interval)] if _on_test(rows) else []
    return [
        row.name,
        spread(row.mean, row.interval),
        *test,
        spread(row.difference, row.difference_interval, sign="+") if row.verdict else "",
        rate(row),
        judgement(row),
    ]


def _on_test(rows: Sequence[Row]) -> bool:
    return any(row.judged_on == "test" for row in rows)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        *columns(rows),
        title=title(rows[0]),
        title_justify="left",
        title_style="bold",
        box=SIMPLE_HEAD,
    )
    for row in ranked(rows):
        *items, verdict = entries(row, rows)
        style = VERDICT_STYLES.get(row.verdict or "", "dim")
        table.add_row(*map(escape, items), f"[{style}]{verdict}[/]")
    return table
