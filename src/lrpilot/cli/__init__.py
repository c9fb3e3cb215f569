"""The command line: one verb, one function; the work is in the library."""

from __future__ import annotations

import json as json_format
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lrpilot.bench.claims.command import claims_table, run_claims, write_claims_page
from lrpilot.bench.comparison.answer import Row, rows
from lrpilot.bench.comparison.compare import compare as run_comparison
from lrpilot.bench.comparison.plan import Plan
from lrpilot.bench.comparison.report import write_report
from lrpilot.bench.comparison.table import footnote, tables
from lrpilot.bench.engines.engine import Engine
from lrpilot.bench.nmf.command import answer_study as answer_nmf
from lrpilot.bench.page import check_page
from lrpilot.bench.replay.explained import Filters, explain_file
from lrpilot.bench.replay.explained import as_json as explained_json
from lrpilot.bench.replay.explained import as_text as explained_text
from lrpilot.bench.replay.page import write_page
from lrpilot.bench.replay.recorded import LOSS_COLUMNS
from lrpilot.bench.replay.replay import as_json as replay_json
from lrpilot.bench.replay.replay import as_text as replay_text
from lrpilot.bench.replay.replay import replay_file
from lrpilot.bench.robustness.command import answer_study as answer_robustness
from lrpilot.bench.runs import Where, check_export, check_store, find_runs
from lrpilot.bench.runs import as_json as runs_json
from lrpilot.bench.runs import as_text as runs_text
from lrpilot.bench.runs import export as export_runs
from lrpilot.bench.store import Store, StoreError
from lrpilot.bench.suite import (
    DEFAULT_OPTIMIZERS,
    DEFAULT_SCHEDULES,
    DEFAULT_SEEDS,
    DEFAULT_TASKS,
    OPTIMIZERS,
    SUITES,
)
from lrpilot.bench.trial import trial_count
from lrpilot.cli.distil import distil
from lrpilot.cli.ensemble import ensemble
from lrpilot.cli.evaluate import evaluate
from lrpilot.cli.options import (
    CORES,
    AddressOption,
    EngineOption,
    TimeLimitOption,
    WorkersOption,
    cores,
)
from lrpilot.cli.past import import_runs, predict, tune
from lrpilot.cli.terminal import STDERR, fail, one_line_errors, plain_table, show_text, stdout
from lrpilot.cli.train import train
from lrpilot.schedules import NAMED_SCHEDULES, named_schedule
from lrpilot.schedules.checks import check_known
from lrpilot.tasks import TASKS

__all__ = ["app", "cores"]

