"""Why the rate moved in a run that is over: from a checkpoint, or from a store of trials."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lrpilot.bench.comparison.plan import NOMINAL_STEPS
from lrpilot.bench.replay.replay import DECISIONS, first_move, log_as_json, shortened
from lrpilot.bench.runs import Where, counts, finals
from lrpilot.bench.store import Store, StoreError
from lrpilot.bench.trial import Outcome, Trial
from lrpilot.schedules import Schedule, Signal, named_schedule
from lrpilot.schedules.checks import check_known
from lrpilot.schedules.decisions import DecisionLog, is_number
from lrpilot.schedules.explanation import Replay, explain, replay
from lrpilot.torch.windows import reads_windows

SQLITE = b"SQLite format 3\0"
TORCH = (b"PK", b"\x80")  # a zip archive since torch 1.6, a bare pickle before

# What a scheduler's state has; a checkpoint is searched for dictionaries with these.
SCHEDULER_FIELDS = {"version", "schedule", "settings", "state", "steps", "base_lrs"}


class Filters(NamedTuple):
    """Which trials of a store; None takes all."""

    task: str | None = None
    optimizer: str | None = None
    schedule: str | None = None
    seed: int | None = None
    lr: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """One scheduler's decisions, and what else there is to say about them.

    name: what it is, as columns of a table and their values.
    schedule: None where only its name is known, as in a checkpoint.
    differs: the first step at which replayed rates are not those of the run, if there is one.
    replayed: whether there were losses to replay.
    """

    name: dict[str, object]
    base_lr: float
    log: DecisionLog
    schedule: Schedule[Any] | None = None
    differs: int | None = None
    replayed: bool = True
    note: str = ""


def explain_file(path: Path, filters: Filters) -> list[Explained]:
    """The decisions in the file at ``path``.

    That is a file of ``torch.save`` or JSON with the states of schedulers anywhere in it, or a
    store of ``lrpilot compare``, whose trials are replayed under their own schedules. No code in
    the file is run.

    Raises ValueError if there is no decision log to be found, or it is damaged.
    """
    if path.is_dir():
        names = ", ".join(sorted(item.name for item in path.iterdir() if item.is_file())[:10])
        raise ValueError(f"{path} is a folder; name a file in it ({names or 'it has none'})")
    try:
        with path.open("rb") as file:
            head = file.read(len(SQLITE))
    except OSError as error:  # whose text has the path once more
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if head == SQLITE:
        return list(_from_store(path, filters))
    if any(choice is not None for choice in filters):
        raise ValueError(f"{path} is no store of trials, so there is nothing to choose from it")
    content = _loaded(path, head) if head.startswith(TORCH) else _parsed(path)
    found = [_from_state(where, state) for where, state in _states(content)]
    if not found:
        raise ValueError(f"there is no state of an lrpilot scheduler in {path}")
    return found


def as_text(found: Sequence[Explained]) -> list[str | Table]:
    """Each in full; of several trials, a line each."""
    if len(found) > 1 and all(one.schedule is not None for one in found):
        return [_table(found)]
    return [f"{_full(one)}\n" for one in found]


def as_json(found: Sequence[Explained]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            **one.name,
            "base_lr": one.base_lr,
            "note": one.note,
            "differs": one.differs,
            **log_as_json(one.log),
        }
        for one in found
    ]


def _full(one: Explained) -> str:
    title = ", ".join(f"{name} {value}" for name, value in one.name.items() if value != "")
    text = explain(shortened(one.log), base_lr=one.base_lr, schedule=one.schedule)
    return "\n".join([title, *([one.note] if one.note else []), "", text])


def _table(found: Sequence[Explained]) -> Table:
    names = list(found[0].name)
    counts = ("up", "down", "first move", "ignored", "replayed rates")
    table = Table(*names, *counts, box=SIMPLE_HEAD)
    for one in found:
        log = one.log
        moves = (f"{log.up:,}", f"{log.down:,}", first_move(log), f"{log.ignored:,}")
        rates = "equal" if one.differs is None else f"differ from step {one.differs}"
        rates = rates if one.replayed else "losses not stored"
        table.add_row(*(str(one.name[name]) for name in names), *moves, rates)
    return table


# Checkpoints


def _loaded(path: Path, head: bytes) -> object:
    try:
        # Mapped, since beside the scheduler there may be gigabytes of weights.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=head[:2] == b"PK")
    except Exception:  # torch raises a dozen kinds for files that are not its own
        raise ValueError(
            f"cannot read {path}: it is damaged, or holds objects that only running its code would "
            f"bring back; save scheduler.state_dict() to a file of its own"
        ) from None


def _parsed(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise ValueError(
            f"{path} is no checkpoint: neither JSON, nor a file of torch.save, nor a store of "
            f"lrpilot compare"
        ) from None


def _states(content: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, state) of every scheduler's state inside ``content``, in order."""
    pending, seen = [("", content)], set[int]()
    while pending:
        where, value = pending.pop()
        if id(value) in seen:
            continue
        items: list[tuple[object, object]] = []
        if isinstance(value, Mapping):
            mapping = cast("Mapping[str, Any]", value)
            if mapping.keys() >= SCHEDULER_FIELDS:
                yield where, mapping
                continue
            items = list(mapping.items())
        elif isinstance(value, (list, tuple)):
            items = list(enumerate(cast("Sequence[object]", value)))
        if items:
            seen.add(id(value))
        pending += [(f"{where}.{name}".strip("."), item) for name, item in reversed(items)]


