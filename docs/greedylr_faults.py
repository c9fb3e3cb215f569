"""The published faults of ``transformers.GreedyLR``, each run on both classes.

``faults()`` gives the rows of the table in docs/greedylr.md; docs/generate.py writes it there, and
a test fails if a row is stale. Needs the `dev` extra.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR
from transformers.optimization import GreedyLR as Theirs

from lrpilot import Greedy, cooldown, warmup
from lrpilot.torch import GreedyLR as Ours
from lrpilot.torch import ScheduledLR

NAN = math.nan
RISING = [float(n) for n in range(1, 51)]
LEVEL = [10.0] * 50
FALLING = [9 - n / 100 for n in range(50)]
# The same alertness for both: the plain test, moves at once, no smoothing.
ALERT = {"test": "threshold", "patience": 0, "window": 1}


class Fault(NamedTuple):
    """One row: what is wrong, what theirs does, what ours does."""

    fault: str
    theirs: str
    ours: str


def faults() -> list[Fault]:
    """Every row, measured now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of orders of calls that the rows are about
        torch.manual_seed(0)
        return [Fault(name, str(theirs()), str(ours())) for name, theirs, ours in ROWS]


def sgd(*lrs: float | torch.Tensor) -> optim.SGD:
    return optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in lrs])


def rates(optimizer: optim.Optimizer) -> str:
    return " : ".join(f"{float(group['lr']):.3g}" for group in optimizer.param_groups)


def fed(scheduler, losses: Sequence[float]) -> str:
    """The rates after the losses, one optimizer step each."""
    for loss in losses:
        scheduler.optimizer.step()
        scheduler.step(loss)
    return rates(scheduler.optimizer)


def theirs(losses: Sequence[float], *lrs: float, **settings) -> str:
    return fed(Theirs(sgd(*lrs), **({"patience": 0} | settings)), losses)


def ours(losses: Sequence[float], *lrs: float, **settings) -> str:
    return fed(Ours(sgd(*lrs), **(ALERT | settings)), losses)


def moves(scheduler, losses: Sequence[float]) -> str:
    seen = [fed(scheduler, [loss]) for loss in losses]
    return f"{sum(now != before for before, now in pairwise(seen))} moves"


def attempt(act: Callable[[], object]) -> str:
    """What comes out, or the error in a few words."""
    try:
        return str(act())
    except Exception as error:
        return f"{type(error).__name__}: {re.split('[;:]', str(error))[0].strip()}"


def with_a_group_added(make) -> str:
    optimizer = sgd(0.1)
    scheduler = make(optimizer)
    fed(scheduler, [9.0, 8.0])
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.001})
    return attempt(lambda: fed(scheduler, [7.0]))


def with_a_tensor_rate(make) -> str:
    rate = torch.tensor(0.1)
    optimizer = optim.Adam([nn.Parameter(torch.zeros(1))], lr=rate)
    fed(make(optimizer), [1.0, 2.0])
    lr = optimizer.param_groups[0]["lr"]
    return "written in place" if lr is rate else f"replaced by a {type(lr).__name__}"


def after_a_linear_warmup(make) -> str:
    def run() -> str:
        optimizer = sgd(0.1)
        linear = LinearLR(optimizer, start_factor=0.1, total_iters=3)
        scheduler = make(optimizer)
        both = SequentialLR(optimizer, [linear, scheduler], milestones=[3])
        for loss in FALLING[:5]:
            optimizer.step()
            if hasattr(scheduler, "observe"):
                scheduler.observe(loss)
            both.step()
        return rates(optimizer)

    return attempt(run)


def beside_a_cosine(make) -> str:
    """Ours sets the rate and heeds one that somebody else sets; it does not feed on it."""
    optimizer = sgd(0.1)
    scheduler, cosine = make(optimizer), CosineAnnealingLR(optimizer, 100)
    for loss in FALLING[:6]:
        optimizer.step()
        scheduler.step(loss)
        cosine.step()
    return rates(optimizer)


def scores(make) -> str:
    return fed(make(sgd(0.01)), [0.5 + n / 100 for n in range(30)])


def state_text(scheduler) -> str:
    text = json.dumps(scheduler.state_dict(), default=str)
    return "has Infinity" if "Infinity" in text else "strict JSON"


def load(make, state) -> str:
    return attempt(lambda: make(sgd(0.1, 0.01)).load_state_dict(state) or "accepted")


