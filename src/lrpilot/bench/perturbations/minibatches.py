"""Disturbed minibatches: wrong targets, and inputs of another distribution.

A minibatch's last tensor holds its targets: labels, ratings, or the noise that a landscape adds to
them; a wrong target then has a gross error for its noise. Its first floating-point tensor holds
what is drawn from the distribution that shifts. A minibatch of indices alone has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lrpilot.bench.perturbations.stages import Chance, Moment, Perturbation, like
from lrpilot.tasks import Batch

LABEL_NOISE = 0.2  # of the targets
GROSS_ERROR = 10.0  # times the root mean square of the minibatch's targets
BAD_BATCHES = 3  # in a row
BAD_STRETCHES = 5  # parts of the budget; bad batches stand at the end of each but the last
SHIFT_AT = 0.5  # of the budget
SHIFT = 1.0  # deviation of the logarithm of a feature's factor


def label_noise(name: str, seeds: Sequence[int]) -> Perturbation:
    """A share of the targets is wrong at every step."""
    return Perturbation(batch=_wrong_targets(name, seeds, LABEL_NOISE, lambda step: True))


def bad_batches(name: str, seeds: Sequence[int], total_steps: int) -> Perturbation:
    """All targets are wrong for a few steps, several times in a run."""
    starts = [round(k * total_steps / BAD_STRETCHES) for k in range(1, BAD_STRETCHES)]
    bad = {start + k for start in starts for k in range(1, BAD_BATCHES + 1)}
    return Perturbation(batch=_wrong_targets(name, seeds, 1.0, bad.__contains__))


def last_bad_batch(total_steps: int) -> int:
    """The last step at which `bad_batches` disturbs."""
    return round((BAD_STRETCHES - 1) * total_steps / BAD_STRETCHES) + BAD_BATCHES


def _wrong_targets(
    name: str, seeds: Sequence[int], share: float, disturbs: Callable[[int], bool]
) -> Callable[[Batch, Moment], Batch]:
    """Labels are taken from random rows of the minibatch; numbers get gross normal errors."""
    chance = Chance(name, seeds)

    def batch(batch: Batch, moment: Moment) -> Batch:
        if not disturbs(moment.step):
            return batch
        *inputs, targets = batch
        if not targets.is_floating_point() and not any(map(torch.is_floating_point, inputs)):
            raise ValueError(_not_applicable(name, batch, "targets"))
        shape = targets.shape[1:]
        chosen = (chance.uniform(shape) < share)[moment.seed_of]
        if is_labels(targets):
            rows = chance.integers(shape[0], shape)[moment.seed_of]
            return (*inputs, torch.where(chosen, targets.gather(1, rows), targets))
        size = GROSS_ERROR * targets.square().flatten(1).mean(dim=1).sqrt()
        errors = like(size, targets) * chance.normal(shape)[moment.seed_of]
        return (*inputs, torch.where(chosen, targets + errors, targets))

    return batch


def is_labels(targets: Tensor) -> bool:
    """Whether targets are classes: integers, or zeros and ones."""
    return not targets.is_floating_point() or bool(((targets == 0) | (targets == 1)).all())


def distribution_shift(name: str, seeds: Sequence[int], total_steps: int) -> Perturbation:
    """From half of the budget on, each feature is multiplied by a log-normal factor of its own.

    What is held out stays as it was.
    """
    chance = Chance(name, seeds)
    first = round(SHIFT_AT * total_steps)
    factors: list[Tensor] = []

    def batch(batch: Batch, moment: Moment) -> Batch:
        if moment.step <= first:
            return batch
        at = next((at for at, part in enumerate(batch) if part.is_floating_point()), None)
        if at is None:
            raise ValueError(_not_applicable(name, batch, "inputs"))
        part = batch[at]
        if not factors:
            # Rows are alike; a minibatch without features has a factor for each of its numbers.
            shape = part.shape[2:] or part.shape[1:]
            factors.append((SHIFT * chance.normal(shape)).exp())
        of_runs = factors[0][moment.seed_of]
        shifted = part * (of_runs.unsqueeze(1) if of_runs.ndim < part.ndim else of_runs)
        return (*batch[:at], shifted, *batch[at + 1 :])

    return Perturbation(batch=batch)


def _not_applicable(name: str, batch: Batch, what: str) -> str:
    kinds = ", ".join(str(part.dtype).removeprefix("torch.") for part in batch)
    return (
        f"perturbation {name} does not apply to this task: its minibatches ({kinds}) are indices "
        f"and hold no {what}; leave it out"
    )
