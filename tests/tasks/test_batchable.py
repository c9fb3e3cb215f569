"""Losses that many runs share are, for each run, what it would get alone."""

import pytest
import torch
from torch.func import grad_and_value, vmap
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from lrpilot.tasks import TASKS

SEEDS = (0, 1, 2)


class InDoublePrecision(TorchFunctionMode):
    """Data that losses close over has single precision; here all operations get double."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*tree_map(doubled, args), **tree_map(doubled, kwargs or {}))


def doubled(x):
    return x.double() if isinstance(x, torch.Tensor) and x.dtype == torch.float32 else x


def stacked(dicts):
    return {name: torch.stack([d[name] for d in dicts]).double() for name in dicts[0]}


def of_run(values, row):
    return {name: value[row] for name, value in values.items()}


@pytest.fixture
def runs(request):
    """A problem, parameters a little away from the start, fixed values and minibatches of seeds."""
    problems = [request.param.problem(seed) for seed in SEEDS]
    values = stacked([problem.parameters for problem in problems])
    generator = torch.Generator().manual_seed(0)
    for value in values.values():
        value += 0.01 * torch.rand(value.shape, generator=generator)
    fixed = stacked([problem.fixed for problem in problems]) if problems[0].fixed else {}
    batches = [problem.draw() for problem in problems]
    batch = tuple(doubled(torch.stack(parts)) for parts in zip(*batches, strict=True))
    return problems[0], values, fixed, batch


over_tasks = pytest.mark.parametrize(
    "runs",
    [task for task in TASKS.values() if task.batchable],
    ids=lambda task: task.name,
    indirect=True,
)


@over_tasks
def test_losses_and_gradients_of_many_runs_are_those_of_each(runs):
    problem, values, fixed, batch = runs

    def loss(values, fixed, batch):
        return problem.loss({**values, **fixed}, batch)

    with InDoublePrecision():
        gradients, losses = vmap(grad_and_value(loss))(values, fixed, batch)
        for row in range(len(SEEDS)):
            leaves = {k: v.clone().requires_grad_() for k, v in of_run(values, row).items()}
            alone = loss(leaves, of_run(fixed, row), tuple(part[row] for part in batch))
            alone.backward()
            torch.testing.assert_close(losses[row], alone.detach(), rtol=1e-9, atol=1e-12)
            for name, leaf in leaves.items():
                torch.testing.assert_close(gradients[name][row], leaf.grad, rtol=1e-9, atol=1e-11)


@over_tasks
@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_losses_of_many_runs_are_those_of_each(runs, split):
    problem, values, fixed, _ = runs
    everything = {**values, **fixed}
    with InDoublePrecision(), torch.no_grad():
        losses = vmap(lambda values: problem.held_out_loss(values, split))(everything)
        for row in range(len(SEEDS)):
            alone = problem.held_out_loss(of_run(everything, row), split)
            torch.testing.assert_close(losses[row], alone, rtol=1e-9, atol=1e-12)


@over_tasks
def test_one_seeds_losses_serve_the_values_and_minibatches_of_another(runs, request):
    _, values, fixed, batch = runs
    task = next(task for task in TASKS.values() if request.node.callspec.id == task.name)
    everything, part = of_run({**values, **fixed}, 1), tuple(part[1] for part in batch)
    with InDoublePrecision(), torch.no_grad():
        first, second = (
            (problem.loss(everything, part), problem.held_out_loss(everything, "validation"))
            for problem in (task.problem(seed) for seed in SEEDS[:2])
        )
    assert first == second