app = typer.Typer(
    help="Decides the learning rate while a model trains.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


STUDIES = {"robustness": answer_robustness, "nmf": answer_nmf}
STUDY_HELP = f"A study alone: {' or '.join(STUDIES)}."


@app.command()
def compare(
    function: Annotated[
        list[str] | None,
        typer.Argument(help="Your own training as the task: train.py:train.", show_default=False),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A task of `lrpilot tasks`. Repeatable. Default: {', '.join(DEFAULT_TASKS)}."
        ),
    ] = None,
    schedule: Annotated[
        list[str] | None,
        typer.Option(
            help="A schedule of `lrpilot schedules`, or settings of one: "
            "greedy:factor=0.5,anneal=0.3. Repeatable. "
            f"Default: {', '.join(DEFAULT_SCHEDULES)}."
        ),
    ] = None,
    optimizer: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join(OPTIMIZERS)}. Repeatable. "
            f"Default: {', '.join(DEFAULT_OPTIMIZERS)}."
        ),
    ] = None,
    lr: Annotated[
        list[float] | None,
        typer.Option(
            help="Base rate. Repeat for a grid: each schedule at its best rate, chosen on "
            "validation, reported on test. Default: the task's rate and its "
            "neighbours, or 0.001 for your own training."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many paired seeds.")] = DEFAULT_SEEDS,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps per trial. Default: the task's budget.")
    ] = None,
    workers: WorkersOption = CORES,
    store: Annotated[Path, typer.Option(help="Where trials are kept.")] = Path("runs.db"),
    report: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    engine: EngineOption = "local",
    address: AddressOption = None,
    time_limit: TimeLimitOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run stored trials again.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Train tasks under several schedules and say which schedule ends lower."""
    with one_line_errors():
        plan = Plan(
            tasks=[*(function or ()), *(task or ())] or DEFAULT_TASKS,
            schedules=schedule or DEFAULT_SCHEDULES,
            optimizers=optimizer,
            lrs=lr,
            seeds=seeds,
            steps=steps,
        )
        check_page(report, store, "--report")
        place = Engine(engine, workers=workers, address=address, time_limit=time_limit)
    with one_line_errors(StoreError, ValueError), Store(store) as trials, place:
        found = run_comparison(plan, trials, engine=place, fresh=fresh, console=STDERR)
    answer = rows(found)
    show(answer, json=json)
    with one_line_errors(OSError):
        write_report(report, found, answer, command=shlex.join(["lrpilot", *sys.argv[1:]]))
    STDERR.print(f"page: {report}", highlight=False)
    if any(outcome.status == "failed" for cell in found for outcome in cell.outcomes):
        fail(
            f"some trials failed; their tracebacks are in {store}. They are not run again unless "
            f"the training function's file or settings have changed; --fresh runs all trials again",
            code=1,
        )


@app.command()
def explain(
    path: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint (torch.save or JSON) with the state of a scheduler anywhere in "
            "it, or a store of `lrpilot compare`, whose trials are replayed."
        ),
    ],
    task: Annotated[str | None, typer.Option(help="Of a store: the trials of a task.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="The trials of an optimizer.")] = None,
    schedule: Annotated[str | None, typer.Option(help="The trials of a schedule.")] = None,
    seed: Annotated[int | None, typer.Option(help="The trials of a seed.")] = None,
    lr: Annotated[float | None, typer.Option(help="The trials at a base rate.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say why the rate of a run moved."""
    with one_line_errors():
        found = explain_file(path, Filters(task, optimizer, schedule, seed, lr))
    show_text(explained_json(found) if json else explained_text(found), json=json)