def _from_state(where: str, state: Mapping[str, Any]) -> Explained:
    schedule, steps, base_lrs = state["schedule"], state["steps"], state["base_lrs"]
    lrs = cast("list[object]", base_lrs) if isinstance(base_lrs, list) else []
    if not lrs or not all(map(is_number, lrs)) or type(steps) is not int:
        raise ValueError(
            f"the scheduler's state {where} is damaged: steps is {steps!r}, base_lrs {base_lrs!r}"
        )
    name: dict[str, object] = {"state": where, "schedule": schedule, "steps": steps}
    name["base rates" if len(lrs) > 1 else "base rate"] = ", ".join(f"{lr:g}" for lr in lrs)
    note = "rates are those of the first parameter group" if len(lrs) > 1 else ""
    if "log" not in state:
        log, note = DecisionLog(), "it was saved without a decision log"
    else:
        try:
            log = DecisionLog.from_state(state["log"])
        except ValueError as error:
            raise ValueError(f"the scheduler's state {where}: {error}") from None
    return Explained(
        name=name, base_lr=cast("float", lrs[0]), log=log.up_to(max(steps, 0)), note=note
    )


# Stores


def _from_store(path: Path, filters: Filters) -> Iterator[Explained]:
    try:
        with Store(path) as store:
            for trial, outcome in store.outcomes(_chosen(store, filters, path)):
                yield _replayed(trial, outcome)
    except StoreError as error:
        raise ValueError(str(error)) from None


def _chosen(store: Store, filters: Filters, path: Path) -> list[Trial]:
    cells = counts(store)
    if not cells and store.outdated():
        raise ValueError(
            f"{path} has trials of another version of lrpilot, whose curves this one does not "
            f"read; run the comparison again"
        )
    for name in ("task", "optimizer", "schedule"):
        choice = getattr(filters, name)
        if choice is not None:
            check_known(name, choice, dict.fromkeys(getattr(cell, name) for cell in cells))
    chosen = [final.trial for final in finals(store, Where(**filters._asdict()))]
    if not chosen:
        seeds = (str(seed) for (seed,) in store.select("SELECT DISTINCT seed FROM rows ORDER BY 1"))
        lrs = (f"{lr:g}" for (lr,) in store.select("SELECT DISTINCT lr FROM rows ORDER BY 1"))
        raise ValueError(
            f"{path} has no such trial; its seeds are {', '.join(seeds)} and its base rates "
            f"{', '.join(lrs)}"
        )
    return chosen


def _replayed(trial: Trial, outcome: Outcome) -> Explained:
    """The trial's own schedule on its own losses, and whether that yields the rates it had."""
    # A training function sets its horizon itself: the steps asked for, or those it took.
    horizons = dict.fromkeys(filter(None, (trial.total_steps, len(outcome.losses))))
    tried: list[tuple[float, Replay]] = []
    for total_steps in horizons or [1]:
        schedule = named_schedule(trial.schedule, total_steps, trial.lr)
        found = replay(schedule, _signals(outcome), trial.lr, last=DECISIONS)
        tried.append((_first_difference(found.rates, outcome.rates), found))
    differs, found = max(tried, key=lambda one: one[0])
    return Explained(
        name={
            "task": trial.task,
            "optimizer": trial.optimizer,
            "schedule": trial.schedule,
            "seed": trial.seed,
            "lr": trial.lr,
            "status": outcome.status,
        },
        base_lr=trial.lr,
        log=found.log,
        schedule=found.schedule,
        differs=None if math.isinf(differs) else int(differs),
        replayed=_has_curves(outcome),
        note=_verdict(trial, outcome, found, differs),
    )


def _has_curves(outcome: Outcome) -> bool:
    return bool(outcome.losses) or outcome.status == "failed"


def _signals(outcome: Outcome) -> list[Signal]:
    """What the schedule was shown, step by step."""
    evaluations = dict(outcome.evaluations)
    return [
        Signal(loss, evaluation=evaluations.get(step, math.nan))
        for step, loss in enumerate(outcome.losses, start=1)
    ]


def _first_difference(replayed: Sequence[float], stored: Sequence[float]) -> float:
    """The step, counted from 1, at which the rates first differ; infinity if they never do."""
    single = array("f", replayed)  # as they are stored
    pairs = enumerate(zip(single, stored, strict=True), start=1)
    return next((step for step, (ours, theirs) in pairs if ours != theirs), math.inf)


def _verdict(trial: Trial, outcome: Outcome, found: Replay, differs: float) -> str:
    if not _has_curves(outcome):
        return "no decision replay: the trial was stored without its losses, as a suite's are"
    what = "decision replay of its own schedule on its own losses"
    if math.isinf(differs):
        return f"{what}: the replayed rates equal all {len(outcome.rates):,} stored ones"
    total_steps = trial.total_steps or NOMINAL_STEPS
    schedule = named_schedule(trial.schedule, total_steps, trial.lr)
    if reads_windows(schedule.needs):
        why = "the schedule read gradients or weights too, which are not stored"
    elif trial.settings == repr(schedule):
        why = (
            "the training set its rates itself, or its schedule saw more losses than are stored, "
            "or saw them later, as it does those of a device"
        )
    else:
        why = f"the trial ran under {trial.settings}, and this is {found.schedule!r}"
    step = int(differs)
    return (
        f"{what}, NOT what happened: from step {step:,} on the replayed rates differ from the "
        f"stored ones ({found.rates[step - 1]:.6g} for {outcome.rates[step - 1]:.6g}); {why}"
    )
