"""The rates that an open-loop schedule will yield, without an optimizer and without training."""

from __future__ import annotations

import math
from typing import Any

from lrpilot.schedules.checks import check_count, check_number
from lrpilot.schedules.phases import Phases
from lrpilot.schedules.protocol import Schedule, Signal
from lrpilot.schedules.spans import is_schedule


def preview(
    schedule: Schedule[Any],
    n: int,
    *,
    epochs: float = 0.0,
    tokens: float = 0.0,
    samples: float = 0.0,
    seconds: float = 0.0,
) -> list[float]:
    """The scales of the first ``n`` optimizer steps, as multiples of the base rate.

    epochs, tokens, samples, seconds: how much of each a step consumes; those that the schedule
        counts must be given.

    Raises ValueError if the loss decides, naming the part that it decides.

    >>> from lrpilot.schedules import Cosine, OpenLoop
    >>> [round(scale, 3) for scale in preview(OpenLoop(Cosine(), total_steps=4), 5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]
    """
    check_count("n", n, least=1, cure="it counts optimizer steps")
    signal = Signal(epochs=epochs, tokens=tokens, samples=samples, seconds=seconds)
    _check_needs(schedule, signal)
    state = schedule.init()
    scales = [state.scale]
    for _ in range(n - 1):
        state = schedule.update(state, signal)
        scales.append(state.scale)
    return scales


def lr_at(
    schedule: Schedule[Any],
    t: int,
    base_lr: float,
    *,
    epochs: float = 0.0,
    tokens: float = 0.0,
    samples: float = 0.0,
    seconds: float = 0.0,
) -> float:
    """The rate of optimizer step ``t``, counted from 0, of a group whose base rate is ``base_lr``.

    It steps through all before ``t``; for many of them `preview` is quicker. Else as `preview`.

    >>> from lrpilot.schedules import Linear, OpenLoop
    >>> lr_at(OpenLoop(Linear(), total_steps=4), 3, base_lr=0.5)
    0.125
    """
    check_count("t", t, least=0, cure="0 is the first step")
    check_number("base_lr", base_lr)
    if not 0 <= base_lr < math.inf:
        raise ValueError(f"base_lr must be finite and not negative, got {base_lr}")
    scales = preview(
        schedule, t + 1, epochs=epochs, tokens=tokens, samples=samples, seconds=seconds
    )
    return base_lr * scales[-1]


def _check_needs(schedule: Schedule[Any], signal: Signal) -> None:
    if not is_schedule(schedule):
        raise TypeError(
            f"preview needs a schedule such as OpenLoop(Cosine(), total_steps=1000), "
            f"got {schedule!r}"
        )
    for name in schedule.needs:
        if name not in Signal._fields[1:]:
            raise ValueError(
                f"{_decided_by(schedule, name)} decides from the {name}, so nobody knows its rates "
                f"before training; put phase(Constant(), ...) in its place to see the rest"
            )
        if getattr(signal, name) <= 0:
            raise ValueError(
                f"the schedule counts {name}; say how much a step consumes, such as {name}=..."
            )


def _decided_by(schedule: Schedule[Any], name: str) -> str:
    if isinstance(schedule, Phases):
        for at, one in enumerate(schedule.phases):
            if name in one.needs:
                return f"phase {at + 1} of {len(schedule.phases)}, {one.content!r},"
    return repr(schedule)
