"""Run the study, or read its rows; keep them, and write the page."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console

from lrpilot.bench.claims.findings import Findings
from lrpilot.bench.drawing import drawing_module
from lrpilot.bench.nmf.study import SUITE, run_study
from lrpilot.bench.nmf.tables import tables
from lrpilot.bench.results import load_rows, save_rows
from lrpilot.bench.sheet import Sheet
from lrpilot.bench.store import Store


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """What the rows show. The verdicts on it are among the claims of a suite."""

    findings: Findings

    def sheets(self) -> list[Sheet]:
        """The findings as tables."""
        return tables(self.findings)

    def as_json(self) -> str:
        """The tables, for programs."""
        return json.dumps([asdict(sheet) for sheet in self.sheets()], indent=2)


def answer_study(
    *,
    store_path: Path,
    rows_path: Path | None,
    save_path: Path | None,
    page_path: Path | None,
    workers: int,
    console: Console,
    command: str,
) -> StudyAnswer:
    """What the study shows.

    rows_path: a file of rows; nothing is run then.
    store_path: otherwise, where the numbers of jobs are kept. Those that it lacks are run.
    save_path, page_path: where to write the rows and the page, if anywhere.
    command: what was called; rows and page keep it.

    Raises ValueError, StoreError or OSError; ModuleNotFoundError for a page without matplotlib.
    """
    if rows_path is not None:
        about, rows = load_rows(rows_path)
        if about.get("suite") != SUITE.name:
            raise ValueError(
                f"{rows_path} has no rows of the NMF study; `lrpilot claims --study nmf --save` "
                f"writes such a file"
            )
    else:
        with Store(store_path) as store:
            rows = run_study(store, workers, console)
        about = {"command": command, "suite": SUITE.name, "versions": f"torch {torch.__version__}"}
    if save_path is not None:
        save_rows(save_path, rows, about)
    answer = StudyAnswer(Findings(rows, SUITE))
    if page_path is not None:
        drawing_module("lrpilot.bench.nmf.page").write_page(page_path, answer.findings, about)
    return answer
