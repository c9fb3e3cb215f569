"""`lrpilot ensemble`: several policies as one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrpilot.cli.terminal import fail, one_line_errors, show_text
from lrpilot.schedules import load_policy
from lrpilot.schedules.learned.ensemble import ensemble as made_of
from lrpilot.schedules.learned.policy import save_policy


def ensemble(
    policies: Annotated[
        list[str], typer.Argument(help="Shipped policies or files.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="The new policy's file.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Make one policy of several, as of some seeds of a training: it does the mean of theirs."""
    if len(policies) < 2:
        fail(f"an ensemble needs two policies or more, got {len(policies)}", code=2)
    with one_line_errors(ValueError, OSError):
        found = made_of(out.stem, [load_policy(one) for one in policies])
        save_policy(found, out)
    units = sum(bias.size for bias in found.biases[:-1])
    text = f"{out}: the mean of {len(policies)} policies, with {units} hidden units"
    about = {"path": str(out), "policies": policies, "units": units}
    show_text(about if json else [text], json=json)
