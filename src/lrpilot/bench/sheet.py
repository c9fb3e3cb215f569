"""A table of texts, for a terminal and for Markdown alike."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table: columns of equal length rows, all of them text."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def rich(self) -> Table:
        """For a terminal."""
        table = Table(*self.columns, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*(cell.replace("**", "") for cell in row))
        return table

    def markdown(self) -> str:
        """For a page, under a heading that says the title."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ratio(value: float) -> str:
    """Three significant digits, without an exponent up to a million."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.3g}" if value < 1000 or value >= 1e6 else f"{value:,.0f}"
