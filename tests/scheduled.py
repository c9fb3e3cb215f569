"""Optimizers of one weight per group, and schedules whose every decision is known beforehand."""

import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn, optim
from torch.amp.grad_scaler import GradScaler

from lrpilot.schedules import Greedy, Signal
from lrpilot.torch import ScheduledLR

LOSSES = (4.0, 3.0, 2.0, 5.0, 5.0, 1.0, 9.0, 9.0, 9.0)
ALERT = {
    "test": "threshold",
    "factor": 0.5,
    "patience": 0,
    "window": 1,
    "threshold": 0.0,
    "min_scale": 0.25,
    "max_scale": 4.0,
}


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1))]


def sgd(*rates: float | torch.Tensor, **settings) -> optim.SGD:
    return optim.SGD([{"params": parameters(), "lr": lr} for lr in rates], **settings)


def alert(**changed) -> Greedy:
    return Greedy(**(ALERT | changed))


def greedy_lr(optimizer: optim.Optimizer, **changed) -> ScheduledLR:
    return ScheduledLR(optimizer, alert(**changed))


def lrs(optimizer: optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


class SeenState(NamedTuple):
    scale: float = 1.0
    reason: str = "start"
    losses: tuple[float, ...] = ()
    tokens: tuple[float, ...] = ()
    ignored: int = 0
    epochs: float = 0.0


@dataclass(frozen=True)
class Seen:
    """Keep what was seen; lower the rate each time."""

    needs: tuple[str, ...] = ("loss",)

    def init(self) -> SeenState:
        return SeenState()

    def update(self, state: SeenState, signal: Signal) -> SeenState:
        if not math.isfinite(signal.loss):
            return state._replace(reason="ignore", ignored=state.ignored + 1)
        losses, tokens = (*state.losses, signal.loss), state.tokens
        if "tokens" in self.needs:
            tokens = (*tokens, signal.tokens)
        epochs = state.epochs + signal.epochs if "epochs" in self.needs else 0.0
        return SeenState(0.9 ** len(losses), "lower", losses, tokens, state.ignored, epochs)


def amp_step(optimizer: optim.Optimizer, scaler: GradScaler, *, overflows: bool) -> None:
    """One training step, which the scaler skips if the gradient overflows."""
    optimizer.zero_grad()
    (weight,) = optimizer.param_groups[0]["params"]
    scaler.scale((weight * (math.inf if overflows else 1.0)).sum()).backward()
    scaler.step(optimizer)
    scaler.update()


def through_json(state):
    return json.loads(json.dumps(state, allow_nan=False))


def resumed(scheduler: ScheduledLR, **settings) -> ScheduledLR:
    """Another scheduler, over another optimizer, that goes on from this one's checkpoint."""
    optimizer = sgd(*scheduler.base_lrs, fused=scheduler.optimizer.defaults["fused"])
    optimizer.load_state_dict(scheduler.optimizer.state_dict())
    twin = ScheduledLR(optimizer, scheduler.schedule, **settings)
    twin.load_state_dict(through_json(scheduler.state_dict()))
    return twin