def settings_after_resume(make_saved, make_resumed) -> str:
    saved, resumed = make_saved(sgd(0.1)), make_resumed(sgd(0.1))
    resumed.load_state_dict(saved.state_dict())
    patience = getattr(resumed, "patience", None)
    return f"patience {resumed.schedule.patience if patience is None else patience}"


def lightning_and_accelerate(cls) -> str:
    return "an LRScheduler" if issubclass(cls, LRScheduler) else "not an LRScheduler: refused"


def untouched_by_noise(scheduler) -> str:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5000, generator=generator).tolist()
    return fed(scheduler, noise)


def warmed_up() -> str:
    schedule = warmup(10) >> Greedy() >> cooldown(10)
    optimizer = sgd(0.1)
    scheduler = ScheduledLR(optimizer, schedule)
    return f"{rates(optimizer)} … {fed(scheduler, FALLING[:10])}"


def ten_records_and_a_tie() -> list[float]:
    """A loss that falls from 100 to almost 0, with a tie after every ten records."""
    loss, losses = 100.0, []
    for _ in range(200):
        for _ in range(10):
            loss *= 0.99
            losses.append(loss)
        losses.append(loss)
    return losses


def jump_of_a_reset() -> str:
    scheduler = Theirs(sgd(0.1), patience=0, factor=0.5, min_lr=0.01, reset_start=5)
    series = []
    for loss in [1.0] + [2.0] * 20:
        scheduler.step(loss)
        series.append(scheduler.optimizer.param_groups[0]["lr"])
    at = max(range(1, len(series)), key=lambda k: series[k] - series[k - 1])
    return f"{series[at - 1]:.3g}, {series[at]:.3g}"


