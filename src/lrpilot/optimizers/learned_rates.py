"""How a rate follows its hypergradient, whatever the optimizer's direction and granularity.

What is learned is a ``factor`` or an ``offset``: numbers in the parameter group (one rate for all,
or per group) or in the tensor's state (per tensor), and a tensor there (per number).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

Form = Literal["multiplicative", "additive"]
Per = Literal["global", "group", "tensor", "parameter"]

# What each form learns, and its value before anything is learned.
LEARNED = {"multiplicative": ("factor", 1.0), "additive": ("offset", 0.0)}
GRANULARITIES = ("global", "group", "tensor", "parameter")

# A factor of 0 or infinity would stay so for ever.
LEAST_FACTOR, GREATEST_FACTOR = 1e-10, 1e10


class Move(NamedTuple):
    """One tensor that has a gradient, and what is known of it."""

    group: dict[str, Any]
    state: dict[str, Any]
    parameter: Tensor
    gradient: Tensor


def check_learning(form: str, per: str) -> None:
    """``form`` and ``per`` are names that there are."""
    if form not in LEARNED:
        raise ValueError(f"form must be one of {', '.join(LEARNED)}, got {form!r}")
    if per not in GRANULARITIES:
        raise ValueError(f"per must be one of {', '.join(GRANULARITIES)}, got {per!r}")


def add_group(
    optimizer: Optimizer, add: Callable[[dict[str, Any]], None], added: dict[str, Any]
) -> None:
    """Check a group and add it, with what is already learned for all groups."""
    defaults = optimizer.defaults
    group = defaults | added
    for name in ("form", "per"):
        if group[name] != defaults[name]:
            raise ValueError(
                f"{name} is the optimizer's, {defaults[name]!r}, got {group[name]!r} for a group; "
                f"use a second optimizer"
            )
    for name in ("lr", "hyper_lr", "weight_decay"):
        if not 0 <= float(group[name]) < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {group[name]}")
    if group["form"] == "multiplicative" and group["hyper_lr"] >= 1:
        raise ValueError(
            f"hyper_lr must be below 1, got {group['hyper_lr']}: it is the largest relative change "
            f"of a rate in one step; 0.02 is the default"
        )
    groups = optimizer.param_groups
    add(added)
    if any(parameter.is_complex() for parameter in groups[-1]["params"]):
        groups.pop()
        raise TypeError("complex parameters are not supported; train torch.view_as_real of them")
    key, neutral = LEARNED[group["form"]]
    if group["per"] == "global":
        groups[-1].setdefault(key, groups[0].get(key, neutral))
    elif group["per"] == "group":
        groups[-1].setdefault(key, neutral)


def evaluate(closure: Callable[[], Any] | None) -> Any:
    """What the closure returns, gradients enabled; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def moves_of(optimizer: Optimizer) -> list[Move]:
    """The tensors to move, with the gradient of the loss and its regularisation."""
    moves: list[Move] = []
    for group in optimizer.param_groups:
        decay = 0.0 if group.get("decoupled") else group["weight_decay"]
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                raise RuntimeError(
                    f"{type(optimizer).__name__} takes no sparse gradients; make the embedding "
                    f"with sparse=False"
                )
            if decay:
                gradient = gradient.add(parameter, alpha=decay)
            state = optimizer.state[parameter]
            state.setdefault("direction", torch.zeros_like(parameter))
            moves.append(Move(group, state, parameter, gradient))
    return moves


def learn(optimizer: Optimizer, moves: Sequence[Move]) -> None:
    """Move the rates against the hypergradients of the steps that led here."""
    per = optimizer.defaults["per"]
    if per == "parameter":
        for move in moves:
            _learn_each(move)
        return
    products = _inner_products(moves)
    if per == "tensor":
        for move, own in zip(moves, products, strict=True):
            _learn_one(move.group, move.state, own)
        return
    for group in optimizer.param_groups:
        # Each group keeps a copy of the global rate, which moves as all the others do.
        pooled = _Products(0.0, 0.0, 0.0)
        for move, own in zip(moves, products, strict=True):
            if per == "global" or move.group is group:
                pooled = _Products(*(a + b for a, b in zip(pooled, own, strict=True)))
        _learn_one(group, group, pooled)


class _Products(NamedTuple):
    """Inner products of a gradient g and a sensitivity s, with which the parameters fell."""

    gs: float
    gg: float
    ss: float


def _inner_products(moves: Sequence[Move]) -> list[_Products]:
    """Of each tensor; the device is waited for once."""
    sums: list[Tensor] = []
    for move in moves:
        g, d = (precise(x).reshape(-1) for x in (move.gradient, move.state["direction"]))
        sums.append(torch.dot(g, d))
        if move.group["form"] == "multiplicative":
            sums += [torch.dot(g, g), torch.dot(d, d)]
    if not sums:
        return []
    numbers = iter(torch.stack([each.to(sums[0].device) for each in sums]).tolist())
    products: list[_Products] = []
    for move in moves:
        if move.group["form"] == "multiplicative":
            gd, gg, dd = next(numbers), next(numbers), next(numbers)
            # With rate = lr · factor, the parameters fell by lr · d for each unit of the factor.
            lr = move.state.get("last_lr", 0.0)
            products.append(_Products(lr * gd, gg, lr * lr * dd))
        else:
            products.append(_Products(next(numbers), 0.0, 0.0))
    return products


