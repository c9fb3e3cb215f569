"""Which optimizers, schedules, rates and seeds are compared: literal tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import optim

from lrpilot.optimizers.packaged import BASELINES, MOMENTUM, PACKAGED, WEIGHT_DECAY
from lrpilot.tasks import TASKS, Task, find_task
from lrpilot.tasks.protocol import OptimizerFactory

# Those for which every task has a rate of its own.
TORCH_OPTIMIZERS: Mapping[str, OptimizerFactory] = {
    "sgd": lambda parameters, lr: optim.SGD(parameters, lr),
    "momentum": lambda parameters, lr: optim.SGD(parameters, lr, momentum=MOMENTUM),
    # Fused: a fifth less time per step of a small network.
    "adam": lambda parameters, lr: optim.Adam(parameters, lr, fused=True),
    "adamw": lambda parameters, lr: optim.AdamW(
        parameters, lr, weight_decay=WEIGHT_DECAY, fused=True
    ),
    "rmsprop": lambda parameters, lr: optim.RMSprop(parameters, lr),
}
OPTIMIZERS: Mapping[str, OptimizerFactory] = {**TORCH_OPTIMIZERS, **BASELINES, **PACKAGED}

# What a baseline's grid of rates is centred on: a number, or a torch optimizer's rate for the task.
CENTRES: Mapping[str, float | str] = {
    "hypergradient-sgd-global": "momentum",
    "hypergradient-sgd-tensor": "momentum",
    "hypergradient-sgd-parameter": "momentum",
    "hypergradient-adam-global": "adamw",
    "hypergradient-adam-tensor": "adamw",
    "hypergradient-adam-parameter": "adamw",
    "line-search": "sgd",
    "schedule-free-sgd": "sgd",
    "schedule-free-adamw": "adamw",
    "momo": "sgd",
    "momo-adam": "adamw",
    # Multipliers of a rate that these find themselves.
    "prodigy": 1.0,
    "dog": 1.0,
    "dadapt-sgd": 1.0,
    "dadapt-adam": 1.0,
}

# What `lrpilot compare` does with no arguments: about a minute on two cores.
DEFAULT_TASKS = ("digits-mlp", "nmf-digits")
DEFAULT_SCHEDULES = ("greedy", "greedy-cooldown", "cosine", "linear", "wsd20", "constant")
DEFAULT_OPTIMIZERS = ("adamw",)
DEFAULT_SEEDS = 5

# The schedule that the others are compared with, if it takes part.
REFERENCE = "cosine"

# The base rate of a training function that is compared without --lr: AdamW's own default.
FUNCTION_LR = 1e-3


# A run's seed decides its start, its data order and its noise, whatever trains on it.
TUNING_SEEDS = (100, 101)
EVALUATION_SEEDS = tuple(range(10))

TUNING_POINTS = 9  # half-decades: four decades around the task's own rate
RESPONSE_POINTS = 11  # five decades
HORIZONS = (0.25, 0.5, 0.7, 1.0, 1.4, 2.0)  # of the reference curve, in budgets

# What budgets are measured in: the reference's, tuned at each horizon.
BUDGET_REFERENCE = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Which cells are run.

    schedules: run under each of ``families``, tuned, and on the tasks ``responses`` over the whole
        response too.
    baselines: pairs of optimizer and schedule that compete within a family, tuned only.
    steps: share of each task's budget.
    baselines_respond: whether baselines run over the whole response too.
    total_steps, centre: budget and centre of the grid of rates where ``tasks`` are no built-in
        tasks, which have their own.
    """

    name: str
    tasks: tuple[str, ...]
    families: tuple[str, ...]
    schedules: tuple[str, ...]
    baselines: Mapping[str, tuple[tuple[str, str], ...]]
    responses: tuple[str, ...]
    evaluation_seeds: tuple[int, ...] = EVALUATION_SEEDS
    tuning_points: int = TUNING_POINTS
    response_points: int = RESPONSE_POINTS
    horizons: tuple[float, ...] = HORIZONS
    steps: float = 1.0
    baselines_respond: bool = False
    total_steps: int | None = None
    centre: float | None = None

    def budget(self, task: str) -> int:
        """Steps of a run on ``task``."""
        return round((self.total_steps or find_task(task).total_steps) * self.steps)

    def response(self, task: str, optimizer: str) -> tuple[float, ...]:
        """The rates of the response of ``optimizer`` on ``task``."""
        centre = self.centre or nominal_lr(find_task(task), optimizer)
        return grid(centre, self.response_points)


