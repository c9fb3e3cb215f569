"""Run the study, or read its rows; keep them, and write the page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from lrpilot.bench.drawing import drawing_module
from lrpilot.bench.robustness.rows import load_rows, save_rows
from lrpilot.bench.robustness.study import StudyResult, run_study
from lrpilot.bench.robustness.summary import summarise
from lrpilot.bench.store import Store


def answer_study(
    *,
    store_path: Path,
    rows_path: Path | None,
    save_path: Path | None,
    page_path: Path | None,
    workers: int,
    console: Console,
    command: str,
) -> StudyResult:
    """The study's rows and summary.

    rows_path: a file of rows; nothing is trained then.
    store_path: otherwise, where trials are kept. Those that it lacks are run.
    save_path, page_path: where to write the rows and the page, if anywhere.
    command: what was called; rows and page keep it.

    Raises ValueError, StoreError or OSError; ModuleNotFoundError for a page without matplotlib.
    """
    if rows_path is not None:
        about, rows = load_rows(rows_path)
        result = StudyResult(rows, summarise(rows))
    else:
        with Store(store_path) as store:
            result = run_study(store, workers, console)
            about = {"command": command, "versions": "; ".join(_versions(store))}
    if save_path is not None:
        save_rows(save_path, result.rows, about)
    if page_path is not None:
        drawing_module("lrpilot.bench.robustness.page").write_page(page_path, result.rows, about)
    return result


def _versions(store: Store) -> list[str]:
    found = store.select("SELECT DISTINCT versions FROM rows WHERE perturbation != ''")
    return sorted(text for (text,) in found)
