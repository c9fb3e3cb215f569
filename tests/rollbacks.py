"""Models that are trained, watched and rolled back by hand."""

import torch
from torch import nn, optim

from lrpilot.torch.snapshots import Rollback, Snapshots

OPTIMIZERS = {
    "sgd": lambda params: optim.SGD(params, lr=0.1),
    "momentum": lambda params: optim.SGD(params, lr=0.1, momentum=0.9),
    "dampened": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.5),
    "adamw": lambda params: optim.AdamW(params, lr=0.01, foreach=False),
    "adamw, foreach": lambda params: optim.AdamW(params, lr=0.01, foreach=True, amsgrad=True),
    "adamw, fused": lambda params: optim.AdamW(params, lr=0.01, fused=True),
    "adamw, tensor rate": lambda params: optim.AdamW(params, lr=torch.tensor(0.01)),
    "rmsprop": lambda params: optim.RMSprop(params, lr=0.01, momentum=0.9, centered=True),
    "nadam": lambda params: optim.NAdam(params, lr=0.01),
    "rprop": lambda params: optim.Rprop(params, lr=0.01),
    "lbfgs": lambda params: optim.LBFGS(params, lr=0.1, max_iter=2),
}


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def train(model, optimizer, steps) -> None:
    for step in steps:
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))

        def closure(inputs=inputs):
            optimizer.zero_grad()
            loss = model(inputs).square().sum()
            loss.backward()
            return loss

        optimizer.step(closure)


def copied(value):
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, list):
        return [copied(item) for item in value]
    if isinstance(value, dict):
        return {name: copied(item) for name, item in value.items()}
    return value


def contents(model, optimizer) -> list:
    """Weights, buffers and optimizer state."""
    states = [optimizer.state.get(param, {}) for param in model.parameters()]
    return [copied(value) for value in (*model.parameters(), *model.buffers())] + [
        copied(state) for state in states
    ]


def equal(ours, theirs) -> bool:
    if isinstance(ours, torch.Tensor):
        return isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[at], theirs[at]) for at in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs))
    return type(ours) is type(theirs) and ours == theirs


def addresses(model, optimizer) -> list[int]:
    values = [*model.parameters(), *model.buffers()]
    values += [value for state in optimizer.state.values() for value in state.values()]
    return [value.data_ptr() for value in values if isinstance(value, torch.Tensor)]


def healthy(snapshots: Snapshots, *steps: int) -> None:
    for step in steps:
        assert snapshots.observed(step, healthy=True, alarm=False) is None


def alarm(snapshots: Snapshots, step: int, **at) -> Rollback | None:
    return snapshots.observed(step, healthy=False, alarm=True, **at)


def place(where: str, tmp_path):
    """What to pass as ``where``."""
    return tmp_path / "snapshots" if where == "folder" else where


def quadratic(**settings):
    """One weight that a step of SGD sets to whatever is asked for."""
    weight = nn.Parameter(torch.zeros(1))
    model = nn.ParameterList([weight])
    optimizer = optim.SGD([weight], lr=1.0)
    snapshots = Snapshots(model, optimizer, **settings)

    def step_to(value: float) -> None:
        weight.grad = weight.detach() - value
        optimizer.step()

    return weight, snapshots, step_to