@app.command()
def replay(
    log: Annotated[
        Path,
        typer.Argument(
            help="A recorded loss, one per optimizer step: CSV with a header, JSON Lines, a "
            "Trainer's trainer_state.json, or a number per line."
        ),
    ],
    schedule: Annotated[
        list[str] | None,
        typer.Option(help="A schedule of `lrpilot schedules`. Repeatable. Default: greedy."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting, such as patience=5, for those of the schedules that have it. "
            "Repeatable.",
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Base rate, to speak of rates instead of scales.")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            help="The column of the loss. "
            f"Default: the first of {', '.join(LOSS_COLUMNS)} that is there."
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="Write a page of loss, scales and decisions there.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Say what schedules would have decided on a recorded loss (decision replay)."""
    with one_line_errors():
        if page is not None:
            check_page(page, log)
        found = replay_file(log, schedule, settings, lr=lr, column=column)
    if page is not None:
        with one_line_errors(OSError):
            write_page(page, found, command=shlex.join(["lrpilot", *sys.argv[1:]]))
        STDERR.print(f"page: {page}", highlight=False)
    show_text(replay_json(found) if json else replay_text(found), json=json)


@app.command()
def claims(
    suite: Annotated[str, typer.Option(help=f"One of {', '.join(SUITES)}.")] = "quick",
    study: Annotated[str | None, typer.Option(help=STUDY_HELP)] = None,
    store: Annotated[Path, typer.Option(help="Where trials are kept.")] = Path("claims.db"),
    rows: Annotated[
        Path | None, typer.Option(help="Judge these result rows; nothing is trained.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the result rows there.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with pictures there.")] = None,
    workers: WorkersOption = CORES,
    engine: EngineOption = "local",
    address: AddressOption = None,
    time_limit: TimeLimitOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Run what a suite's store lacks, and judge every claim."""
    command = shlex.join(["lrpilot", *sys.argv[1:]])
    with one_line_errors(ValueError, StoreError, OSError, ModuleNotFoundError):
        if study is not None:
            check_known("study", study, STUDIES)
            result = STUDIES[study](
                store_path=store,
                rows_path=rows,
                save_path=save,
                page_path=page,
                workers=workers,
                console=STDERR,
                command=command,
            )
            found = [sheet.rich() for sheet in result.sheets()]
            show_text(result.as_json() if json else found, json=json)
            return
        with Engine(engine, workers=workers, address=address, time_limit=time_limit) as place:
            answer = run_claims(
                suite,
                store_path=store,
                rows_path=rows,
                save_path=save,
                engine=place,
                console=STDERR,
                command=command,
            )
        if page is not None:
            write_claims_page(page, answer)
    show_text(answer.as_json() if json else [claims_table(answer.verdicts)], json=json)
    if answer.failed:
        fail(
            f"{trial_count(answer.failed)} failed; `lrpilot runs --store {store} --status failed` "
            f"lists them",
            code=1,
        )


@app.command()
def runs(
    store: Annotated[Path, typer.Option(help="Where trials are kept.")] = Path("runs.db"),
    task: Annotated[str | None, typer.Option(help="The trials of a task.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="The trials of an optimizer.")] = None,
    schedule: Annotated[str | None, typer.Option(help="The trials of a schedule.")] = None,
    perturbation: Annotated[
        str | None, typer.Option(help='The trials under a perturbation; "" for those under none.')
    ] = None,
    engine: Annotated[str | None, typer.Option(help="single or batched.")] = None,
    lr: Annotated[float | None, typer.Option(help="The trials at a base rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="The trials of a seed.")] = None,
    status: Annotated[str | None, typer.Option(help="done, diverged or failed.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=0, help="List the first so many, rather than count many.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write all of them to a .csv or .parquet file instead.")
    ] = None,
    curves: Annotated[bool, typer.Option("--curves", help="Export their curves too.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List, count or export the trials in a store."""
    where = Where(task, optimizer, schedule, perturbation, engine, lr, seed, status)
    with one_line_errors(ValueError, StoreError, OSError):
        check_store(store)
        if export is not None:
            check_export(export, store)
        elif curves:
            raise ValueError("--curves are for an export alone; add --export FILE.csv or .parquet")
        with Store(store) as trials:
            found = find_runs(trials, where, limit=limit)
            if export is not None:
                count = export_runs(trials, where, export, curves=curves)
                STDERR.print(f"{trial_count(count)} exported to {export}", highlight=False)
                return
    show_text(runs_json(found) if json else runs_text(found), json=json)


app.command()(tune)
app.command()(predict)
app.command()(train)
app.command()(ensemble)
app.command()(evaluate)
app.command()(distil)
app.command("import")(import_runs)


@app.command("tasks")
def list_tasks() -> None:
    """List the built-in tasks."""
    table = plain_table("task", "what it is", "loss", "steps", "adamw rate")
    for task in TASKS.values():
        rate = f"{task.lrs['adamw']:g}"
        table.add_row(task.name, task.summary, task.metric, str(task.total_steps), rate)
    stdout().print(table)


@app.command("schedules")
def list_schedules() -> None:
    """List the schedules, with their settings over 1,000 steps."""
    table = plain_table("schedule", "settings over 1,000 steps")
    for name in NAMED_SCHEDULES:
        table.add_row(name, repr(named_schedule(name, 1000)))
    table.add_row("learned:FILE", "as learned, with the policy in a file")
    stdout().print(table)


def show(answer: list[Row], *, json: bool) -> None:
    """Print the answer as tables or as JSON."""
    if json:
        print(json_format.dumps([row.as_json() for row in answer], indent=2, allow_nan=False))
        return
    console = stdout()
    for table in tables(answer):
        console.print(table)
    console.print(footnote(answer), highlight=False)
