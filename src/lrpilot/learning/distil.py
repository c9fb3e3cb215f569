"""Distil a policy into settings of GreedyLR, by where whole runs end: `lrpilot distil`."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Mapping
from typing import NamedTuple

import numpy as np
from cmaes import CMAwM

from lrpilot.bench.held_out import WORST, ratios
from lrpilot.learning.distilled import Distilled, distilled
from lrpilot.learning.distributions import (
    KINDS,
    STACKS,
    TRAINING_STACKS,
    VALIDATION_STACKS,
    validation_draw,
)
from lrpilot.learning.fitting.candidates import DEFAULT, SPACE, name_of
from lrpilot.learning.playing import under_base, under_policies, under_schedules
from lrpilot.learning.runs import Floats
from lrpilot.schedules import named_schedule
from lrpilot.schedules.checks import check_known
from lrpilot.schedules.learned.policy import Policy

POPULATION = 12
SIGMA = 0.25  # of the first generation, in shares of a setting's range
LOGARITHMIC = ("window", "min_scale", "max_scale")
COUNTS = ("patience", "window")
FIRST: Mapping[str, float] = {  # the first generation's centre: near the shipped settings
    **{"factor": 0.7, "patience": 1, "window": 10, "evidence": 4.0},
    **{"min_scale": 0.1, "max_scale": 10.0, "anneal": 0.4},
}


class Generation(NamedTuple):
    """A generation that has been judged.

    gap: median candidate's mean ln of (left by it / left by the policy). schedule: the centre of
        the distribution after it.
    """

    number: int
    gap: float
    schedule: str


Report = Callable[[Generation, float], None]
"""Told of each generation, and the seconds so far."""


def distil(
    policy: Policy,
    *,
    kind: str | None = None,
    seconds: float = 300.0,
    generations: int | None = None,
    seed: int = 0,
    report: Report,
) -> Distilled:
    """The settings of GreedyLR that end nearest to ``policy`` on problems it was trained for.

    kind: "nmf" or "net"; None takes what the policy says that it was trained for.
    seconds: no generation begins after these; validation comes on top.
    generations: at most so many; with a budget that suffices for them, equal calls have equal
        answers.

    Raises ValueError if nobody says what the policy is for.
    """
    kind = kind_of(policy, kind)
    began, fit = time.perf_counter(), evolve(policy, kind, seed)
    while True:
        last, spent = next(fit), time.perf_counter() - began
        report(last, spent)
        if spent >= seconds or last.number == generations:
            break
    return distilled(
        policy=policy.name,
        kind=kind,
        schedule=last.schedule,
        finals=validated(policy, kind, last.schedule),
        worst=WORST,
        generations=last.number,
        seconds=spent,
        seed=seed,
    )


def kind_of(policy: Policy, kind: str | None) -> str:
    """What the policy is for: what the user says, or what it says itself."""
    found = kind or policy.about.get("trained")
    if found is None:
        raise ValueError(
            f"the policy {policy.name!r} does not say what it was trained for; give --kind, one of "
            f"{', '.join(KINDS)}"
        )
    check_known("kind of policy", found, KINDS)
    return found


def evolve(policy: Policy, kind: str, seed: int) -> Generator[Generation]:
    """Generation after generation of settings, without end.

    Each is judged on fresh stacks of training problems, by the mean ln of what its runs leave over
    what the policy leaves on the same problem; a single run counts by `WORST` at most.
    """
    optimizer = CMAwM(
        mean=np.array([coordinate(name, FIRST[name]) for name in SPACE]),
        sigma=SIGMA,
        bounds=np.array([(0.0, 1.0)] * len(SPACE)),
        steps=np.array([step_of(name) for name in SPACE]),
        seed=seed,
        population_size=POPULATION,
    )
    for number in itertools.count(1):
        asked = [optimizer.ask() for _ in range(POPULATION)]
        names = [schedule_at(point) for point, _ in asked]
        scores = np.zeros(POPULATION)
        for stack in range(TRAINING_STACKS[kind]):
            key = [seed, number, stack]
            ours = under_policies(STACKS[kind](np.random.default_rng(key), 1), [policy]).finals
            runs = STACKS[kind](np.random.default_rng(key), POPULATION)
            theirs = under_schedules(runs, [named_schedule(n, runs.total_steps) for n in names])
            scores += ratios(theirs, ours, WORST).mean(axis=1) / TRAINING_STACKS[kind]
        optimizer.tell([(x, float(score)) for (_, x), score in zip(asked, scores, strict=True)])
        yield Generation(number, float(np.median(scores)), schedule_at(optimizer.mean))


def validated(policy: Policy, kind: str, schedule: str) -> dict[str, list[Floats]]:
    """ln of what is left (problems,) of each validation stack: base, policy, rule, shipped rule."""
    found: dict[str, list[Floats]] = {policy.base: [], policy.name: [], schedule: [], DEFAULT: []}
    for number in range(VALIDATION_STACKS[kind]):
        for name, finals in found.items():
            # The same problems at every call, whatever the generator.
            runs = validation_draw(kind, number)(np.random.default_rng(0), 1)
            if name == policy.name:
                finals.append(under_policies(runs, [policy]).finals[0])
            elif name == policy.base:
                finals.append(under_base(runs, policy.base, policy.action))
            else:
                rule = named_schedule(name, runs.total_steps)
                finals.append(under_schedules(runs, [rule])[0])
    return found


def schedule_at(point: Floats) -> str:
    """The name of the schedule at a point of the unit cube, to two digits of each setting."""
    return name_of({name: setting(name, x) for name, x in zip(SPACE, point.tolist(), strict=True)})


def setting(name: str, x: float) -> float:
    """The value at the share ``x`` of the range of a setting.

    >>> setting("patience", 0.6), setting("window", 1.0), setting("factor", 0.4)
    (1, 40, 0.66)
    """
    low, high = range_of(name)
    x = min(max(x, 0.0), 1.0)
    value = low + x * (high - low)
    if name in LOGARITHMIC:
        value = low * (high / low) ** x
    if name in COUNTS:
        return round(value)
    return float(f"{value:.2g}") if name in LOGARITHMIC else round(value, 2)


def coordinate(name: str, value: float) -> float:
    """The share of the range of a setting at which it has a value."""
    low, high = range_of(name)
    if name in LOGARITHMIC:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def range_of(name: str) -> tuple[float, float]:
    """The range that `lrpilot tune` tries."""
    return min(SPACE[name]), max(SPACE[name])


def step_of(name: str) -> float:
    """Distance of neighbouring values in shares of the range; 0 for a continuous setting."""
    low, high = range_of(name)
    return 1 / (high - low) if name in COUNTS and name not in LOGARITHMIC else 0.0
