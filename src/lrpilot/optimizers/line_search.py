"""Stochastic line search: SGD that tries its step on the minibatch before it takes it.

Vaswani, Mishkin, Laradji, Schmidt, Gidel, Lacoste-Julien: Painless stochastic gradient:
interpolation, line-search, and convergence rates (2019), arXiv 1905.09997. Algorithm 1 with the
Armijo condition, and the ways of algorithm 2 to begin the next search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from lrpilot.optimizers.learned_rates import precise

Reset = Literal["keep", "max", "grow"]
RESETS = ("keep", "max", "grow")

# Twice the step in a hundred steps: the paper's γ = 2 with a hundred minibatches in an epoch.
GROWTH = 2 ** (1 / 100)

CLOSURE = (
    "def closure(): loss = ...; if torch.is_grad_enabled(): optimizer.zero_grad(); loss.backward();"
    " return loss"
)


class LineSearch(Optimizer):
    """SGD whose step size satisfies the Armijo condition on the same minibatch.

    A step of size η along the gradient g is taken if f(w − η g) ≤ f(w) − c η ‖g‖², f being the
    minibatch's loss, compared in its own precision; else η is multiplied by ``beta`` and tried
    again. A loss that is not finite fails.

    lr: the largest step, at least 0; a scheduler may set it at every step. With several groups, η
        is the step of the group with the greatest lr, and the others' are in proportion.
    c: the share of the decrease that the slope promises, in (0, 1). The default is
        the authors'.
    beta: what a rejected step is multiplied by, in (0, 1).
    reset: where a search begins: with the last step ("keep", option 0), with lr ("max", option 1),
        or with ``growth`` times the last step ("grow", option 2); never above lr. The first begins
        with lr.
    growth: used by reset="grow", at least 1. In the paper's terms γ^(b/n): γ = 2, and n/b steps in
        an epoch. The default doubles the step in a hundred steps.
    max_backtracks: how often a step may be shortened, at least 0. If even the last is rejected,
        none is taken: the parameters are bit for bit as before. The next search goes on from the
        step last tried with "keep" and "grow".

    If the loss or the gradient is not finite to begin with, or the gradient is 0, nothing is
    searched, and neither the parameters nor η change.

    ``step(closure)`` calls ``closure`` once with gradients enabled, in which it must call
    ``zero_grad`` and ``backward`` and return the loss, and then under ``torch.no_grad`` for each
    try, in which it must return the loss of the same minibatch and nothing else. A model that
    draws chance (dropout) or keeps statistics (batch norm) does so in each try: fix the one, and
    know of the other.

    Memory: one copy of the parameters, during the step. Time: at least one forward pass more than
    SGD; ``extra_forwards`` counts them. Each try waits for the device.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        c: float = 0.1,
        beta: float = 0.9,
        reset: Reset = "grow",
        growth: float = GROWTH,
        max_backtracks: int = 100,
    ) -> None:
        for name, value in (("c", c), ("beta", beta)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}")
        if reset not in RESETS:
            raise ValueError(f"reset must be one of {', '.join(RESETS)}, got {reset!r}")
        if not 1 <= growth < math.inf:
            raise ValueError(f"growth must be finite and at least 1, got {growth}")
        if max_backtracks < 0:
            raise ValueError(f"max_backtracks must be at least 0, got {max_backtracks}")
        settings = {
            "c": c,
            "beta": beta,
            "reset": reset,
            "growth": growth,
            "max_backtracks": max_backtracks,
        }
        super().__init__(params, {"lr": lr, **settings})
        self._remember(None, 0)

    @property
    def extra_forwards(self) -> int:
        """Forward passes so far beyond the one of each step; part of ``state_dict()``."""
        return self._memory["extra_forwards"]

    @property
    def step_size(self) -> float | None:
        """η of the last search, taken or last tried; None before the first."""
        return self._memory["step_size"]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group; only its ``lr`` may be its own."""
        group = self.defaults | param_group
        if not 0 <= float(group["lr"]) < math.inf:
            raise ValueError(f"lr must be finite and at least 0, got {group['lr']}")
        for name, value in self.defaults.items():
            if name != "lr" and group[name] != value:
                raise ValueError(
                    f"{name} is the optimizer's, {value!r}, got {group[name]!r} for a group; "
                    f"there is one search for all groups"
                )
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Search, then step; returns the loss before the step, as ``closure`` returned it."""
        if closure is None:
            raise TypeError(
                f"LineSearch.step() needs a closure, since it evaluates the loss several times; "
                f"call optimizer.step(closure) with {CLOSURE}"
            )
        with torch.enable_grad():
            returned = closure()
        loss = torch.as_tensor(returned).detach()
        if loss.numel() != 1:
            raise ValueError(
                f"the closure must return the loss, one number, got shape {tuple(loss.shape)}"
            )
        largest = max(float(group["lr"]) for group in self.param_groups)
        lines = self._lines(largest)
        slope = _slope(lines)
        if loss.isfinite() and 0 < slope < math.inf and largest > 0:
            self._search(closure, loss, lines, slope, largest)
        return returned

    def _lines(self, largest: float) -> list[_Line]:
        lines: list[_Line] = []
        for group in self.param_groups:
            ratio = float(group["lr"]) / largest if largest > 0 else 0.0
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.grad.is_sparse or parameter.is_complex():
                    raise TypeError(
                        "LineSearch takes real parameters with dense gradients; make the "
                        "embedding with sparse=False, or train torch.view_as_real of the parameter"
                    )
                lines.append(_Line(parameter, parameter.detach().clone(), parameter.grad, ratio))
        return lines

    def _search(
        self,
        closure: Callable[[], Any],
        loss: Tensor,
        lines: Sequence[_Line],
        slope: float,
        largest: float,
    ) -> None:
        """Leave the parameters at the first step that passes, or as they were."""
        settings = self.defaults
        size = self._begin(largest)
        found, forwards = False, 0
        try:
            for backtracks in range(settings["max_backtracks"] + 1):
                size *= settings["beta"] if backtracks else 1.0
                _move(lines, size)
                forwards += 1
                tried = _probe(closure, lines)
                # In the loss's own precision: a decrease too small for it asks for no increase.
                if tried.isfinite() and tried <= loss - settings["c"] * size * slope:
                    found = True
                    break
        finally:
            if not found:
                _move(lines, 0.0)
        self._remember(size, self.extra_forwards + forwards)

    def _begin(self, largest: float) -> float:
        """Algorithm 2."""
        last = self.step_size
        if last is None or self.defaults["reset"] == "max":
            return largest
        growth = self.defaults["growth"] if self.defaults["reset"] == "grow" else 1.0
        return min(last * growth, largest)

    @property
    def _memory(self) -> dict[str, Any]:
        # Torch saves and loads what state holds under other keys than tensors.
        return cast("dict[Any, Any]", self.state)["search"]

    def _remember(self, step_size: float | None, extra_forwards: int) -> None:
        # A new dict each time: a state_dict handed out earlier stays as it was.
        memory = {"step_size": step_size, "extra_forwards": extra_forwards}
        cast("dict[Any, Any]", self.state)["search"] = memory


