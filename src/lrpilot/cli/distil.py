"""`lrpilot distil`: a policy in settings of GreedyLR."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated

import typer

from lrpilot.cli.terminal import STDERR, fail, one_line_errors, show_text
from lrpilot.learning.budget import seconds_of
from lrpilot.schedules import load_policy

if TYPE_CHECKING:
    from lrpilot.learning.distil import Generation


def distil(
    policy: Annotated[
        str, typer.Argument(help="A shipped policy, net or nmf, or a file.", show_default=False)
    ],
    kind: Annotated[
        str | None, typer.Option(help="What it is for: nmf or net. Default: as it says itself.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Time for the fit, such as 60s or 10m; validation comes on top.")
    ] = "5m",
    generations: Annotated[
        int | None,
        typer.Option(min=1, help="End after so many, for an answer that can be repeated exactly."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of problems and of the fit.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Fit GreedyLR's settings to do what a policy does, and say what is lost by it."""
    try:
        learner = importlib.import_module("lrpilot.learning.distil")
    except ModuleNotFoundError as error:
        fail(f"{error}; pip install 'lrpilot[learning]'", code=2)
    with one_line_errors():
        found = learner.distil(
            load_policy(policy),
            kind=kind,
            seconds=seconds_of(budget),
            generations=generations,
            seed=seed,
            report=tell,
        )
    show_text(found.as_json() if json else found.as_text(), json=json)


def tell(one: Generation, seconds: float) -> None:
    """A line for each generation."""
    line = f"generation {one.number}, {seconds:.0f} s: {one.gap:+.3f} (ln of the loss over the "
    STDERR.print(f"{line}policy's, median of the settings tried)", highlight=False)
