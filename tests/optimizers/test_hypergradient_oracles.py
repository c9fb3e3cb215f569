"""Hypergradients are derivatives: finite differences, and gdtuo, which backpropagates for them."""

import pytest
import torch
from gradient_descent_the_ultimate_optimizer import gdtuo

from lrpilot.optimizers import HypergradientAdam, HypergradientSGD

LAST = (
    4  # the step at whose minibatch the derivative is taken; the rates are those of the one before
)


def data(step):
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 3, generator=generator, dtype=torch.float64)
    return x, x.square().sum(1) - 1


def network():
    generator = torch.Generator().manual_seed(99)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((4, 3), (4,), (4,))
    ]


def loss_of(parameters, step, decay=0.0):
    x, y = data(step)
    weight, bias, out = parameters
    loss = ((torch.tanh(x @ weight.T + bias) @ out - y) ** 2).mean()
    return loss + decay / 2 * sum(p.square().sum() for p in parameters)


# How it is made, and the decay that is part of its loss.
KINDS = {
    "sgd": (HypergradientSGD, {}, 0.0),
    "sgd with a penalty": (HypergradientSGD, {"weight_decay": 0.3}, 0.3),
    "momentum": (HypergradientSGD, {"momentum": 0.9}, 0.0),
    "nesterov": (HypergradientSGD, {"momentum": 0.9, "nesterov": True}, 0.0),
    "adam": (HypergradientAdam, {}, 0.0),
    "adam with a penalty": (HypergradientAdam, {"weight_decay": 0.3}, 0.3),
    "adamw": (HypergradientAdam, {"weight_decay": 0.3, "decoupled": True}, 0.0),
}
# Of each granularity, a few rates: where they are kept.
UNITS = {
    "global": [("every group",)],
    "group": [("group", 0), ("group", 1)],
    "tensor": [("tensor", 0), ("tensor", 1), ("tensor", 2)],
    "parameter": [("number", 0, 7), ("number", 1, 2), ("number", 2, 3)],
}
CASES = [(per, unit) for per, units in UNITS.items() for unit in units]


def start(kind, form, per):
    parameters = network()
    make, settings, _ = KINDS[kind]
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 0.01}]
    return parameters, make(groups, 0.02, form=form, per=per, hyper_lr=0.0, **settings)


def train(optimizer, parameters, steps):
    for step in steps:
        optimizer.zero_grad()
        loss_of(parameters, step).backward()
        optimizer.step()


def learned(optimizer, parameters, unit, form):
    """A view of the factor or offset of a unit, to read and write."""
    key = {"multiplicative": "factor", "additive": "offset"}[form]
    where, *at = unit
    if where == "every group":
        return [(group, key) for group in optimizer.param_groups]
    if where == "group":
        return [(optimizer.param_groups[at[0]], key)]
    state = optimizer.state[parameters[at[0]]]
    return [(state, key)] if where == "tensor" else [(state[key].view(-1), at[1])]


def loss_if_nudged(kind, form, per, unit, by):
    """The last minibatch's loss if one rate had differed in the step before."""
    parameters, optimizer = start(kind, form, per)
    train(optimizer, parameters, range(LAST - 1))
    for holder, key in learned(optimizer, parameters, unit, form):
        holder[key] += by
    train(optimizer, parameters, [LAST - 1])
    return loss_of(parameters, LAST, KINDS[kind][2]).item()


def difference(kind, form, per, unit, by=1e-5):
    above, below = (loss_if_nudged(kind, form, per, unit, sign * by) for sign in (1, -1))
    return (above - below) / (2 * by)


def moved(kind, form, per, unit, hyper_lr):
    """By how much the last step moves what is learned, and the parameters before and after."""
    parameters, optimizer = start(kind, form, per)
    train(optimizer, parameters, range(LAST - 1))
    before = [p.detach().clone() for p in parameters]
    train(optimizer, parameters, [LAST - 1])
    after = [p.detach().clone().requires_grad_() for p in parameters]
    (holder, key), *_ = learned(optimizer, parameters, unit, form)
    was = float(holder[key])
    for group in optimizer.param_groups:
        group["hyper_lr"] = hyper_lr
    train(optimizer, parameters, [LAST])
    (holder, key), *_ = learned(optimizer, parameters, unit, form)
    return float(holder[key]) - was, before, after


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("per", "unit"), CASES)
def test_an_offset_moves_against_the_derivative_of_the_loss_in_the_last_rate(kind, per, unit):
    by, _, _ = moved(kind, "additive", per, unit, hyper_lr=1e-3)
    expected = -difference(kind, "additive", per, unit)
    assert abs(expected) > 1e-4
    assert by / 1e-3 == pytest.approx(expected, rel=1e-5, abs=1e-7)


