"""Run a suite's claims: train what the store lacks, or read rows, then judge."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lrpilot.bench.claims.claim import load_claims
from lrpilot.bench.claims.evaluate import evaluate
from lrpilot.bench.claims.findings import Entrant, Findings
from lrpilot.bench.claims.learned import FILES
from lrpilot.bench.claims.stability import load_rows as load_stability
from lrpilot.bench.claims.verdict import Verdict, number
from lrpilot.bench.drawing import drawing_module
from lrpilot.bench.engines.engine import Engine
from lrpilot.bench.held_out import HeldOutRow
from lrpilot.bench.held_out import load_rows as load_held_out
from lrpilot.bench.nmf.study import SUITE as NMF_SUITE
from lrpilot.bench.results import ResultRow, load_rows, result_row, save_rows
from lrpilot.bench.robustness.rows import load_rows as load_study
from lrpilot.bench.robustness.summary import summarise
from lrpilot.bench.stages import Stages
from lrpilot.bench.store import Store
from lrpilot.bench.suite import DEVELOPMENT, HELD_OUT, SUITES, Suite
from lrpilot.schedules.checks import check_known

# Beside the rows of a suite, if they are there.
STUDY_ROWS = "robustness.csv.gz"
STABILITY_ROWS = "nmf_whole_runs.csv.gz"
NMF_ROWS = "nmf.csv.gz"
TELL_EVERY = 5.0  # seconds
VERDICT_STYLES = {"supported": "green", "refuted": "red", "not tested": "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsAnswer:
    """Verdicts, what they are computed from, and what the rows say of themselves.

    failed: trials of the store that failed, which is not to say diverged; 0 where rows were read,
        whose failures are on the page.
    """

    verdicts: list[Verdict]
    findings: Findings
    about: Mapping[str, str]
    failed: int

    def as_json(self) -> list[dict[str, object]]:
        """One object per claim."""
        return [verdict.as_json() for verdict in self.verdicts]


def run_claims(
    suite_name: str,
    *,
    store_path: Path,
    rows_path: Path | None,
    save_path: Path | None,
    engine: Engine,
    console: Console,
    command: str,
    study_path: Path | None = None,
) -> ClaimsAnswer:
    """Verdicts on all claims, from a suite's trials.

    rows_path: a file of result rows; nothing is trained then.
    store_path: otherwise, where trials are kept. Those that it lacks are run.
    save_path: where to write the rows of trials, if anywhere.
    command: what was called; the rows keep it.
    study_path: rows of the robustness study; None for those beside ``rows_path``, if there are.

    Raises ValueError for an unknown suite, rows that are of another, or rows to be read and saved;
    StoreError.
    """
    check_known("suite", suite_name, SUITES)
    if rows_path is not None and save_path is not None:
        raise ValueError(
            f"--rows {rows_path} judges rows that are there, so there are none to --save to "
            f"{save_path}; leave one out"
        )
    suite = SUITES[suite_name]
    if rows_path is None:
        about, rows = trained(suite, store_path, save_path, engine, console, command)
        command = f"lrpilot claims --suite {suite_name} --store {store_path}"
        if save_path is not None:
            command = f"lrpilot claims --suite {suite_name} --rows {save_path}"
    else:
        about, rows = load_rows(rows_path)
        if about.get("suite", suite_name) != suite_name:
            raise ValueError(
                f"{rows_path} has rows of suite {about['suite']}, not {suite_name}; add --suite "
                f"{about['suite']}"
            )
        command = f"lrpilot claims --suite {suite_name} --rows {rows_path}"
        beside = rows_path.with_name(STUDY_ROWS)
        study_path = beside if study_path is None and beside.exists() else study_path
    stability = nmf = None
    if rows_path is not None and rows_path.with_name(STABILITY_ROWS).exists():
        _, stability = load_stability(rows_path.with_name(STABILITY_ROWS))
    if rows_path is not None and rows_path.with_name(NMF_ROWS).exists():
        nmf = Findings(load_rows(rows_path.with_name(NMF_ROWS))[1], NMF_SUITE)
        about = {**about, "NMF study": str(rows_path.with_name(NMF_ROWS))}
    learned: dict[str, list[HeldOutRow]] = {}
    for name, file in FILES.items():
        path = None if rows_path is None else rows_path.with_name(file)
        if path is not None and path.exists():
            learned[name] = load_held_out(path)[1]
            about = {**about, f"{name} rows": str(path)}
    study = None
    if study_path is not None:
        study = summarise(load_study(study_path)[1])
        about = {**about, "robustness study": str(study_path)}
    findings = Findings(rows, suite)
    verdicts = evaluate(
        load_claims(),
        findings,
        study=study,
        stability=stability,
        nmf=nmf,
        learned=learned,
        development=DEVELOPMENT,
        held_out=HELD_OUT,
        command=command,
    )
    return ClaimsAnswer(
        verdicts=verdicts,
        findings=findings,
        about=about,
        failed=findings.failed if rows_path is None else 0,
    )


def trained(
    suite: Suite,
    store_path: Path,
    save_path: Path | None,
    engine: Engine,
    console: Console,
    command: str,
) -> tuple[dict[str, str], list[ResultRow]]:
    """Run what the store lacks; return the rows as a file would have them.

    They go through a file even if none is kept, so that a store and the rows saved from it give the
    same numbers to the last digit.
    """
    with Store(store_path) as store:
        trials = Stages(suite, store, engine, _Told(console).advance).run()
        rows = [
            result_row(trial, outcome, curve=True)
            for trial, outcome in store.outcomes(trials, curves=False)
        ]
        versions = store.versions(trials)
    about = {"command": command, "suite": suite.name, "versions": "; ".join(versions)}
    with tempfile.TemporaryDirectory() as folder:
        path = save_path or Path(folder) / "rows.csv.gz"
        save_rows(path, without_idle_curves(rows, suite), about)
        return load_rows(path)


def without_idle_curves(rows: Sequence[ResultRow], suite: Suite) -> Iterable[ResultRow]:
    """``rows``, of which those alone keep evaluations whose curves a claim reads.

    These are the evaluation runs at the best rate for the suite's budget.
    """
    findings = Findings(rows, suite)
    for row in rows:
        choice = findings.tuned(row.task, Entrant(row.optimizer, row.schedule))
        judged = (
            choice is not None
            and row.lr == choice.lr
            and row.seed in suite.evaluation_seeds
            and row.total_steps == findings.steps(row.task)
        )
        yield row if judged else row._replace(evaluations=())


def write_claims_page(path: Path, answer: ClaimsAnswer) -> None:
    """The page with its pictures, for which matplotlib is needed.

    Raises ValueError if there is another file in its place, ModuleNotFoundError without matplotlib.
    """
    page = drawing_module("lrpilot.bench.claims.page")
    page.write_page(path, answer.verdicts, answer.findings, answer.about)


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """Claims and controls for a terminal."""
    table = Table("id", "claim", "number, 95 % interval", "needs", "verdict", box=SIMPLE_HEAD)
    for verdict in verdicts:
        table.add_row(
            *map(Text, (verdict.id, verdict.statement, number(verdict))),
            f"{verdict.direction} {verdict.threshold:g}",
            Text(verdict.verdict, VERDICT_STYLES.get(verdict.verdict, "yellow")),
        )
    return table


class _Told:
    """Progress in a line now and then."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.told = 0.0
        self.started = time.monotonic()

    def advance(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.told >= TELL_EVERY or (done == total and now - self.told >= 1):
            self.told = now
            self.console.print(
                f"{now - self.started:.0f} s: {what}, {done} of {total} trials", highlight=False
            )