SCHEDULES = (
    *("linear", "cosine", "constant", "step", "exponential", "polynomial", "cosine-restarts"),
    *("one-cycle", "inverse-sqrt", "wsd20", "plateau", "greedy", "greedy-cooldown"),
    *("greedy-untuned", "transformers-greedy", "transformers-greedy-eval", "random"),
)

HYPERGRADIENT_SGD = tuple(
    (f"hypergradient-sgd-{per}", "constant") for per in ("global", "tensor", "parameter")
)
HYPERGRADIENT_ADAM = tuple(
    (f"hypergradient-adam-{per}", "constant") for per in ("global", "tensor", "parameter")
)
BASELINES_OF: Mapping[str, tuple[tuple[str, str], ...]] = {
    "momentum": (
        *HYPERGRADIENT_SGD,
        ("line-search", "constant"),
        ("schedule-free-sgd", "constant"),
        ("dog", "constant"),
        ("dadapt-sgd", "cosine"),
        ("momo", "constant"),
    ),
    "adamw": (
        *HYPERGRADIENT_ADAM,
        ("schedule-free-adamw", "constant"),
        ("prodigy", "cosine"),
        ("dadapt-adam", "cosine"),
        ("momo-adam", "constant"),
    ),
    "rmsprop": (),
}

# The rates of libraries' defaults.
SHIPPED_LRS: Mapping[str, float] = {"momentum": 1e-3, "adamw": 1e-3, "rmsprop": 1e-2}


# Defaults and settings may be chosen on these tasks; the others may only be reported.
DEVELOPMENT = (
    *("digits-mlp", "digits-cnn", "cancer-logreg", "bytes-lm", "nmf-digits"),
    "noisy-quadratic",
)
HELD_OUT = tuple(name for name in TASKS if name not in DEVELOPMENT)

# Cheap enough for every rate of five decades.
RESPONSES = (
    *("noisy-quadratic", "multiplicative-quadratic", "rosenbrock", "deep-linear"),
    *("matrix-sensing", "logreg-stream", "cancer-logreg"),
    *("nmf-digits", "nmf-photo", "nmf-docstrings", "matrix-completion"),
    *("digits-mlp",),
)
STANDARD_TASKS = (*RESPONSES, "patches-autoencoder", "waves-mlp")

SUITES: Mapping[str, Suite] = {
    "quick": Suite(
        name="quick",
        tasks=("noisy-quadratic", "matrix-sensing", "digits-mlp"),
        families=("momentum", "adamw"),
        schedules=(
            *("linear", "cosine", "constant", "step", "wsd20", "random"),
            *("greedy", "greedy-cooldown"),
        ),
        baselines={
            "momentum": (("hypergradient-sgd-parameter", "constant"), ("line-search", "constant")),
        },
        responses=("noisy-quadratic", "matrix-sensing", "digits-mlp"),
        evaluation_seeds=EVALUATION_SEEDS[:3],
        tuning_points=5,
        response_points=5,
        horizons=(0.5, 1.0, 2.0),
        steps=0.25,
    ),
    "standard": Suite(
        name="standard",
        tasks=STANDARD_TASKS,
        families=("momentum", "adamw", "rmsprop"),
        schedules=SCHEDULES,
        baselines=BASELINES_OF,
        responses=RESPONSES,
    ),
    "full": Suite(
        name="full",
        tasks=tuple(TASKS),
        families=("momentum", "adamw", "rmsprop"),
        schedules=SCHEDULES,
        baselines=BASELINES_OF,
        responses=tuple(TASKS),
    ),
}


def nominal_lr(task: Task, optimizer: str) -> float:
    """The rate that a grid for ``optimizer`` on ``task`` is centred on."""
    centre = CENTRES.get(optimizer, optimizer)
    return task.lrs[centre] if isinstance(centre, str) else centre


def grid(lr: float, points: int) -> tuple[float, ...]:
    """So many rates of the half-decade grid 1, 3, 10, 30, ... around ``lr``, rising.

    >>> grid(0.01, 5)
    (0.001, 0.003, 0.01, 0.03, 0.1)
    """
    at = round(2 * math.log10(lr))
    return tuple(grid_point(at + k) for k in range(-(points // 2), points - points // 2))


def grid_point(at: int) -> float:
    """The half-decade rate number ``at``: 10 to the power ``at / 2``, as 1 or 3 times a decade."""
    return float(f"{1 if at % 2 == 0 else 3}e{math.floor(at / 2)}")


def neighbours(lr: float) -> tuple[float, ...]:
    """``lr`` between its neighbours on the half-decade grid 1, 3, 10, 30, ...

    >>> neighbours(0.01)
    (0.003, 0.01, 0.03)
    >>> neighbours(0.3)
    (0.1, 0.3, 1.0)
    """
    return grid(lr, 3)
