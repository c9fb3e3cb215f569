"""A learning-rate range test that leaves everything as it was."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean, median, stdev
from typing import Any, SupportsFloat

import torch
import torch.distributed
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from lrpilot.torch.as_before import as_before, seed_generators

# Measured over six tasks and five optimizers, as was the choice of the valley; around these values
# the suggestion hardly depends on them.
FIRST = 7  # steps at the low end, of which the mean is the loss before any improvement
SMOOTHING = 0.25  # standard deviation of the kernel over the losses, in decades of rate
DEPTH = 0.5  # share of the best improvement that the valley's rates keep
SIGNIFICANT = 1.2  # least improvement, in standard deviations of a step's loss
HALF_LIFE = 3  # steps of the running mean that watches for divergence
TOLERANCE = 2  # a rise above the first losses, in improvements so far
SPREAD = 4  # least improvement for that purpose, in standard deviations of the first losses
ROUNDING = 1e-3  # the same as a share of the loss, for losses without noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """One seed's range test: the loss while the rate rises.

    rates: of the first parameter group, step by step.
    losses: each step's loss before its update; the last may be NaN or infinite.
    valley: lowest and highest rate of the suggested range; None if the loss never improved.
    diverged_at: rate of the update after which the loss rose out of reach or was no number.
    """

    seed: int
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    valley: tuple[float, float] | None
    diverged_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SuggestedLR:
    """A suggested learning rate for the first parameter group, and where it comes from.

    lr: geometric middle of the seeds' valleys.
    low, high: from the lowest to the highest rate in any seed's valley.
    """

    lr: float
    low: float
    high: float
    sweeps: tuple[Sweep, ...]

    @property
    def diverged_at(self) -> float | None:
        """Lowest rate at which a seed that had improved diverged; None if none did."""
        ends = (s.diverged_at for s in self.sweeps if s.valley and s.diverged_at is not None)
        return min(ends, default=None)

    def __str__(self) -> str:
        improved = sum(sweep.valley is not None for sweep in self.sweeps)
        seeds = f"{improved} of {len(self.sweeps)} seeds improved"
        end = "none diverged" if self.diverged_at is None else f"diverged at {self.diverged_at:.2g}"
        return f"lr {self.lr:.2g}, between {self.low:.2g} and {self.high:.2g} ({seeds}, {end})"


def suggest_lr(
    model: nn.Module,
    optimizer: Optimizer,
    train_step: Callable[[], Tensor | float],
    *,
    scaler: GradScaler | None = None,
    low: float = 1e-7,
    high: float = 100.0,
    steps: int = 125,
    seeds: Sequence[int] = (0, 1, 2),
) -> SuggestedLR:
    """Suggest a learning rate by a range test (Smith 2017, arXiv 1506.01186, section 3.3).

    For each seed the rate rises from ``low`` to ``high`` in equal ratios, one optimizer step at
    each, until the loss diverges. Where the smoothed loss keeps at least half of its best
    improvement is the valley. The suggestion is its geometric middle, over all seeds.

    Afterwards everything is as before, bit for bit, whatever happened: parameters, buffers,
    gradients, train and eval mode, the optimizer's state and rates, the scaler, and the global
    random generators of Python, NumPy and PyTorch. Not so the batches that ``train_step`` drew, and
    generators of its own: make these anew. A copy of model and optimizer state is held meanwhile.

    Under ``torch.distributed`` call it on every rank. The loss is the mean over the ranks, so all
    stop at the same step and suggest the same rate.

    Raises ValueError if the loss improved in no more than half of the seeds.

    model: all modules that ``train_step`` changes; of several, an ``nn.ModuleList``.
    optimizer: the one to find a rate for. Other groups keep their ratio to the first one.
    train_step: takes one optimizer step and returns its loss: the body of the training loop, with
        ``optimizer.step()`` and with accumulation, clipping or scaling if the loop has them, but
        without a learning-rate scheduler. It begins each sweep from the model as it is now, and
        gets other batches for each.
    scaler: the one that ``train_step`` uses.
    low, high: first and last rate of a sweep, as rates of the first group; at least two decades.
    steps: at most so many steps in each sweep; fewer than 14 per decade miss more often.
    seeds: of the global random generators, one sweep each.

    >>> import torch
    >>> from torch import nn, optim
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Linear(4, 1)
    >>> optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> def train_step():
    ...     inputs = torch.randn(32, 4)
    ...     loss = (model(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()
    ...     optimizer.zero_grad()
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> suggested = suggest_lr(model, optimizer, train_step)
    >>> 1e-4 < suggested.low < suggested.lr < suggested.high < 10
    True
    """
    ratios = _ratios(optimizer)
    rates = _geometric(low, high, steps)
    if not seeds:
        raise ValueError("seeds is empty; one seed makes one sweep")
    sweeps: list[Sweep] = []
    with as_before(model, optimizer, scaler) as before:
        for seed in seeds:
            before.restore()
            seed_generators(seed)
            losses = _swept(optimizer, ratios, rates, train_step)
            sweeps.append(_sweep(seed, rates[: len(losses)], losses))
        valleys = [sweep.valley for sweep in sweeps if sweep.valley is not None]
        # Not one seed alone: of sweeps that are nothing but noise a tenth seem to improve.
        if len(valleys) <= len(seeds) / 2:
            raise ValueError(_no_improvement(sweeps, before.parameters_changed()))
    return SuggestedLR(
        lr=math.exp(fmean(math.log(rate) for valley in valleys for rate in valley)),
        low=min(valley[0] for valley in valleys),
        high=max(valley[1] for valley in valleys),
        sweeps=tuple(sweeps),
    )


def _ratios(optimizer: Optimizer) -> list[float]:
    """Each group's base rate as a multiple of the first one's."""
    base_lrs = [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
    if not base_lrs[0] > 0:
        raise ValueError(
            f"the first parameter group has lr {base_lrs[0]:g}, and the others keep their ratio to "
            f"it; give it a positive lr"
        )
    return [base_lr / base_lrs[0] for base_lr in base_lrs]


def _geometric(low: float, high: float, steps: int) -> list[float]:
    if not 0 < low <= high / 100 < math.inf:
        raise ValueError(
            f"low and high must be positive rates two decades apart or more, got {low} and {high}"
        )
    if steps < 20:
        raise ValueError(f"steps must be at least 20, got {steps}; take 14 per decade of rate")
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


def _swept(
    optimizer: Optimizer,
    ratios: Sequence[float],
    rates: Sequence[float],
    train_step: Callable[[], Tensor | float],
) -> list[float]:
    """The loss of each step until it diverges."""
    losses: list[float] = []

    def take(rate: float) -> float:
        written = [_write(group, rate * r) for group, r in zip(groups, ratios, strict=True)]
        try:
            loss = train_step()
        except StopIteration as error:
            raise ValueError(
                f"train_step ran out of batches at step {len(losses) + 1} of a sweep; let its "
                f"iterator begin again at the end of the data"
            ) from error
        if written != [float(group["lr"]) for group in groups]:
            raise ValueError(
                "train_step changed the learning rate; leave the scheduler out of it, since the "
                "range test sets the rate of each step"
            )
        return _number(loss)

    groups = optimizer.param_groups
    device = groups[0]["params"][0].device
    for rate in rates:
        losses.append(_over_ranks(lambda rate=rate: take(rate), device))
        if _diverged(losses):
            break
    return losses


def _write(group: dict[str, Any], lr: float) -> float:
    """Set the rate, in place if it is a tensor; return it as it reads back."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr
    return float(group["lr"])


def _number(loss: object) -> float:
    if isinstance(loss, Tensor):
        loss = loss.detach()
    if isinstance(loss, SupportsFloat) and getattr(loss, "numel", lambda: 1)() == 1:
        return float(loss)
    raise TypeError(
        f"train_step must return its loss, a number or a tensor of one element, got {loss!r}"
    )


def _over_ranks(take: Callable[[], float], device: torch.device) -> float:
    """The mean loss over all ranks; an error on one of them ends the sweep on each."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return take()
    loss, error = math.nan, None
    try:
        loss = take()
    except Exception as caught:  # raised again below, once the other ranks know
        error = caught
    sums = torch.tensor([loss, error is not None], dtype=torch.float64, device=device)
    torch.distributed.all_reduce(sums)
    total, errors = sums.tolist()
    if error is not None:
        raise error
    if errors:
        raise RuntimeError("train_step failed on another rank; its error is there")
    return total / torch.distributed.get_world_size()


def _diverged(losses: Sequence[float]) -> bool:
    """Whether the last loss is no number, or the running mean has risen out of reach."""
    if not math.isfinite(losses[-1]):
        return True
    level, ceiling = _heights(losses)
    return level > ceiling


def _heights(losses: Sequence[float]) -> tuple[float, float]:
    """The running mean of the losses, and above which height it has diverged."""
    first, rest = losses[:FIRST], losses[FIRST:]
    if not rest:
        return 0.0, math.inf
    start = fmean(first)
    share = 1 - 0.5 ** (1 / HALF_LIFE)
    levels = list(accumulate(rest, lambda mean, loss: mean + share * (loss - mean), initial=start))
    improvement = max(start - min(levels), SPREAD * stdev(first), ROUNDING * abs(start))
    return levels[-1], start + TOLERANCE * improvement


def _sweep(seed: int, rates: Sequence[float], losses: Sequence[float]) -> Sweep:
    diverged = _diverged(losses)
    seen = [loss for loss in losses if math.isfinite(loss)]
    ceiling = _heights(seen)[1]
    while seen and seen[-1] > ceiling:
        seen.pop()  # the escape itself, which would bury what is beside it
    # A loss shows what the update before it did, at the rate before.
    seen = seen[1:]
    return Sweep(
        seed=seed,
        rates=tuple(rates),
        losses=tuple(losses),
        valley=_valley(rates[: len(seen)], seen) if len(seen) > FIRST else None,
        diverged_at=rates[max(len(rates) - 2, 0)] if diverged else None,
    )


def _valley(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, float] | None:
    """Where the loss keeps ``DEPTH`` of its best improvement; None if that is within its noise."""
    smooth = _smoothed([math.log10(rate) for rate in rates], losses)
    noise = 1.4826 * median(abs(x - mean) for x, mean in zip(losses, smooth, strict=True))
    start = fmean(losses[:FIRST])
    improvement = start - min(smooth)
    if improvement <= SIGNIFICANT * noise:
        return None
    kept = [mean <= start - DEPTH * improvement for mean in smooth]
    first = last = smooth.index(min(smooth))
    while first > 0 and kept[first - 1]:
        first -= 1
    while last < len(kept) - 1 and kept[last + 1]:
        last += 1
    return rates[first], rates[last]


def _smoothed(places: Sequence[float], values: Sequence[float]) -> list[float]:
    """Means under a Gaussian kernel of ``SMOOTHING``, centred so that nothing lags."""
    smooth: list[float] = []
    for place in places:
        weights = [math.exp(-0.5 * ((other - place) / SMOOTHING) ** 2) for other in places]
        smooth.append(sum(map(operator.mul, weights, values)) / sum(weights))
    return smooth


def _no_improvement(sweeps: Sequence[Sweep], parameters_changed: bool) -> str:
    first = sweeps[0]
    improved = sum(sweep.valley is not None for sweep in sweeps)
    said = (
        f"the loss improved beyond its noise in {improved} of {len(sweeps)} seeds, so there is no "
        f"rate to suggest (it began at {first.losses[0]:.4g} and ended at {first.losses[-1]:.4g}, "
        f"while the rate rose from {first.rates[0]:.2g} to {first.rates[-1]:.2g})"
    )
    if not math.isfinite(first.losses[0]):
        return f"{said}; it is not finite before the first update, so look at model and data"
    if not parameters_changed:
        return f"{said}; no parameter changed, so let train_step call optimizer.step()"
    if first.diverged_at is not None and first.diverged_at < 100 * first.rates[0]:
        return f"{said}; it diverged within two decades, so set low to {first.rates[0] / 1000:.0e}"
    return f"{said}; take larger batches or more steps, or look whether the model can learn at all"
