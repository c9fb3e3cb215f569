"""Decision replay: what schedules would have decided on a recorded loss, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lrpilot.bench.replay.configured import configured_schedules
from lrpilot.bench.replay.recorded import Recording, read_losses
from lrpilot.schedules.decisions import DecisionLog
from lrpilot.schedules.explanation import Replay, describe, explain, replay

LABEL = (
    "decision replay: what these settings would have decided on this recorded loss; the loss "
    "itself would have been another had they decided"
)

# A page and a program take more decisions than a checkpoint or a screen.
DECISIONS = 1000

DEFAULT_SCHEDULE = "greedy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replays:
    """What several schedules would have decided on one recorded loss.

    lr: base rate; None speaks of scales instead of rates.
    """

    path: Path
    recording: Recording
    lr: float | None
    by_name: dict[str, Replay]


def replay_file(
    path: Path,
    schedules: Sequence[str] | None = None,
    settings: Sequence[str] | None = None,
    *,
    lr: float | None = None,
    column: str | None = None,
) -> Replays:
    """Replay named schedules on the losses in a file, each of which counts as one optimizer step.

    schedules: None is greedy alone.
    settings: see `configured_schedules`.
    column: see `read_losses`.

    Raises ValueError for whatever cannot be read, set or found.
    """
    if lr is not None and not 0 < lr < math.inf:
        raise ValueError(f"lr must be positive and finite, got {lr}; leave it out for scales")
    recording = read_losses(path, column)
    names = schedules or [DEFAULT_SCHEDULE]
    configured = configured_schedules(names, settings or (), len(recording.losses))
    found = {
        name: replay(schedule, recording.losses, lr or 1.0, last=DECISIONS)
        for name, schedule in configured.items()
    }
    return Replays(path=path, recording=recording, lr=lr, by_name=found)


def as_text(replays: Replays) -> list[str | Table]:
    """The label and the recording; then the decisions of one schedule, or a table of several."""
    named = [f"{name}: {found.schedule!r}" for name, found in replays.by_name.items()]
    head = "\n".join([LABEL, "", about(replays), *named, ""])
    if len(replays.by_name) > 1:
        return [head, _table(replays)]
    (found,) = replays.by_name.values()
    shown = shortened(found.log)
    return [head, explain(shown, base_lr=replays.lr, schedule=found.schedule)]


def as_json(replays: Replays) -> dict[str, Any]:
    """The same for programs, with up to `DECISIONS` decisions each."""
    return {
        "label": LABEL,
        "log": str(replays.path),
        "column": replays.recording.column,
        "losses": len(replays.recording.losses),
        "not_finite": replays.recording.not_finite,
        "base_lr": replays.lr,
        "schedules": [
            {
                "schedule": name,
                "settings": repr(found.schedule),
                "lowest_scale": min(found.scales),
                "highest_scale": max(found.scales),
                **log_as_json(found.log),
            }
            for name, found in replays.by_name.items()
        ],
    }


def log_as_json(log: DecisionLog) -> dict[str, Any]:
    """A decision log for programs: counts, and the decisions with their statistics by name."""
    return {
        "steps": log.steps,
        "scale": log.scale,
        "up": log.up,
        "down": log.down,
        "ignored": log.ignored,
        "dropped": log.dropped,
        "decisions": [
            {
                **decision._asdict(),
                "statistics": dict(decision.statistics),
                "words": describe(decision),
            }
            for decision in log.decisions
        ],
    }


def about(replays: Replays) -> str:
    """What was recorded, in a line."""
    losses, column = len(replays.recording.losses), replays.recording.column
    where = f" in the column {column}" if column else ""
    return (
        f"{replays.path}: {losses:,} loss{'es' * (losses > 1)}{where}, "
        f"{replays.recording.not_finite:,} of them not finite; each counts as one optimizer step"
    )


def shortened(log: DecisionLog) -> DecisionLog:
    """The log with as many decisions as a screen takes."""
    return DecisionLog.from_state(log.state_dict())


def first_move(log: DecisionLog) -> str:
    """The step of the first move that no plan made, or nothing."""
    moves = (str(one.step) for one in log.decisions if one.new != one.old and one.reason != "phase")
    return next(moves, "")


def _table(replays: Replays) -> Table:
    what = "scale" if replays.lr is None else "rate"
    table = Table(
        *("schedule", f"final {what}", "lowest", "highest"),
        *("up", "down", "first move", "ignored"),
        box=SIMPLE_HEAD,
    )
    for name, found in replays.by_name.items():
        log, scales = found.log, found.scales
        table.add_row(
            name,
            *(f"{found.base_lr * x:.4g}" for x in (scales[-1], min(scales), max(scales))),
            *(f"{log.up:,}", f"{log.down:,}", first_move(log), f"{log.ignored:,}"),
        )
    return table
