"""Multiplicative hypergradient descent over a stack of runs, as `lrpilot.optimizers` has it.

A test holds it to `HypergradientSGD` and `HypergradientAdam` with the settings of `BASELINES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from lrpilot.bench.batched.optimizers import BETAS, EPS, like, rows, zeros
from lrpilot.optimizers.learned_rates import GREATEST_FACTOR, LEAST_FACTOR
from lrpilot.optimizers.packaged import MOMENTUM, WEIGHT_DECAY

Per = Literal["global", "tensor", "parameter"]


class Hypergradient:
    """Rates (base rate x factor) that follow their hypergradients; see `HypergradientSGD`.

    adam: whether the direction is AdamW's, its decay included, or that of SGD with momentum.
    """

    def __init__(
        self, values: Mapping[str, Tensor], per: Per, *, adam: bool, hyper_lr: float
    ) -> None:
        self.per = per
        self.adam = adam
        self.hyper_lr = hyper_lr
        self.directions = zeros(values)
        self.first, self.second = (zeros(values), zeros(values)) if adam else ({}, {})
        self.steps = 0
        runs = len(next(iter(values.values())))
        self.last_lrs = torch.zeros(runs)
        # One factor per run and what has a rate of its own; a global one stands under "".
        one = {"": torch.ones(runs, dtype=torch.float64)}
        of_tensors = {name: torch.ones(runs, dtype=torch.float64) for name in values}
        of_numbers = {name: torch.ones_like(value) for name, value in values.items()}
        self.factors = {"global": one, "tensor": of_tensors, "parameter": of_numbers}[per]

    def update(
        self, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor], lrs: Tensor
    ) -> None:
        """One step of every run."""
        self.steps += 1
        if self.per == "parameter":
            for name in values:
                moving = like(self.last_lrs > 0, values[name])
                self._move(name, gradients[name].sign() * self.directions[name].sign() * moving)
        else:
            self._learn_from_products(gradients)
        for name, value in values.items():
            direction = self._direction(name, value, gradients[name])
            factor = self.factors["" if self.per == "global" else name]
            factor = factor if self.per == "parameter" else like(factor, value)
            value.addcmul_((like(lrs, value) * factor).to(value.dtype), direction, value=-1)
        self.last_lrs = lrs.clone()

    def keep(self, kept: Tensor) -> None:
        """Forget all runs but these."""
        self.directions = rows(self.directions, kept)
        self.first, self.second = rows(self.first, kept), rows(self.second, kept)
        self.factors = rows(self.factors, kept)
        self.last_lrs = self.last_lrs[kept]

    def _learn_from_products(self, gradients: Mapping[str, Tensor]) -> None:
        products = {name: self._products(name, gradients[name]) for name in gradients}
        if self.per == "global":
            products = {"": torch.stack(list(products.values())).sum(0)}
        for name, (gs, gg, ss) in products.items():
            sizes = gg.sqrt() * ss.sqrt()
            self._move(name, torch.where(sizes > 0, gs / sizes, 0.0 * sizes).clamp(-1, 1))

    def _products(self, name: str, gradient: Tensor) -> Tensor:
        """Inner products (3, runs) of gradient and sensitivity, of each with itself."""
        g, d = (x.reshape(len(x), -1) for x in (gradient, self.directions[name]))
        lrs = self.last_lrs.double()
        gs, gg, ss = (torch.linalg.vecdot(a, b).double() for a, b in ((g, d), (g, g), (d, d)))
        return torch.stack([lrs * gs, gg, lrs * lrs * ss])

    def _move(self, name: str, cosine: Tensor) -> None:
        factor = self.factors[name]
        moved = (factor * (1 + self.hyper_lr * cosine)).clamp(LEAST_FACTOR, GREATEST_FACTOR)
        self.factors[name] = torch.where(moved.isfinite(), moved, factor)

    def _direction(self, name: str, value: Tensor, gradient: Tensor) -> Tensor:
        direction = self.directions[name]
        if not self.adam:
            return direction.mul_(MOMENTUM).add_(gradient)
        mean = self.first[name].lerp_(gradient, 1 - BETAS[0])
        square = self.second[name].mul_(BETAS[1])
        square.addcmul_(gradient, gradient, value=1 - BETAS[1])
        torch.sqrt(square, out=direction)
        direction.div_((1 - BETAS[1] ** self.steps) ** 0.5).add_(EPS)
        torch.div(mean, direction, out=direction)
        direction.div_(1 - BETAS[0] ** self.steps)
        return direction.add_(value, alpha=WEIGHT_DECAY)
