"""Optimizers of one weight per group under a scheduler whose every setting is said aloud."""

import torch
from torch import nn, optim

from lrpilot.torch import GreedyLR

LOSSES = (4.0, 3.0, 2.0, 5.0, 5.0, 1.0, 9.0, 9.0, 9.0)
ALERT = {
    "factor": 0.5,
    "patience": 0,
    "window": 1,
    "threshold": 0.0,
    "min_scale": 0.25,
    "max_scale": 4.0,
}


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(1))]


def sgd(*rates: float | torch.Tensor) -> optim.SGD:
    return optim.SGD([{"params": parameters(), "lr": lr} for lr in rates])


def greedy_lr(optimizer: optim.Optimizer, **changed) -> GreedyLR:
    return GreedyLR(optimizer, **(ALERT | changed))


def lrs(optimizer: optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]