def _learn_one(group: dict[str, Any], holder: dict[str, Any], products: _Products) -> None:
    """Move the factor or the offset, a number, that ``holder`` keeps."""
    key, neutral = LEARNED[group["form"]]
    learned, hyper_lr = holder.setdefault(key, neutral), group["hyper_lr"]
    if group["form"] == "multiplicative":
        sizes = math.sqrt(products.gg) * math.sqrt(products.ss)  # apart: no overflow of the product
        cosine = products.gs / sizes if sizes > 0 else 0.0
        # Rounding can leave the cosine just outside.
        moved = learned * (1 + hyper_lr * min(max(cosine, -1.0), 1.0))
        moved = min(max(moved, LEAST_FACTOR), GREATEST_FACTOR)
    else:
        cosine = products.gs
        # Not below -lr; but where lr has fallen since, what was learned is not forgotten.
        moved = max(learned + hyper_lr * products.gs, min(learned, -float(group["lr"])))
    if math.isfinite(cosine) and math.isfinite(moved):
        holder[key] = moved


def _learn_each(move: Move) -> None:
    """Move each number's own factor or offset."""
    group, state = move.group, move.state
    key, neutral = LEARNED[group["form"]]
    if key not in state:
        state[key] = torch.full_like(precise(move.parameter), neutral)
    learned, hyper_lr = state[key], group["hyper_lr"]
    g, d = precise(move.gradient), precise(state["direction"])
    if group["form"] == "multiplicative":
        lr = state.get("last_lr", 0.0)
        cosine = g.sign() * d.sign() * float(lr > 0)
        moved = (learned * (1 + hyper_lr * cosine)).clamp_(LEAST_FACTOR, GREATEST_FACTOR)
    else:
        moved = torch.maximum(learned + hyper_lr * (g * d), learned.clamp(max=-float(group["lr"])))
    finite = torch.isfinite(g) & torch.isfinite(d) & torch.isfinite(moved)
    state[key] = torch.where(finite, moved, learned)


def precise(x: Tensor) -> Tensor:
    """In float32 at least: half precision would lose small changes of a rate."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def descend(move: Move) -> None:
    """Step against the direction, and remember at which base rate."""
    rate = _rate(move.group, move.state)
    if isinstance(rate, Tensor):
        move.parameter.sub_(rate * move.state["direction"])
    else:
        move.parameter.add_(move.state["direction"], alpha=-rate)
    move.state["last_lr"] = float(move.group["lr"])


def _rate(group: dict[str, Any], state: dict[str, Any]) -> float | Tensor:
    key, neutral = LEARNED[group["form"]]
    learned: float | Tensor = group[key] if key in group else state.get(key, neutral)
    lr = float(group["lr"])
    if group["form"] == "multiplicative":
        return lr * learned
    return (lr + learned).clamp(min=0) if isinstance(learned, Tensor) else max(lr + learned, 0.0)


def rates_of(optimizer: Optimizer) -> list[list[float | Tensor]]:
    """The rate of each tensor of each group, at the group's present ``lr``."""
    rates: list[list[float | Tensor]] = []
    for group in optimizer.param_groups:
        own: list[float | Tensor] = []
        for parameter in group["params"]:
            # Not optimizer.state[parameter], which would leave an empty state behind.
            rate = _rate(group, optimizer.state.get(parameter, {}))
            if group["per"] == "parameter" and not isinstance(rate, Tensor):
                rate = torch.full_like(precise(parameter.detach()), rate)
            own.append(rate)
        rates.append(own)
    return rates


def check_same_learning(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    """A state of another form or granularity would be ignored in silence."""
    for group in state_dict["param_groups"]:
        for name in ("form", "per"):
            ours, theirs = optimizer.defaults[name], group.get(name)
            if theirs != ours:
                raise ValueError(
                    f"the state was saved with {name}={theirs!r} and this optimizer has {ours!r}, "
                    f"whose rates it does not hold; make the optimizer with {name}={theirs!r}"
                )


def restore_precision(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    """Undo torch's rounding of a loaded state to the type of its parameter."""
    if optimizer.defaults["per"] != "parameter":
        return
    key, _ = LEARNED[optimizer.defaults["form"]]
    saved = [at for group in state_dict["param_groups"] for at in group["params"]]
    ours = [p for group in optimizer.param_groups for p in group["params"]]
    for at, parameter in zip(saved, ours, strict=True):
        state = state_dict["state"].get(at, {})
        if key in state:
            optimizer.state[parameter][key] = state[key].to(parameter.device)
