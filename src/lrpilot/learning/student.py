"""A policy's network that learns actions from examples."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import nn

from lrpilot.learning.cma import Layers
from lrpilot.learning.runs import Floats
from lrpilot.schedules.learned.features import NAMES

WEIGHT_DECAY, LAST_RATE = 0.01, 0.01  # the rate's as a share of the first


class Shown(NamedTuple):
    """What runs saw (decisions, features) and did, or should have done (decisions,)."""

    seen: Floats
    actions: Floats


class Student:
    """A network from features to an action, of which ``hidden`` are the inner layers' sizes.

    unseen: features that it does not see, and has no weight for.
    """

    def __init__(self, hidden: tuple[int, ...], seed: int, unseen: Sequence[str] = ()) -> None:
        sizes = [len(NAMES), *hidden]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inner = [
                layer
                for inputs, outputs in itertools.pairwise(sizes)
                for layer in (nn.Linear(inputs, outputs), nn.Tanh())
            ]
            self.network = nn.Sequential(*inner, nn.Linear(sizes[-1], 1))
        self._rng = np.random.default_rng(seed)
        self._visible = torch.tensor([float(name not in unseen) for name in NAMES])
        first = cast("nn.Linear", self.network[0])
        first.weight.data *= self._visible  # and what is 0, and shown nothing, stays so

    def act(self, seen: Floats) -> Floats:
        """The actions (runs,), which nothing bounds."""
        with torch.no_grad():
            return self.network(torch.from_numpy(seen).float())[:, 0].double().numpy()

    def fit(self, shown: Shown, *, updates: int, rate: float, batch: int | None = None) -> None:
        """Make the squared error of the actions small, on so many decisions at a time, or all."""
        seen, actions = (torch.from_numpy(x).float() for x in shown)
        seen = self._visible * seen
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, updates)
        for _ in range(updates):
            rows = slice(None) if batch is None else self._rng.integers(len(seen), size=batch)
            optimizer.zero_grad()
            nn.functional.mse_loss(self.network(seen[rows])[:, 0], actions[rows]).backward()
            optimizer.step()
            decay.step()

    @property
    def layers(self) -> Layers:
        """A copy of its layers."""
        return as_layers([layer for layer in self.network if isinstance(layer, nn.Linear)])


def as_layers(linears: Sequence[nn.Linear]) -> Layers:
    """A copy of torch's layers, which have their weights the other way round."""
    return Layers(
        tuple(layer.weight.detach().double().numpy().T.copy() for layer in linears),
        tuple(layer.bias.detach().double().numpy().copy() for layer in linears),
    )
