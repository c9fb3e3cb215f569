"""Options that several commands have."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from lrpilot.bench.engines.engine import ENGINES


def cores() -> int:
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(affinity(0)) if affinity else os.cpu_count() or 1


CORES = cores()
WorkersOption = Annotated[
    int,
    typer.Option(
        min=1, help="Processes, one thread each. Default: one per core.", show_default=False
    ),
]
EngineOption = Annotated[str, typer.Option(help=f"Where trials run: {' or '.join(ENGINES)}.")]
AddressOption = Annotated[
    str | None,
    typer.Option(help="Of the Ray cluster, HOST:PORT. Default: Ray is started on this machine."),
]
TimeLimitOption = Annotated[
    float | None,
    typer.Option(help="Seconds that a trial may take; one that takes longer has failed."),
]
