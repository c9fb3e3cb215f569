"""What commands print, and how they end: results to stdout, the rest to stderr."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import NoReturn, cast

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

STDERR = Console(stderr=True)


def show_text(shown: object, *, json: bool) -> None:
    """Print JSON, or texts and tables; lines of a text are not broken."""
    if json:
        print(json_format.dumps(shown, indent=2, allow_nan=False))
        return
    for item in cast("list[str | Table]", shown):
        stdout().print(item, markup=False, highlight=False, soft_wrap=isinstance(item, str))


def stdout() -> Console:
    """Standard output, wide enough for a table where nobody's window limits it."""
    return Console(width=None if sys.stdout.isatty() else 120)


def plain_table(*columns: str) -> Table:
    """A table without frame."""
    return Table(*columns, box=SIMPLE_HEAD)


@contextmanager
def one_line_errors(*kinds: type[Exception]) -> Generator[None, None, None]:
    """What the user can mend is one line and exit code 2; Ctrl-C keeps what is stored."""
    try:
        yield
    except KeyboardInterrupt:
        fail("interrupted; trials that had ended are stored, the same command goes on", code=130)
    except Exception as error:
        if not isinstance(error, kinds or ValueError):
            raise
        fail(str(error), code=2)


def fail(message: str, code: int) -> NoReturn:
    """End with ``message`` on standard error."""
    STDERR.print(f"lrpilot: {message}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)
