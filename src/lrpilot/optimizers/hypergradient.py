"""Hypergradient descent: SGD and Adam that descend on their own learning rates as they train.

Baydin, Cornish, Martínez Rubio, Schmidt, Wood: Online learning rate adaptation with hypergradient
descent (2018), arXiv 1703.04782. A step is θ ← θ − rate · d with the optimizer's direction d. So
the next minibatch's loss has the derivative −g · d in the rate, g its gradient: the hypergradient.
The rate moves against it before each step.

``group["lr"]`` stays the base rate, which a scheduler may set at every step. What is learned is
kept apart: a ``factor`` (rate = lr · factor) or an ``offset`` (rate = lr + offset).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from lrpilot.optimizers.learned_rates import (
    Form,
    Per,
    add_group,
    check_learning,
    check_same_learning,
    descend,
    evaluate,
    learn,
    moves_of,
    rates_of,
    restore_precision,
)

# The multiplicative form has no unit, so one default suits every optimizer. The additive ones are
# those of its authors' runs of logistic regression and a multilayer perceptron.
SGD_HYPER_LR = {"multiplicative": 0.02, "additive": 1e-3}
ADAM_HYPER_LR = {"multiplicative": 0.02, "additive": 1e-7}


class HypergradientSGD(Optimizer):
    """SGD whose rates follow their hypergradients (the paper's SGD-HD and SGDN-HD).

    lr: the base rate, at least 0. Groups may have their own ``lr`` and ``hyper_lr``.
    hyper_lr: how fast the rates are learned. Multiplicative: the largest relative change of a rate
        in one step, in [0, 1); by default 0.02. Additive: in units of lr² / loss, at least 0; by
        default 1e-3. 0 learns nothing, and then this is ``torch.optim.SGD``.
    form: "multiplicative" multiplies a rate by 1 + hyper_lr · cos, where cos is the cosine between
        the gradient and the last direction (of one number: the product of signs), so neither the
        scale of the loss nor of the parameters matters (section 3, the multiplicative rule).
        "additive" adds hyper_lr · g · d, unnormalised (section 3, the additive rule).
    per: what has a rate of its own: all parameters together ("global"; groups keep the ratio of
        their rates, as long as their ``hyper_lr`` agree), each group, each tensor, or each number.
    momentum, nesterov, weight_decay: as in ``torch.optim.SGD``; the decay is part of the loss, and
        of the gradient g, as L2 regularisation.

    Rates are never negative: a factor stays in [1e-10, 1e10], and an offset does not fall below
    −lr. If lr itself falls, the rate is 0 where lr + offset is negative.

    A hypergradient that is not finite (NaN or infinite gradients, overflow) moves no rate. The
    step itself is taken as SGD would take it; what is learned outlives it. Where a tensor has no
    gradient, its last direction waits for the next one.

    Memory: one buffer like each parameter (the last direction, which is the momentum buffer too);
    one more with ``nesterov``; one more, at least float32, with per="parameter". Time: three inner
    products per tensor (one if additive), and one wait for the device per step.

    Raises ValueError for settings out of range, TypeError for complex parameters, and RuntimeError
    for sparse gradients.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        hyper_lr: float | None = None,
        form: Form = "multiplicative",
        per: Per = "global",
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        check_learning(form, per)
        defaults = {
            "lr": lr,
            "hyper_lr": SGD_HYPER_LR[form] if hyper_lr is None else hyper_lr,
            "form": form,
            "per": per,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; a global rate that was learned holds for it too."""
        group = self.defaults | param_group
        if not 0 <= group["momentum"] < 1:
            raise ValueError(f"momentum must lie in [0, 1), got {group['momentum']}")
        if group["nesterov"] and not group["momentum"]:
            raise ValueError("nesterov needs a momentum, got 0; set momentum=0.9, say")
        add_group(self, super().add_param_group, param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Learn the rates, then step; returns what ``closure``, if any, returns."""
        loss = evaluate(closure)
        moves = moves_of(self)
        learn(self, moves)
        for move in moves:
            direction, gradient = move.state["direction"], move.gradient
            momentum = move.group["momentum"]
            if move.group["nesterov"]:
                average = move.state.setdefault("momentum_buffer", torch.zeros_like(move.parameter))
                average.mul_(momentum).add_(gradient)
                torch.add(gradient, average, alpha=momentum, out=direction)
            elif momentum:
                direction.mul_(momentum).add_(gradient)
            else:
                direction.copy_(gradient)  # not 0 · direction, which keeps a NaN
            descend(move)
        return loss

    def rates(self) -> list[list[float | Tensor]]:
        """The rate of each tensor of each group, at the group's present ``lr``.

        A number; with per="parameter" a new tensor of the parameter's shape.
        """
        return rates_of(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume exactly; ValueError if the state is of another ``form`` or ``per``."""
        check_same_learning(self, state_dict)
        super().load_state_dict(state_dict)
        restore_precision(self, state_dict)


class HypergradientAdam(Optimizer):
    """Adam whose rates follow their hypergradients (the paper's Adam-HD).

    lr, hyper_lr, form, per, and what holds for rates that would be negative, for gradients that
    are not finite and for missing ones: as in ``HypergradientSGD``. The additive default of
    ``hyper_lr`` is 1e-7, as in the authors' runs.
    betas, eps: as in ``torch.optim.Adam``, with its bias correction. The direction is m̂ / (√v̂ + ε).
    weight_decay, decoupled: with ``decoupled``, as in ``torch.optim.AdamW``: the decay is part of
        the direction d, and the rate scales it, but not of the gradient g. Otherwise as in
        ``torch.optim.Adam``: the decay is part of g.

    The hypergradient is that of the last step alone: the derivative of this loss in the rate of the
    step before, all earlier steps held fixed, as in the paper.

    Memory: three buffers like each parameter (two of Adam's, and the last direction); one more, at
    least float32, with per="parameter". Time and errors as in ``HypergradientSGD``.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        hyper_lr: float | None = None,
        form: Form = "multiplicative",
        per: Per = "global",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled: bool = False,
    ) -> None:
        check_learning(form, per)
        defaults = {
            "lr": lr,
            "hyper_lr": ADAM_HYPER_LR[form] if hyper_lr is None else hyper_lr,
            "form": form,
            "per": per,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; a global rate that was learned holds for it too."""
        group = self.defaults | param_group
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"betas must lie in [0, 1), got {group['betas']}")
        if not group["eps"] >= 0:
            raise ValueError(f"eps must be at least 0, got {group['eps']}")
        add_group(self, super().add_param_group, param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Learn the rates, then step; returns what ``closure``, if any, returns."""
        loss = evaluate(closure)
        moves = moves_of(self)
        learn(self, moves)
        for move in moves:
            state, group = move.state, move.group
            if "step" not in state:
                state["step"] = 0
                state["exp_avg"] = torch.zeros_like(move.parameter)
                state["exp_avg_sq"] = torch.zeros_like(move.parameter)
            state["step"] += 1
            beta1, beta2 = group["betas"]
            state["exp_avg"].lerp_(move.gradient, 1 - beta1)
            state["exp_avg_sq"].mul_(beta2).addcmul_(move.gradient, move.gradient, value=1 - beta2)
            size = state["exp_avg_sq"].sqrt().div_(math.sqrt(1 - beta2 ** state["step"]))
            torch.div(state["exp_avg"], size.add_(group["eps"]), out=state["direction"])
            state["direction"].div_(1 - beta1 ** state["step"])
            if group["decoupled"] and group["weight_decay"]:
                state["direction"].add_(move.parameter, alpha=group["weight_decay"])
            descend(move)
        return loss

    def rates(self) -> list[list[float | Tensor]]:
        """The rate of each tensor of each group, at the group's present ``lr``.

        A number; with per="parameter" a new tensor of the parameter's shape.
        """
        return rates_of(self)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume exactly; ValueError if the state is of another ``form`` or ``per``."""
        check_same_learning(self, state_dict)
        super().load_state_dict(state_dict)
        restore_precision(self, state_dict)
