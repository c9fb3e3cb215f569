"""What the checkpoint of a scheduler holds: strict JSON-able data, checked when it is read."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard, cast

from lrpilot.schedules import Schedule, pack, unpack
from lrpilot.schedules.decisions import DecisionLog
from lrpilot.torch.losses import NOTHING, Landed, Losses

STATE_VERSION = 2
TRIAL_CALLS = 1000
"""Calls without an optimizer step in sight after which each is a step for good."""


class Trial(NamedTuple):
    """What came before calls that counted as steps, in case they were micro-batches."""

    state: Any
    steps: int
    log: dict[str, Any]
    losses: Losses = NOTHING  # of those calls
    calls: int = 0

    def after(self, losses: Losses) -> Trial | None:
        """The trial after one more call; None once there is no going back."""
        more = self._replace(losses=self.losses.plus(losses), calls=self.calls + 1)
        return more if more.calls < TRIAL_CALLS else None


class Saved(NamedTuple):
    """A scheduler without its settings."""

    state: Any
    steps: int
    initial_lrs: list[float]
    base_lrs: list[float]
    lrs: list[float]
    lag: int | None
    is_seen: bool  # an optimizer step has been
    is_due: bool  # one awaits its observation
    is_skipped: bool  # and was skipped
    pending: Losses
    carried: Losses
    in_flight: list[Landed]
    trial: Trial | None
    log: DecisionLog
    windows: dict[str, Any] | None = None


def to_data(schedule: Schedule[Any], saved: Saved) -> dict[str, Any]:
    """The checkpoint of a scheduler over ``schedule``."""
    trial = saved.trial
    return {
        "version": STATE_VERSION,
        "schedule": type(schedule).__name__,
        "settings": fingerprint(schedule),
        **saved._asdict(),
        "state": pack(saved.state),
        "pending": saved.pending.pack(),
        "carried": saved.carried.pack(),
        "in_flight": [[*losses.pack(), is_skipped] for losses, is_skipped in saved.in_flight],
        "trial": trial
        and trial._asdict() | {"state": pack(trial.state), "losses": trial.losses.pack()},
        "log": saved.log.state_dict(),
    }


def from_data(schedule: Schedule[Any], data: object) -> Saved:
    """What ``to_data`` wrote. Raises ValueError if it is another schedule's, or damaged."""
    name = type(schedule).__name__
    if not isinstance(data, Mapping):
        raise ValueError(f"this is not a scheduler's state: {data!r}")
    data = cast("Mapping[str, Any]", data)
    if data.get("version") != STATE_VERSION or data.get("schedule") != name:
        raise ValueError(
            f"this is not a version {STATE_VERSION} state of a scheduler over {name}: it has "
            f"version {data.get('version')!r} and schedule {data.get('schedule')!r}; load what the "
            f"same scheduler saved"
        )
    state = unpack(schedule, data.get("state", {}))
    fields = [field for field in Saved._fields if field in data]
    missing = set(Saved._fields).difference(fields, Saved._field_defaults)
    if missing:
        raise ValueError(f"the state is damaged: it has no {', '.join(sorted(missing))}")
    saved = Saved(**{field: data[field] for field in fields})
    sound = {
        "steps": _is_count(saved.steps, least=-1),
        "lag": saved.lag is None or _is_count(saved.lag),
        "in_flight": isinstance(data["in_flight"], list),
        "windows": isinstance(data.get("windows"), dict | None),
        **{at: _are_rates(getattr(saved, at)) for at in ("initial_lrs", "base_lrs", "lrs")},
        **{at: isinstance(getattr(saved, at), bool) for at in Saved._fields if at[:3] == "is_"},
    }
    for field, is_sound in sound.items():
        if not is_sound:
            raise ValueError(f"the state is damaged: {field} is {data.get(field)!r}")
    if not len(saved.initial_lrs) == len(saved.base_lrs) == len(saved.lrs):
        raise ValueError("the state is damaged: it has rates of different numbers of groups")
    return saved._replace(
        state=state,
        pending=Losses.unpack(saved.pending),
        carried=Losses.unpack(saved.carried),
        in_flight=[_landed(one) for one in cast("list[object]", saved.in_flight)],
        trial=None if saved.trial is None else _trial(schedule, saved.trial),
        log=DecisionLog.from_state(cast("Mapping[str, Any]", saved.log)),
    )


def warn_of_changes(
    schedule: Schedule[Any], initial_lrs: list[float], data: Mapping[str, Any], saved: Saved
) -> None:
    """Say aloud what the code has now and had otherwise when the state was saved."""
    warn_of_settings(schedule, data, stacklevel=4)
    if saved.initial_lrs != initial_lrs:
        warnings.warn(
            f"the saved base rates {saved.initial_lrs} differ from this optimizer's {initial_lrs}; "
            f"keeping the latter",
            stacklevel=3,
        )


def warn_of_settings(
    schedule: Schedule[Any], data: Mapping[str, Any], *, stacklevel: int = 3
) -> None:
    """Say aloud that the settings in the code win over others that the state was saved under."""
    if data.get("settings") != fingerprint(schedule):
        message = f"the state was saved under other settings than {schedule!r}; keeping the latter"
        if "total" in repr(schedule):
            message += "; for another horizon, load under the one that was, then call extend"
        warnings.warn(message, stacklevel=stacklevel)


def fingerprint(schedule: Schedule[Any]) -> str:
    """A hash of the settings; the address in a function's repr is not one of them."""
    settings = re.sub(r" at 0x[0-9a-f]+", "", repr(schedule))
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _landed(data: object) -> Landed:
    match data:
        case [*losses, bool(is_skipped)]:
            return Landed(Losses.unpack(losses), is_skipped)
        case _:
            raise ValueError(f"the state is damaged: {data!r} are no losses")


def _trial(schedule: Schedule[Any], data: Any) -> Trial:
    if not isinstance(data, Mapping) or set(cast("Mapping[str, Any]", data)) != set(Trial._fields):
        raise ValueError(f"the state is damaged: trial is {data!r}")
    trial = Trial(**data)
    if not _is_count(trial.steps) or not _is_count(trial.calls):
        raise ValueError(f"the state is damaged: trial is {data!r}")
    DecisionLog.from_state(trial.log)
    state = unpack(schedule, trial.state)
    return trial._replace(state=state, losses=Losses.unpack(trial.losses))


def _is_count(value: object, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _are_rates(values: object) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(
        isinstance(value, float) and math.isfinite(value) for value in cast("list[object]", values)
    )
