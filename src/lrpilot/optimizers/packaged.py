"""Optimizers that need little tuning of the rate: ours, and those of other packages, by name."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from lrpilot.optimizers.hypergradient import HypergradientAdam, HypergradientSGD
from lrpilot.optimizers.line_search import LineSearch

OptimizerFactory = Callable[[Iterable[Tensor], float], Optimizer]

# As the bench's momentum SGD and AdamW, so that only the rates differ.
MOMENTUM = 0.9
WEIGHT_DECAY = 0.01


def _hypergradient(name: str) -> OptimizerFactory:
    _, direction, per = name.split("-")
    settings: dict[str, Any] = {"per": per, "hyper_lr": HYPER_LRS[name]}
    if direction == "sgd":
        return lambda parameters, lr: HypergradientSGD(
            parameters, lr, momentum=MOMENTUM, **settings
        )
    return lambda parameters, lr: HypergradientAdam(
        parameters, lr, weight_decay=WEIGHT_DECAY, decoupled=True, **settings
    )


# How fast each learns its rates: the best of nine values on the development tasks, as GreedyLR's
# own settings were chosen there (benchmarks/hypergradient_settings.py).
HYPER_LRS: Mapping[str, float] = {
    "hypergradient-sgd-global": 0.2,
    "hypergradient-sgd-tensor": 0.2,
    "hypergradient-sgd-parameter": 0.01,
    "hypergradient-adam-global": 0.2,
    "hypergradient-adam-tensor": 0.2,
    "hypergradient-adam-parameter": 0.001,
}

BASELINES: Mapping[str, OptimizerFactory] = {
    **{name: _hypergradient(name) for name in HYPER_LRS},
    "line-search": lambda parameters, lr: LineSearch(parameters, lr),
}

# What each is made with, besides the rate, is the package's default.
PACKAGED: Mapping[str, OptimizerFactory] = {
    "schedule-free-sgd": lambda parameters, lr: _training(
        _imported("schedulefree", "schedulefree").SGDScheduleFree(parameters, lr=lr)
    ),
    "schedule-free-adamw": lambda parameters, lr: _training(
        _imported("schedulefree", "schedulefree").AdamWScheduleFree(parameters, lr=lr)
    ),
    "prodigy": lambda parameters, lr: _imported("prodigyopt", "prodigyopt").Prodigy(
        parameters, lr=lr
    ),
    "dog": lambda parameters, lr: _at_rate(
        # It logs a warning of any other rate.
        _diverging(_imported("dog", "dog-optimizer").DoG(parameters, lr=SHIPPED_LR["dog"])),
        lr,
    ),
    "dadapt-sgd": lambda parameters, lr: _imported("dadaptation", "dadaptation").DAdaptSGD(
        parameters, lr=lr
    ),
    "dadapt-adam": lambda parameters, lr: _imported("dadaptation", "dadaptation").DAdaptAdam(
        parameters, lr=lr
    ),
    "momo": lambda parameters, lr: _imported("momo", "momo-opt").Momo(parameters, lr=lr),
    "momo-adam": lambda parameters, lr: _imported("momo", "momo-opt").MomoAdam(parameters, lr=lr),
}

# The rate that each package's authors set: a step size of schedule-free, an upper bound of it in
# MoMo, and a multiple of the step size found in the others.
SHIPPED_LR: Mapping[str, float] = {
    "schedule-free-sgd": 1.0,
    "schedule-free-adamw": 0.0025,
    "prodigy": 1.0,
    "dog": 1.0,
    "dadapt-sgd": 1.0,
    "dadapt-adam": 1.0,
    "momo": 1.0,
    "momo-adam": 0.01,
}


# Any: the packages ship no types.
def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # it is there, and something that it needs is not
            raise
        raise ModuleNotFoundError(
            f"this optimizer comes from the package {package}, which is not installed; "
            f"pip install 'lrpilot[baselines]', or: pip install {package}",
            name=module,
        ) from error


def _training(optimizer: Any) -> Optimizer:
    """Schedule-free starts in neither mode, and refuses to step."""
    optimizer.train()
    return optimizer


def _diverging(optimizer: Any) -> Any:
    """DoG asserts that its sums have not overflowed; like others, it then returns NaN instead."""
    step = optimizer.step

    def step_or_nan(closure: Callable[[], Any] | None = None) -> Any:
        try:
            return step(closure)
        except AssertionError as error:
            if "nan" not in str(error) and "inf" not in str(error):
                raise
            return math.nan

    optimizer.step = step_or_nan
    return optimizer


def _at_rate(optimizer: Optimizer, lr: float) -> Optimizer:
    for group in optimizer.param_groups:
        group["lr"] = lr
    return optimizer