ROWS: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
    (
        "absolute floor of 1e-3: a rate of 5e-5 can only rise (50 losses without improvement)",
        lambda: theirs(LEVEL, 5e-5),
        lambda: ours(LEVEL, 5e-5),
    ),
    (
        "the same, then 50 that improve",
        lambda: theirs(LEVEL + FALLING, 5e-5),
        lambda: ours(LEVEL + FALLING, 5e-5),
    ),
    (
        "absolute eps of 1e-8: a rate of 2e-5 is stuck far above its floor of 1e-9",
        lambda: theirs(RISING * 100, 2e-5, factor=0.99, min_lr=1e-9),
        lambda: ours(RISING * 100, 2e-5, factor=0.99, min_scale=5e-5),
    ),
    (
        "`warmup=3` freezes the rate after a raise, where it should continue the raise",
        lambda: theirs([9.0, 8, 9, 9, 9], 0.1, factor=0.5, warmup=3, min_lr=1e-6),
        lambda: ours([9.0, 8, 9, 9, 9], 0.1, factor=0.5, warmup=3),
    ),
    (
        "the first loss counts as an improvement",
        lambda: theirs([123.0], 0.1, factor=0.5),
        lambda: ours([123.0], 0.1, factor=0.5),
    ),
    (
        "blind to records during cooldown: 1.0 was seen, and 4.0 then raises",
        lambda: theirs([5.0, 10, 1, 1, 1, 4], 0.1, cooldown=3, factor=0.5, min_lr=1e-6),
        lambda: ours([5.0, 10, 1, 1, 4], 0.1, cooldown=2, factor=0.5, min_scale=1e-3),
    ),
    (
        "30 NaN lower the rate without a word",
        lambda: theirs([1.0] + [NAN] * 30, 0.1, factor=0.8, min_lr=1e-6),
        lambda: ours([1.0] + [NAN] * 30, 0.1, factor=0.8),
    ),
    (
        "one NaN in the window: 200 improvements end at the floor",
        lambda: theirs(
            [1.0, NAN] + FALLING * 4, 0.1, smooth=True, window_size=5, factor=0.5, min_lr=1e-6
        ),
        lambda: ours([1.0, NAN, *[9 - n / 100 for n in range(200)]], 0.1, window=5, factor=0.5),
    ),
    (
        "relative threshold and a negative loss: -100 rising to -92 is taken for an improvement",
        lambda: theirs(
            [-100 * 0.991**n for n in range(10)],
            *(0.1,),
            threshold_mode="rel",
            threshold=0.01,
            factor=0.5,
        ),
        lambda: ours([-100 * 0.991**n for n in range(10)], 0.1, threshold=0.01, factor=0.5),
    ),
    (
        "absolute threshold: a loss of 1e-5 that falls by 5 % a step is no improvement",
        lambda: theirs([1e-5 * 0.95**n for n in range(50)], 0.1, factor=0.9, min_lr=1e-6),
        lambda: ours([1e-5 * 0.95**n for n in range(50)], 0.1, factor=0.9),
    ),
    (
        "ten records and a tie, 200 times over, patience 10: never acts",
        lambda: moves(Theirs(sgd(0.1), threshold=0.0), ten_records_and_a_tie()),
        lambda: moves(Ours(sgd(0.1)), ten_records_and_a_tie()),
    ),
    (
        "noise alone, 5,000 losses, default settings",
        lambda: untouched_by_noise(Theirs(sgd(0.1), min_lr=1e-5)),
        lambda: untouched_by_noise(Ours(sgd(0.1))),
    ),
    (
        "factor -0.5",
        lambda: attempt(lambda: Theirs(sgd(0.1), factor=-0.5) and "accepted"),
        lambda: attempt(lambda: Ours(sgd(0.1), factor=-0.5) and "accepted"),
    ),
    (
        "patience -1",
        lambda: attempt(lambda: Theirs(sgd(0.1), patience=-1) and "accepted"),
        lambda: attempt(lambda: Ours(sgd(0.1), patience=-1) and "accepted"),
    ),
    (
        "floor above ceiling",
        lambda: attempt(lambda: Theirs(sgd(0.1), min_lr=1.0, max_lr=0.1) and "accepted"),
        lambda: attempt(lambda: Ours(sgd(0.1), min_scale=2.0, max_scale=0.1) and "accepted"),
    ),
    (
        "groups at .1 and .001 lose their ratio at a bound (50 level, then 50 better)",
        lambda: theirs(LEVEL + FALLING, 0.1, 0.001, factor=0.8),
        lambda: ours(LEVEL + FALLING, 0.1, 0.001, factor=0.8),
    ),
    (
        "a parameter group added later",
        lambda: with_a_group_added(lambda o: Theirs(o, patience=0, factor=0.5)),
        lambda: with_a_group_added(lambda o: Ours(o, **ALERT, factor=0.5)),
    ),
    (
        "a tensor rate (compiled and captured steps need it)",
        lambda: with_a_tensor_rate(lambda o: Theirs(o, patience=0)),
        lambda: with_a_tensor_rate(lambda o: Ours(o, **ALERT)),
    ),
    (
        "after LinearLR in SequentialLR",
        lambda: after_a_linear_warmup(lambda o: Theirs(o, patience=0, factor=0.5)),
        lambda: after_a_linear_warmup(lambda o: Ours(o, **ALERT, factor=0.5)),
    ),
    (
        "beside CosineAnnealingLR, six improvements",
        lambda: beside_a_cosine(lambda o: Theirs(o, patience=0, factor=0.5, max_lr=100.0)),
        lambda: beside_a_cosine(lambda o: Ours(o, **ALERT, factor=0.5)),
    ),
    (
        "Lightning and Accelerate",
        lambda: lightning_and_accelerate(Theirs),
        lambda: lightning_and_accelerate(Ours),
    ),
    (
        "scores that rise from .50 to .79 (mode as its default; ours with mode='max')",
        lambda: scores(lambda o: Theirs(o, patience=0, factor=0.8, min_lr=1e-5)),
        lambda: scores(lambda o: Ours(o, **ALERT, factor=0.8, mode="max")),
    ),
    (
        "a warm-up of ten steps: first rate … rate after it",
        lambda: "none: `warmup` is a hold, `warmup_steps` is ignored",
        warmed_up,
    ),
    (
        "state dictionary",
        lambda: state_text(Theirs(sgd(0.1))),
        lambda: state_text(Ours(sgd(0.1))),
    ),
    (
        "an empty state is loaded",
        lambda: load(Theirs, {}),
        lambda: load(Ours, {}),
    ),
    (
        "a state of one group is loaded into two",
        lambda: load(Theirs, Theirs(sgd(0.1)).state_dict()),
        lambda: load(Ours, Ours(sgd(0.1)).state_dict()),
    ),
    (
        "patience 3 in the code, 10 in the checkpoint",
        lambda: settings_after_resume(Theirs, lambda o: Theirs(o, patience=3)),
        lambda: settings_after_resume(
            lambda o: Ours(o, patience=10), lambda o: Ours(o, patience=3)
        ),
    ),
    (
        "the reset after `reset_start` moves at the floor: rate before, after",
        jump_of_a_reset,
        lambda: "none, unless a published variant is asked for",
    ),
]
