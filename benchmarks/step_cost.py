"""What one ``step(float)`` costs, beside torch's and transformers' loss-driven schedulers.

The numbers are medians of repetitions that take turns in one process, since machines are busy;
``optimizer.step`` is not part of them. "unseen": the optimizer never steps, so each call counts as
a step. "seen": each call is one step of the optimizer, whose hook, which its own step would call,
is part of the time.

Then: what one update of the schedule of a policy that reads gradients costs, in processor time,
with and without a decision, by the sizes of the policy's hidden layers; `gradient_cost.py` has what
it costs to measure them.

    .venv/bin/python benchmarks/step_cost.py
"""

import itertools
import random
import statistics
import time
import timeit
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import GreedyLR as TransformersGreedyLR

from lrpilot.schedules import Cosine, Greedy, Learned, OpenLoop, Plateau, Policy, Signal
from lrpilot.schedules.learned.features import NAMES
from lrpilot.torch import ScheduledLR

CALLS = 200
REPETITIONS = 301
GROUPS = (1, 10, 100)
HOOK = "stepped(optimizer, (), {})"
LAYERS = ((), (16,), (32, 32))
HORIZON = 100_000  # steps; windows are long, so that nearly all steps are between decisions


class CountState(NamedTuple):
    scale: float = 1.0
    reason: str = "hold"
    count: int = 0


@dataclass(frozen=True)
class Count:
    """A schedule that does next to nothing."""

    needs: tuple[str, ...] = ("loss",)

    def init(self) -> CountState:
        return CountState()

    def update(self, state: CountState, signal: Signal) -> CountState:
        return CountState(state.scale, "hold", state.count + 1)


def sgd(groups: int) -> optim.SGD:
    weights = ([nn.Parameter(torch.zeros(1))] for _ in range(groups))
    return optim.SGD([{"params": weight} for weight in weights], lr=0.1)


@dataclass
class Contestant:
    """What is timed for each loss: ``code``, in which ``step`` and ``stepped`` are names."""

    step: Callable[[float], None]
    stepped: Callable[[], None] | None = None  # what the optimizer's step calls
    code: str = "step(loss)"


def ours(schedule, groups: int, *, seen: bool) -> Contestant:
    optimizer = sgd(groups)
    scheduler = ScheduledLR(optimizer, schedule)
    if seen:
        (hook,) = optimizer._optimizer_step_post_hooks.values()
        return Contestant(scheduler.step, hook, f"{HOOK}; step(loss)")
    for _ in range(1100):  # until calls count as steps for good
        scheduler.step(1.0)
    return Contestant(scheduler.step)


def contestants(groups: int) -> dict[str, Contestant]:
    schedules = {
        "nothing": Count(),
        "Plateau()": Plateau(),
        "Greedy()": Greedy(),
        "OpenLoop(Cosine())": OpenLoop(Cosine(), HORIZON),
        "Learned()": Learned(HORIZON, drawn(16)),
    }
    return {
        "ReduceLROnPlateau": Contestant(ReduceLROnPlateau(sgd(groups)).step),
        "transformers.GreedyLR": Contestant(TransformersGreedyLR(sgd(groups), min_lr=1e-4).step),
        **{
            f"{name}, {'seen' if seen else 'unseen'}": ours(schedule, groups, seen=seen)
            for name, schedule in schedules.items()
            for seen in (False, True)
        },
        "the hook alone": replace(ours(Count(), groups, seen=True), code=HOOK),
    }


def drawn(*hidden: int, reads: bool = False) -> Policy:
    """A policy whose weights nobody has trained. reads: what gradients tell, too."""
    rng = np.random.default_rng(0)
    sizes = [len(NAMES), *hidden, 1]
    weights = [rng.normal(size=shape) / 10 for shape in itertools.pairwise(sizes)]
    if not reads:
        weights[0][NAMES.index("alignment") :] = 0
    return Policy(
        name="drawn", weights=tuple(weights), biases=tuple(np.zeros(n) for n in sizes[1:])
    )


def processor_time(function: Callable[[], object]) -> float:
    """Microseconds per call, the median of repetitions."""
    found: list[float] = []
    for _ in range(REPETITIONS // 10):
        began = time.process_time()
        for _ in range(10 * CALLS):
            function()
        found.append((time.process_time() - began) / (10 * CALLS) * 1e6)
    return statistics.median(found)


def decisions() -> None:
    print("\nmicroseconds of processor time per update of Learned\n")
    print(f"{'hidden layers':34}{'a step':>10}{'a decision':>14}")
    chance = random.Random(0)
    for hidden in LAYERS:
        learned = Learned(HORIZON, drawn(*hidden, reads=True))
        state = learned.init()
        for _ in range(HORIZON // 50):
            state = learned.update(state, Signal(chance.gauss(1.0, 0.1)))
        due = state._replace(until=state.step + 1)
        signal = Signal(1.0, alignment=0.3, persistence=0.1)
        step = processor_time(partial(learned.update, state, signal))
        decision = processor_time(partial(learned.update, due, signal))
        print(f"{', '.join(map(str, hidden)) or 'none':34}{step:>10.2f}{decision:>14.2f}")


def main() -> None:
    print("microseconds per step(float), and as a multiple of ReduceLROnPlateau's\n")
    print(f"{'':34}" + "".join(f"{groups:>10} groups" for groups in GROUPS))
    table: dict[str, list[float]] = {}
    for groups in GROUPS:
        times: dict[str, list[float]] = {}
        optimizer, steps = sgd(groups), contestants(groups)
        chance = random.Random(0)
        losses = [chance.gauss(1.0, 0.1) for _ in range(CALLS)]
        for _ in range(REPETITIONS):
            for name, one in steps.items():
                code = f"for loss in losses: {one.code}"
                names = vars(one) | {"optimizer": optimizer, "losses": losses}
                seconds = timeit.timeit(code, globals=names, number=1)
                times.setdefault(name, []).append(seconds / CALLS * 1e6)
        for name, values in times.items():
            table.setdefault(name, []).append(statistics.median(values))
    for name, medians in table.items():
        ratios = [a / b for a, b in zip(medians, table["ReduceLROnPlateau"], strict=True)]
        print(
            f"{name:34}"
            + "".join(f"{a:>10.2f} {b:>5.2f}x" for a, b in zip(medians, ratios, strict=True))
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
    decisions()
