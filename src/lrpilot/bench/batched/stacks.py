"""Stacks of runs: the values of many, one row each; their minibatches, gradients and losses.

``seed_of`` says which problem each run has (runs,); problems of one task differ in their seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import vmap

from lrpilot.tasks import Batch, Problem
from lrpilot.tasks.protocol import Split

Stack = dict[str, Tensor]  # each (runs, *shape)
Loss = Callable[[Stack, Batch], Tensor]


def stacked(of_seeds: Sequence[Mapping[str, Tensor]], seed_of: Tensor) -> Stack:
    """The values of each run, from those of each seed."""
    return {
        name: torch.stack([of_seed[name] for of_seed in of_seeds])[seed_of] for name in of_seeds[0]
    }


def drawn(problems: Sequence[Problem], seed_of: Tensor) -> Batch:
    """The next minibatch of each run, drawn once per seed."""
    batches = [problem.draw() for problem in problems]
    return tuple(torch.stack(parts)[seed_of] for parts in zip(*batches, strict=True))


def gradients(
    loss: Loss,
    values: Stack,
    fixed: Mapping[str, Tensor],
    batch: Batch,
    objective: Callable[[Tensor], Tensor] = lambda losses: losses,
) -> tuple[Tensor, Stack]:
    """The losses (runs,) at ``values`` and ``fixed``, and the gradients of ``objective`` of them.

    loss: of all runs at once, as `torch.func.vmap` makes it.
    """
    leaves = {name: value.requires_grad_() for name, value in values.items()}
    losses = loss({**leaves, **fixed}, batch)
    found = torch.autograd.grad(objective(losses).sum(), list(leaves.values()))
    for value in values.values():
        value.requires_grad_(False)
    return losses.detach(), dict(zip(values, found, strict=True))


def flattened(stack: Stack) -> Tensor:
    """Each run's values as one row: (runs, numbers)."""
    return torch.cat([value.reshape(len(value), -1) for value in stack.values()], dim=1)


def held_out(problem: Problem, values: Stack, split: Split, at_once: int) -> Tensor:
    """The losses on a held-out split (runs,), in float64, so many runs at a time."""

    def loss(values: Stack) -> Tensor:
        return problem.held_out_loss(values, split)

    with torch.no_grad():
        return vmap(loss, chunk_size=at_once)(values).double()