def part_of(tensors, unit):
    """The numbers whose rate it is."""
    where, *at = unit
    if where == "every group":
        return torch.cat([t.reshape(-1) for t in tensors])
    if where == "group":
        return torch.cat([t.reshape(-1) for t in (tensors[:2], tensors[2:])[at[0]]])
    return tensors[at[0]].reshape(-1) if where == "tensor" else tensors[at[0]].reshape(-1)[at[1]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("per", "unit"), CASES)
def test_a_factor_moves_by_the_derivative_over_the_lengths_of_gradient_and_step(kind, per, unit):
    by, before, after = moved(kind, "multiplicative", per, unit, hyper_lr=0.1)
    loss_of(after, LAST, KINDS[kind][2]).backward()
    gradient = part_of([p.grad for p in after], unit).norm().item()
    step = part_of([q.detach() - p for p, q in zip(before, after, strict=True)], unit).norm().item()
    derivative = difference(kind, "multiplicative", per, unit)
    assert by == pytest.approx(-0.1 * derivative / (gradient * step), rel=1e-4)


class Twin(torch.nn.Module):
    """The network as a module, since that is what the oracle takes."""

    def __init__(self):
        super().__init__()
        weight, bias, out = network()
        self.weight = torch.nn.Parameter(weight.detach().float())
        self.bias = torch.nn.Parameter(bias.detach().float())
        self.out = torch.nn.Parameter(out.detach().float())

    def forward(self, step):
        x, y = (t.float() for t in data(step))
        return ((torch.tanh(x @ self.weight.T + self.bias) @ self.out - y) ** 2).mean()


def by_oracle(optimizer, name="alpha", steps=15):
    """Losses and rates of gdtuo, which backpropagates into the rate that made the step."""
    module = Twin()
    wrapped = gdtuo.ModuleWrapper(module, optimizer=optimizer)
    wrapped.initialize()
    losses, rates = [], []
    for step in range(steps):
        wrapped.begin()
        loss = module(step)
        wrapped.zero_grad()
        loss.backward()
        wrapped.step()
        losses.append(loss.item())
        rates.append(optimizer.parameters[name].item())
    return losses, rates


def by_ours(make, steps=15):
    module = Twin()
    optimizer = make(module)
    losses, rates = [], []
    for step in range(steps):
        optimizer.zero_grad()
        loss = module(step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        rates.append([float(rate) for rate in optimizer.rates()[0]])
    return losses, rates


def test_sgd_agrees_with_gradient_descent_the_ultimate_optimizer():
    losses, rates = by_oracle(gdtuo.SGD(0.02, optimizer=gdtuo.SGD(1e-3)))
    ours, own = by_ours(
        lambda module: HypergradientSGD(module.parameters(), 0.02, hyper_lr=1e-3, form="additive")
    )
    assert ours == pytest.approx(losses, rel=1e-4)
    assert [rate for rate, *_ in own] == pytest.approx(rates, rel=1e-4)
    assert rates[-1] > 1.2 * 0.02  # else they would agree on nothing


@pytest.mark.parametrize(("at", "name"), [(0, "weight"), (1, "bias"), (2, "out")])
def test_sgd_per_tensor_agrees_with_gradient_descent_the_ultimate_optimizer(at, name):
    every = [(each, 0.02) for each in ("weight", "bias", "out")]
    losses, rates = by_oracle(gdtuo.SGDPerParam(every, optimizer=gdtuo.SGD(1e-3)), f"{name}_alpha")
    ours, own = by_ours(
        lambda module: HypergradientSGD(
            module.parameters(), 0.02, hyper_lr=1e-3, form="additive", per="tensor"
        )
    )
    assert ours == pytest.approx(losses, rel=1e-4)
    assert [row[at] for row in own] == pytest.approx(rates, rel=1e-4)


def test_adam_agrees_with_gradient_descent_the_ultimate_optimizer():
    """Its second moments begin at 10 ** log_eps and not at 0, so log_eps is small here."""
    losses, rates = by_oracle(gdtuo.AdamBaydin(0.02, log_eps=-12.0, optimizer=gdtuo.SGD(1e-3)))
    ours, own = by_ours(
        lambda module: HypergradientAdam(
            module.parameters(), 0.02, hyper_lr=1e-3, form="additive", eps=1e-12
        )
    )
    assert ours == pytest.approx(losses, rel=1e-3)
    assert [rate for rate, *_ in own] == pytest.approx(rates, rel=1e-3)
    assert abs(rates[-1] - 0.02) > 0.2 * 0.02
