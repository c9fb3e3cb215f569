"""`lrpilot evaluate`: learned policies on problems that are held out, beside tuned schedules."""

from __future__ import annotations

import importlib
import json as json_format
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from lrpilot.cli.options import CORES, WorkersOption
from lrpilot.cli.terminal import STDERR, fail, one_line_errors, show_text
from lrpilot.schedules.checks import check_known
from lrpilot.schedules.learned.policy import Policy, load_policy


def evaluate(
    kind: Annotated[
        str, typer.Argument(help="What the policies are for: nmf or net.", show_default=False)
    ],
    policy: Annotated[
        list[str] | None,
        typer.Option(
            help="A shipped policy or a file, such as of one training seed. Repeatable; all need "
            "one base schedule. Default: the shipped one.",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="A held-out set. Repeatable. Default: all.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Where finished sets are kept; the same command goes on. "
            "Default: KIND-evaluation.jsonl."
        ),
    ] = None,
    rows: Annotated[
        Path | None, typer.Option(help="Show these result rows; nothing is run.")
    ] = None,
    save: Annotated[Path | None, typer.Option(help="Write the result rows there.")] = None,
    page: Annotated[Path | None, typer.Option(help="Write a page with pictures there.")] = None,
    workers: WorkersOption = CORES,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Judge policies on held-out problems, beside tuned schedules and controls."""
    try:
        judging = importlib.import_module("lrpilot.learning.evaluation.evaluated")
    except ModuleNotFoundError as error:
        fail(f"{error}; pip install 'lrpilot[learning,bench]'", code=2)
    with one_line_errors(ValueError, OSError, ModuleNotFoundError):
        check_known("kind of policies", kind, judging.SETS)
        if rows is not None:
            about, found = judging.load(rows)
            if found.kind != kind:
                raise ValueError(f"{rows} is of {found.kind} policies, not of {kind}")
        else:
            policies = named(policy or [kind])
            about = {
                "command": shlex.join(["lrpilot", *sys.argv[1:]]),
                **{f"policy {name}": described(one) for name, one in policies.items()},
            }
            found = judging.evaluate(
                kind,
                policies,
                store or Path(f"{kind}-evaluation.jsonl"),
                workers=workers,
                console=STDERR,
                sets=sets,
            )
        if save is not None:
            judging.save(save, found, about)
        if page is not None:
            judging.write_page(page, found, about)
    shown = [sheet.rich() for sheet in found.sheets()]
    show_text(json_format.loads(found.as_json()) if json else shown, json=json)


def named(sources: list[str]) -> dict[str, Policy]:
    """The policies by a short name of each: the file's, or the shipped name."""
    found = {Path(source).stem: load_policy(source) for source in sources}
    if len(found) < len(sources):
        raise ValueError(f"two of the policies {', '.join(sources)} have one name; rename a file")
    return found


def described(policy: Policy) -> str:
    """Its fingerprint and how it was trained."""
    about = ", ".join(f"{key} {value}" for key, value in sorted(policy.about.items()))
    return f"{policy.fingerprint} ({about})"
