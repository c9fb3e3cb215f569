"""Commands that learn from past runs: `lrpilot tune`, `lrpilot predict` and `lrpilot import`."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from lrpilot.bench.engines.engine import Engine
from lrpilot.bench.runs import check_store
from lrpilot.bench.store import Store, StoreError
from lrpilot.cli.options import CORES, AddressOption, EngineOption, TimeLimitOption, WorkersOption
from lrpilot.cli.terminal import STDERR, one_line_errors, show_text
from lrpilot.learning.budget import seconds_of
from lrpilot.learning.fitting import tune_store
from lrpilot.learning.fitting.progress import Told, check_out
from lrpilot.learning.past import PastRuns
from lrpilot.learning.past.read import import_logs
from lrpilot.learning.predicting import predict_store


def tune(
    store: Annotated[Path, typer.Option(help="Whose tasks the settings are fitted to.")] = Path(
        "runs.db"
    ),
    task: Annotated[
        list[str] | None, typer.Option(help="A task of the store. Repeatable. Default: all.")
    ] = None,
    settings: Annotated[
        int, typer.Option(min=3, help="How many settings are tried, the shipped two included.")
    ] = 32,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time for trying settings, such as 60s, 10m or 1h; the same command goes on. "
            "Default: no limit."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the JSON there too.")] = None,
    workers: WorkersOption = CORES,
    engine: EngineOption = "local",
    address: AddressOption = None,
    time_limit: TimeLimitOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Fit GreedyLR's settings to the tasks of a store, and say what that is worth elsewhere."""
    with one_line_errors(ValueError, StoreError):
        check_store(store)
        check_out(out, store)
        seconds = seconds_of(budget)
        place = Engine(engine, workers=workers, address=address, time_limit=time_limit)
        with Store(store) as trials, place:
            found = tune_store(
                trials,
                place,
                tasks=task or (),
                settings=settings,
                seconds=seconds,
                advance=Told(STDERR),
            )
    if out is not None:
        with one_line_errors(OSError):
            out.write_text(json_format.dumps(found.as_json(), indent=2, allow_nan=False) + "\n")
    show_text(found.as_json() if json else found.as_text(), json=json)


def predict(
    run: Annotated[
        str | None,
        typer.Argument(
            help="An imported run of the store, which has at least begun.", show_default=False
        ),
    ] = None,
    store: Annotated[Path, typer.Option(help="Whose trials are learned from.")] = Path("runs.db"),
    task: Annotated[
        list[str] | None, typer.Option(help="A task of the store. Repeatable. Default: all.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="The run's horizon. Default: its last step.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Predict a run's best rate and anneal from its first 5 %, and say how far that is off."""
    with one_line_errors(ValueError, StoreError):
        check_store(store)
        begun = None if run is None else PastRuns(store).find(run)
        with Store(store) as trials:
            found = predict_store(trials, tasks=task or (), run=begun, steps=steps)
    show_text(found.as_json() if json else found.as_text(), json=json)


def import_runs(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Logs: TensorBoard event files or their folder, CSV, JSON or JSON Lines, exports "
            "of Weights & Biases, folders of MLflow.",
            show_default=False,
        ),
    ],
    store: Annotated[Path, typer.Option(help="Where they are kept, apart from trials.")] = Path(
        "runs.db"
    ),
    loss: Annotated[
        str | None,
        typer.Option(help="The column or tag of the training loss. Default: a usual name."),
    ] = None,
    lr: Annotated[str | None, typer.Option(help="That of the learning rate.")] = None,
    validation: Annotated[str | None, typer.Option(help="That of the validation loss.")] = None,
    gradient_norm: Annotated[str | None, typer.Option(help="That of the gradient norm.")] = None,
    describe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What is known of the runs, such as optimizer=adamw. Repeatable.",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Keep the runs that other programs have logged; they never count as trials."""
    named = {"losses": loss, "rates": lr, "evaluations": validation}
    named["gradient_norms"] = gradient_norm
    columns = {name: column for name, column in named.items() if column is not None}
    with one_line_errors(ValueError, StoreError):
        found = import_logs(files, store, columns=columns, description=describe or ())
    show_text(found.as_json() if json else found.as_text(), json=json)
