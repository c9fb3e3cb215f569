"""The loop that all trainings here share: accumulation, precision, clipping, evaluation.

Between two evaluations nothing is read from the device, so the host runs ahead of it.
"""

import math
from collections.abc import Callable, Sequence

import torch
from run_settings import RunSettings, autocast, memory_hint
from torch import Tensor, nn

from lrpilot.bench import TrainingTrial

Batch = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Batch], Tensor]


def fit(
    trial: TrainingTrial,
    settings: RunSettings,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    total_steps: int,
    draw: Callable[[], Batch],
    loss_of: Loss,
    validation: Sequence[Batch],
    test: Sequence[Batch],
    clip: float = 0.0,
) -> None:
    """Train for ``total_steps`` optimizer steps and report validation losses, and a test loss last.

    A run whose validation loss is not finite ends there.

    draw: the next batch of training samples, on the device.
    loss_of: the mean loss of a batch.
    clip: the largest norm of the gradient; 0 leaves it as it is.
    """
    parameters = [one for group in optimizer.param_groups for one in group["params"]]
    device = parameters[0].device
    compiled = torch.compile(model) if settings.compile else model
    scheduler = trial.scheduler(optimizer, total_steps)
    evaluate_at = evaluation_steps(total_steps, settings.evaluations)
    with memory_hint(settings):
        model.train()
        for step in range(1, total_steps + 1):
            loss = torch.zeros((), device=device)
            for _ in range(settings.accumulate):
                with autocast(settings, device):
                    part = loss_of(compiled, draw()) / settings.accumulate
                part.backward()
                loss += part.detach()
            if clip:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step(loss)
            if step in evaluate_at:
                validation_loss = mean_loss(compiled, settings, loss_of, validation)
                is_last = step == total_steps
                trial.report(
                    validation_loss,
                    mean_loss(compiled, settings, loss_of, test) if is_last else None,
                )
                if not math.isfinite(validation_loss):
                    return


def evaluation_steps(total_steps: int, evaluations: int) -> set[int]:
    """The steps after which the run is evaluated, evenly spread, the last among them."""
    return {math.ceil(total_steps * k / evaluations) for k in range(1, evaluations + 1)}


@torch.no_grad()
def mean_loss(
    model: nn.Module, settings: RunSettings, loss_of: Loss, batches: Sequence[Batch]
) -> float:
    """The mean loss over the samples of ``batches``, without training on them."""
    device = batches[0][0].device
    total, count = torch.zeros((), device=device), 0
    model.eval()
    for batch in batches:
        with autocast(settings, device):
            total += loss_of(model, batch) * len(batch[0])
        count += len(batch[0])
    model.train()
    return float(total) / count
