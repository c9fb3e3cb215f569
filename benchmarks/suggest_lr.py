"""What `suggest_lr` suggests against the rate tuned for cosine, on every task and optimizer.

Prints a Markdown table; beside the valley's middle stand the two statistics that other range tests
suggest, from the same sweeps. About four minutes on one core.
"""

import math
from statistics import fmean, median, stdev

import torch
from torch import nn

from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.tasks import TASKS, Task
from lrpilot.torch import suggest_lr
from lrpilot.torch.suggest import SuggestedLR, Sweep

SEEDS = range(3)  # of the task: other weights, other batches


def main() -> None:
    torch.set_num_threads(1)
    ratios: dict[str, list[float]] = {"valley": [], "steepest": [], "tenth of minimum": []}
    inside = []
    print("| task | optimizer | tuned | suggested | ratio | low | high |")
    print("|---|---|---|---|---|---|---|")
    for name, task in TASKS.items():
        for optimizer, tuned in task.lrs.items():
            suggestions = [suggested(task, optimizer, seed) for seed in SEEDS]
            for each in suggestions:
                ratios["valley"].append(each.lr / tuned)
                ratios["steepest"].append(geometric([*map(steepest, each.sweeps)]) / tuned)
                ratios["tenth of minimum"].append(
                    geometric([minimum(sweep) / 10 for sweep in each.sweeps]) / tuned
                )
                inside.append(each.low <= tuned <= each.high)
            lr, low, high = (
                geometric([getattr(each, field) for each in suggestions])
                for field in ("lr", "low", "high")
            )
            print(
                f"| {name} | {optimizer} | {tuned:g} | {lr:.2g} | {lr / tuned:.2f} "
                f"| {low:.2g} | {high:.2g} |"
            )
    print()
    print("| statistic | median ratio | deviation (decades) | within a factor 3.2 | worst factor |")
    print("|---|---|---|---|---|")
    for statistic, values in ratios.items():
        decades = [math.log10(value) for value in values]
        near = fmean(abs(value) <= 0.5 for value in decades)
        print(
            f"| {statistic} | {median(values):.2f} | {stdev(decades):.2f} | {near:.0%} "
            f"| {10 ** max(map(abs, decades)):.0f} |"
        )
    print(f"\nThe tuned rate lies in the interval in {fmean(inside):.0%} of {len(inside)} tests.")


def suggested(task: Task, optimizer: str, seed: int) -> SuggestedLR:
    run = task.start(seed, OPTIMIZERS[optimizer])
    problem = run.problem

    def train_step() -> torch.Tensor:
        run.optimizer.zero_grad()
        loss = problem.loss(run.values, problem.draw())
        loss.backward()
        run.optimizer.step()
        if problem.project is not None:
            with torch.no_grad():
                problem.project(run.values)
        return loss

    # The optimizer holds all that these tasks train.
    return suggest_lr(nn.Module(), run.optimizer, train_step)


def seen(sweep: Sweep) -> tuple[list[float], list[float]]:
    """Logarithms of the rates, and the running mean of the losses that they led to."""
    losses = list(sweep.losses[1:-1] if sweep.diverged_at else sweep.losses[1:])
    means = [losses[0]]
    for loss in losses[1:]:  # smoothing as other range tests have it
        means.append(0.9 * means[-1] + 0.1 * loss)
    return [math.log10(rate) for rate in sweep.rates[: len(means)]], means


def steepest(sweep: Sweep) -> float:
    """Rate at which the running mean falls fastest; the first ten do not count, as in Lightning."""
    rates, means = (values[10:] for values in seen(sweep))
    slopes = [after - before for before, after in zip(means[:-2], means[2:], strict=True)]
    return 10 ** rates[1 + slopes.index(min(slopes))]


def minimum(sweep: Sweep) -> float:
    """Rate at which the running mean is least, of which fastai takes a tenth."""
    rates, means = seen(sweep)
    return 10 ** rates[means.index(min(means))]


def geometric(values: list[float]) -> float:
    return math.exp(fmean(map(math.log, values)))


if __name__ == "__main__":
    main()
