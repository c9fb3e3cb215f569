"""The schedules that have a name, as the command line takes it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from lrpilot.schedules.checks import check_known
from lrpilot.schedules.greedy import Greedy
from lrpilot.schedules.guard import Guard
from lrpilot.schedules.on_evaluation import OnEvaluation
from lrpilot.schedules.openloop import (
    WSD,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    OpenLoop,
    Polynomial,
    RandomRates,
    Shape,
    StepDecay,
)
from lrpilot.schedules.phases import cooldown
from lrpilot.schedules.plateau import Plateau
from lrpilot.schedules.protocol import Schedule

NamedSchedule = Callable[[int, float], Schedule[Any]]


def _over(shape: Shape) -> NamedSchedule:
    return lambda total_steps, base_lr: OpenLoop(shape, total_steps)


def _transformers(base_lr: float) -> Greedy:
    """`transformers.GreedyLR` with its defaults, whose bounds are absolute rates.

    The released code starts at the optimizer's rate, which may lie outside of its bounds.
    """
    lowest, highest = 1e-3 / base_lr, 1.0 / base_lr
    return Greedy(variant="transformers", min_scale=lowest, max_scale=highest, eps=1e-8 / base_lr)


def _learned(policy: str) -> NamedSchedule:
    def guarded(total_steps: int, base_lr: float) -> Guard:
        del base_lr
        # Loads NumPy for those alone who want a policy.
        schedules = importlib.import_module("lrpilot.schedules")
        return Guard(schedules.Learned(total_steps, policy))

    return guarded


LEARNED = "learned:"
"""Before the name or the file of a policy, as in ``learned:policy.safetensors``."""

SHIPPED = ("net", "nmf")
"""The policies that come with lrpilot."""

NAMED_SCHEDULES: Mapping[str, NamedSchedule] = {
    "constant": _over(Constant()),
    "linear": _over(Linear()),
    "cosine": _over(Cosine()),
    "step": _over(StepDecay()),
    "exponential": _over(Exponential()),
    "polynomial": _over(Polynomial()),
    "one-cycle": _over(OneCycle()),
    "inverse-sqrt": _over(InverseSqrt()),
    "cosine-restarts": _over(CosineRestarts()),
    "random": _over(RandomRates()),
    "wsd20": _over(WSD(decay=0.2)),
    "wsd50": _over(WSD(decay=0.5)),
    # Fed every step: patience and smoothing in shares of the horizon, as an evaluation would be.
    "plateau": lambda total_steps, base_lr: Plateau(
        factor=0.5, patience=max(total_steps // 20, 1), window=max(total_steps // 50, 1)
    ),
    "greedy": lambda total_steps, base_lr: Greedy(),
    "greedy-cooldown": lambda total_steps, base_lr: (Greedy() >> cooldown(0.2)).over(total_steps),
    "greedy-untuned": lambda total_steps, base_lr: Greedy.untuned(),
    "greedy-threshold": lambda total_steps, base_lr: Greedy(test="threshold"),
    "transformers-greedy": lambda total_steps, base_lr: _transformers(base_lr),
    "transformers-greedy-eval": lambda total_steps, base_lr: OnEvaluation(_transformers(base_lr)),
    "learned": _learned("net"),
    "learned:nmf": _learned("nmf"),
}


# What may follow "greedy:", and "anneal", the share of the horizon that a final cooldown takes.
GREEDY_SETTINGS: Mapping[str, Callable[[str], float]] = {
    **dict.fromkeys(("factor", "evidence", "threshold", "min_scale", "max_scale", "anneal"), float),
    **dict.fromkeys(("patience", "window", "warmup", "cooldown"), int),
}


def named_schedule(name: str, total_steps: int, base_lr: float = 1.0) -> Schedule[Any]:
    """The schedule called ``name`` over ``total_steps`` optimizer steps.

    name: one of `NAMED_SCHEDULES`; "learned:" and the name or the file of a policy, which is read
        at each call; or "greedy:" and settings of `Greedy`, such as
        "greedy:factor=0.5,window=5,anneal=0.3"; ``anneal`` is the share of the horizon that a
        cooldown takes at the end, none if it is left out.
    base_lr: the rate that its scale multiplies; matters where bounds are absolute rates, as those
        of ``transformers-greedy`` are.

    >>> named_schedule("wsd20", total_steps=1000).init().reason
    'plan'
    >>> named_schedule("greedy:factor=0.5", total_steps=1000) == Greedy(factor=0.5)
    True
    """
    if name.startswith(LEARNED):
        return _learned(name.removeprefix(LEARNED))(total_steps, base_lr)
    kind, colon, settings = name.partition(":")
    if colon and kind == "greedy":
        return _greedy(settings, total_steps)
    check_known("schedule", name, NAMED_SCHEDULES)
    return NAMED_SCHEDULES[name](total_steps, base_lr)


def policy_file(name: str) -> str | None:
    """The file that the schedule called ``name`` is read from; None if there is none.

    >>> policy_file("learned:mine.safetensors"), policy_file("learned:nmf"), policy_file("cosine")
    ('mine.safetensors', None, None)
    """
    policy = name.removeprefix(LEARNED)
    is_shipped = name in NAMED_SCHEDULES or policy in SHIPPED
    return policy if name.startswith(LEARNED) and not is_shipped else None


def _greedy(settings: str, total_steps: int) -> Schedule[Any]:
    found: dict[str, Any] = {}
    for setting in settings.split(","):
        name, equals, value = (part.strip() for part in setting.partition("="))
        if not equals:
            raise ValueError(f"a setting is name=value, such as factor=0.5; got {setting!r}")
        check_known("setting of greedy", name, GREEDY_SETTINGS)
        try:
            found[name] = GREEDY_SETTINGS[name](value)
        except ValueError:
            kind = "a whole number" if GREEDY_SETTINGS[name] is int else "a number"
            raise ValueError(f"{name} must be {kind}, got {value!r}") from None
    anneal = found.pop("anneal", 0.0)
    greedy = Greedy(**found)
    return (greedy >> cooldown(anneal)).over(total_steps) if anneal else greedy
