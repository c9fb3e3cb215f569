"""`lrpilot train`: a policy by reinforcement learning or evolution."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lrpilot.bench.runs import check_store
from lrpilot.bench.store import StoreError
from lrpilot.cli.terminal import STDERR, fail, one_line_errors, show_text
from lrpilot.learning.budget import seconds_of

if TYPE_CHECKING:
    from lrpilot.learning.train import Round


def train(
    kind: Annotated[
        str,
        typer.Argument(help="What the policy is for: nmf or net.", show_default=False),
    ],
    budget: Annotated[
        str,
        typer.Option(help="Time for this call, such as 60s or 10m; the same command goes on."),
    ] = "10m",
    out: Annotated[
        Path | None, typer.Option(help="The policy's file. Default: KIND.safetensors.")
    ] = None,
    method: Annotated[str, typer.Option(help="ppo, or cma (evolution).")] = "ppo",
    hidden: Annotated[
        list[int] | None,
        typer.Option(help="Units of a hidden layer. Repeatable. Default: 32; cma: none."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of problems and of the learner.")] = 0,
    imitate: Annotated[
        Path | None, typer.Option(help="A store: let PPO begin by imitating its best runs.")
    ] = None,
    logs: Annotated[Path | None, typer.Option(help="Folder for TensorBoard.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Train a policy, for `--schedule learned:FILE`; the best one by validation is kept."""
    try:
        learner = importlib.import_module("lrpilot.learning.train")
    except ModuleNotFoundError as error:
        fail(f"{error}; pip install 'lrpilot[learning]'", code=2)
    with one_line_errors(ValueError, OSError, StoreError):
        if imitate is not None:
            check_store(imitate)
        ended = learner.train(
            learner.Training(
                kind=kind,
                method=method,
                hidden=tuple(hidden or ([32] if method == "ppo" else [])),
                seed=seed,
                seconds=seconds_of(budget),
                every=5 if method == "ppo" else 10,
                imitate=imitate,
            ),
            out or Path(f"{kind}.safetensors"),
            tell,
            fresh=fresh,
            logs=logs,
        )
    found = ended._asdict() | {"path": str(ended.path)}
    text = (
        f"{ended.path}: on validation problems a run ends at {ended.ratio:.3f} of what the base "
        f"schedule leaves (geometric mean; the untrained policy is 1), after {ended.rounds} rounds "
        f"and {ended.seconds:.0f} s; {ended.stopped}"
    )
    show_text(found if json else [text], json=json)


def tell(one: Round) -> None:
    """A line for each validation, for the first round, and for every fifth lesson."""
    if one.found is not None:
        line = f"round {one.number}, {one.seconds:.0f} s: validation {one.found.gain:+.3f} (best "
        line += f"{one.best:+.3f}; ln of the loss over the base's), {one.found.lost} runs lost"
        STDERR.print(line, highlight=False)
    elif one.lesson and one.lesson % 5 == 0:
        STDERR.print(f"lesson {one.lesson}, {one.seconds:.0f} s", highlight=False)
    elif one.number == 1:
        STDERR.print(f"round 1, {one.seconds:.0f} s", highlight=False)