class _Line(NamedTuple):
    """The half-line along which one tensor moves: start − η · ratio · gradient."""

    parameter: Tensor
    start: Tensor
    gradient: Tensor
    ratio: float


def _slope(lines: Sequence[_Line]) -> float:
    """How fast the loss falls with η at first: ‖g‖², weighted with the groups' ratios."""
    if not lines:
        return 0.0
    device = lines[0].gradient.device
    norms = torch.stack(
        [torch.linalg.vector_norm(precise(line.gradient)).to(device) for line in lines]
    )
    return sum(line.ratio * norm**2 for line, norm in zip(lines, norms.tolist(), strict=True))


def _move(lines: Sequence[_Line], size: float) -> None:
    """Each time from the start, so that nothing drifts; at 0, exactly there."""
    for line in lines:
        line.parameter.copy_(line.start)
        if size:
            line.parameter.add_(line.gradient, alpha=-size * line.ratio)


def _probe(closure: Callable[[], Any], lines: Sequence[_Line]) -> Tensor:
    versions = [line.gradient._version for line in lines]
    try:
        loss = torch.as_tensor(closure()).detach()
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        raise RuntimeError(
            f"the closure called backward() in a try of the line search, where gradients are off; "
            f"write it as {CLOSURE}"
        ) from error
    kept = all(
        line.parameter.grad is line.gradient and line.gradient._version == version
        for line, version in zip(lines, versions, strict=True)
    )
    if not kept:
        raise RuntimeError(
            f"the closure changed the gradients in a try of the line search; write it as {CLOSURE}"
        )
    return loss
