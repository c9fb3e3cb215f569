"""A compiled optimizer step is compiled once, however often the rate moves."""

import pytest
import torch
from torch import nn, optim
from torch._dynamo.utils import counters
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers.optimization import GreedyLR as TransformersGreedyLR

from lrpilot.torch import ScheduledLR
from scheduled import Seen

MOVES = 12


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def ours(optimizer):
    return ScheduledLR(optimizer, Seen())


def none(optimizer):
    return None


def torchs(optimizer):
    return ReduceLROnPlateau(optimizer, patience=0, factor=0.9)


def transformers_(optimizer):
    return TransformersGreedyLR(optimizer, patience=0, factor=0.9, min_lr=1e-6)


def graphs_of(make, *, lr, scheduler, backend: str = "eager") -> tuple[int, list[float]]:
    """How many graphs a run compiles, and the weight after each step."""
    model = nn.Linear(2, 1, bias=False)
    nn.init.ones_(model.weight)
    optimizer = make(model.parameters(), lr=lr)
    one = scheduler(optimizer)
    step = torch.compile(optimizer.step, backend=backend)
    weights = []
    for loss in range(MOVES):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        step()
        if one is not None:
            one.step(float(loss + 1))  # worse each time
        weights.append(model.weight[0, 0].item())
    return counters["stats"]["unique_graphs"], weights


@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("make", [optim.SGD, optim.AdamW], ids=["SGD", "AdamW"])
def test_a_tensor_rate_that_moves_at_every_step_needs_no_further_graph(make, backend):
    still, _ = graphs_of(make, lr=torch.tensor(0.1), scheduler=none, backend=backend)
    torch._dynamo.reset()
    counters.clear()
    moved, weights = graphs_of(make, lr=torch.tensor(0.1), scheduler=ours, backend=backend)
    assert moved == still
    # The compiled step did see each new rate.
    eager, rates = nn.Parameter(torch.ones(1)), [0.1 * 0.9**at for at in range(MOVES)]
    optimizer = make([eager], lr=0.1)
    expected = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        eager.grad = torch.ones(1)
        optimizer.step()
        expected.append(eager.item())
    assert weights == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_plain_sgd_needs_one_graph_where_transformers_greedy_lr_needs_more():
    counted = {}
    for scheduler in (ours, torchs, transformers_):
        torch._dynamo.reset()
        counters.clear()
        counted[scheduler], _ = graphs_of(optim.SGD, lr=torch.tensor(0.1), scheduler=scheduler)
    assert counted[ours] == counted[torchs] == 1
    assert counted[transformers_] > 1


@pytest.mark.filterwarnings("ignore")
def test_the_steps_of_a_compiled_optimizer_are_seen():
    weight = nn.Parameter(torch.ones(1))
    optimizer = optim.SGD([weight], lr=torch.tensor(0.1))
    scheduler = ours(optimizer)
    step = torch.compile(optimizer.step, backend="eager")
    for window in ((4.0, 3.0), (2.0, 1.0), (5.0, 6.0)):
        weight.grad = torch.ones(1)
        scheduler.step(window[0])
        step()
        scheduler.step(window[1])
    assert scheduler.state.losses == (3.5, 1.5, 5.5)
