"""What a fit is given on the command line, and what it tells of its progress."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import cast

from rich.console import Console

TELL_EVERY = 5.0  # seconds


def check_out(out: Path | None, store: Path) -> None:
    """Raise ValueError if an answer cannot be written to ``out``; an answer there is replaced."""
    if out is None:
        return
    if out.is_dir() or not out.parent.is_dir():
        why = "it is a folder, or its folder is not there"
    elif out.resolve() == store.resolve():
        why = "it is the store"
    elif out.exists() and not _is_answer(out):
        why = "it is there and is no answer of lrpilot tune, so it would be lost"
    else:
        return
    raise ValueError(f"cannot write to {out}: {why}; choose another --out")


def _is_answer(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "verdict" in cast("dict[str, object]", found)


class Told:
    """Lines on what is run, one every few seconds at most, and one for each stage."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.what = ""
        self.last = -math.inf

    def __call__(self, what: str, done: int, count: int) -> None:
        """Say how far ``what`` is."""
        now = time.monotonic()
        if what != self.what or now - self.last >= TELL_EVERY:
            self.what, self.last = what, now
            self.console.print(f"{what}: {done} of {count} trials", highlight=False)
