"""A run of another program, and how the columns of its log become one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lrpilot.schedules.checks import check_known

Series = list[tuple[int, float]]
"""(step, value), steps rising; the steps are as the log counts them."""

# The columns that are meant if none is named, in order of preference, in lower case and with
# whatever is neither letter nor digit as an underscore.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "losses": (
        *("loss", "train_loss", "training_loss", "loss_train", "train_loss_step", "loss_step"),
        *("batch_loss", "train_batch_loss"),
    ),
    "rates": (
        *("lr", "learning_rate", "train_lr", "train_learning_rate", "lr_adamw", "lr_sgd"),
        "lr_adam",
    ),
    "evaluations": (
        *("val_loss", "eval_loss", "validation_loss", "valid_loss", "loss_val", "loss_eval"),
        *("loss_validation", "loss_valid"),
    ),
    "gradient_norms": (
        *("grad_norm", "gradient_norm", "train_grad_norm", "train_gradient_norm"),
        *("total_grad_norm", "grad_norm_total"),
    ),
}
CHART = "W&B chart"

OPTIONS: Mapping[str, str] = {
    "losses": "--loss",
    "rates": "--lr",
    "evaluations": "--validation",
    "gradient_norms": "--gradient-norm",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What a log holds of one run, before it is said which column is what.

    kind: "table", "W&B history", "W&B chart", "TensorBoard" or "MLflow".
    columns: what there is. read: the values of one, in the order in which they were written.
    parameters: what the log says of the run.
    notes: what the user should know of the log.
    """

    name: str
    source: str
    kind: str
    columns: tuple[str, ...]
    read: Callable[[str], Series]
    parameters: Mapping[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRun:
    """A run that another program has logged; no trial, so that no claim and no query counts it.

    description: what is known of it. columns: what each series was called.
    series: "losses", and those of "rates", "evaluations" and "gradient_norms" that there are.
    """

    name: str
    source: str
    kind: str
    description: Mapping[str, str]
    columns: Mapping[str, str]
    series: Mapping[str, Series]

    @property
    def losses(self) -> Series:
        """Training losses."""
        return self.series["losses"]

    @property
    def steps(self) -> int:
        """The last step of a loss."""
        return self.losses[-1][0]


class Settled(NamedTuple):
    """A series in order. replaced: how many values a later one of the same step has replaced."""

    series: Series
    replaced: int


def past_run(
    logged: Logged, columns: Mapping[str, str], description: Mapping[str, str]
) -> tuple[PastRun, tuple[str, ...]]:
    """The run that a log holds, and what the user should know of it.

    columns: by series, those that the user has named; `KNOWN` has the others.

    Raises ValueError if it has no losses, or a column that was named is missing.
    """
    found = {name: _column(logged, name, columns.get(name)) for name in KNOWN}
    chosen = {name: column for name, column in found.items() if column is not None}
    if "losses" not in chosen:
        raise ValueError(
            f"{logged.source} has no column that is known to be a training loss; name one with "
            f"--loss (it has: {', '.join(logged.columns)})"
        )
    settled = {name: settle(logged.read(column)) for name, column in chosen.items()}
    if not settled["losses"].series:
        raise ValueError(f"the column {chosen['losses']!r} of {logged.source} has no values")
    notes = [
        f"{chosen[name]}: {one.replaced} values logged again for the same step; the last ones count"
        for name, one in settled.items()
        if one.replaced
    ]
    run = PastRun(
        name=logged.name,
        source=logged.source,
        kind=logged.kind,
        description={**logged.parameters, **description},
        columns={name: column for name, column in chosen.items() if settled[name].series},
        series={name: one.series for name, one in settled.items() if one.series},
    )
    return run, (*logged.notes, *notes)


def settle(pairs: Iterable[tuple[int, float]]) -> Settled:
    """In the order of the steps; of several values of a step the one written last.

    >>> settle([(1, 9.0), (2, 8.0), (3, 7.0), (2, 6.0)]).series  # resumed from step 2
    [(1, 9.0), (2, 6.0), (3, 7.0)]
    """
    found: dict[int, float] = {}
    count = 0
    for step, value in pairs:
        found[step] = value
        count += 1
    return Settled(sorted(found.items()), count - len(found))


def merged(logs: Sequence[Logged]) -> list[Logged]:
    """Logs of one W&B run as one, since an export of a chart has one column of each run."""
    found: dict[tuple[str, str], Logged] = {}
    for at, log in enumerate(logs):
        key = (log.name, CHART if log.kind == CHART else str(at))
        found[key] = _joined(found[key], log) if key in found else log
    return list(found.values())


def _joined(one: Logged, other: Logged) -> Logged:
    twice = set(one.columns) & set(other.columns)
    if twice:
        raise ValueError(
            f"{one.source} and {other.source} both have the column {min(twice)!r} of run "
            f"{one.name!r}; import one of them"
        )

    def read(column: str) -> Series:
        return (one if column in one.columns else other).read(column)

    return Logged(
        name=one.name,
        source=f"{one.source}, {other.source}",
        kind=one.kind,
        columns=one.columns + other.columns,
        read=read,
        parameters={**one.parameters, **other.parameters},
        notes=one.notes + other.notes,
    )


def _column(logged: Logged, series: str, asked: str | None) -> str | None:
    if asked is not None:
        try:
            check_known("column", asked, dict.fromkeys(logged.columns))
        except ValueError as error:
            raise ValueError(f"{logged.source}, {OPTIONS[series]}: {error}") from None
        return asked
    plain = {_plain(column): column for column in reversed(logged.columns)}
    return next((plain[name] for name in KNOWN[series] if name in plain), None)


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", column.lower()).strip("_")
