"""Result rows of a suite whose truth is known: each schedule is worth a share of the budget."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from lrpilot.bench.results import ResultRow
from lrpilot.bench.suite import TUNING_SEEDS, Suite, grid
from lrpilot.tasks import find_task

SUITE = Suite(
    name="known",
    tasks=("digits-mlp", "nmf-digits", "noisy-quadratic", "cancer-logreg"),
    responses=("digits-mlp", "nmf-digits", "noisy-quadratic", "cancer-logreg"),
    families=("adamw",),
    schedules=(
        *("linear", "cosine", "constant", "step", "wsd20", "random"),
        *("greedy", "greedy-cooldown", "greedy-untuned"),
    ),
    baselines={"adamw": (("hypergradient-adam-parameter", "constant"),)},
    evaluation_seeds=(0, 1, 2, 3, 4),
    tuning_points=5,
    response_points=5,
    horizons=(0.25, 0.5, 1.0, 2.0),
)
WORTH = {  # of the budget
    **{"linear": 1.0, "cosine": 1.0, "wsd20": 1.0, "step": 0.7, "constant": 0.5, "random": 0.5},
    **{"greedy": 0.8, "greedy-cooldown": 1.1, "greedy-untuned": 0.8},
    "hypergradient-adam-parameter": 0.9,
}
ELASTICITY = 0.5


def rows(
    worth: Mapping[str, float] = WORTH,
    *,
    noise: float = 0.002,
    flat: str = "",
    extra_forwards: int = 0,
) -> Iterator[ResultRow]:
    """Tuning, evaluation, response and reference rows.

    noise: deviation of ln loss, besides what a seed does to all schedules alike.
    flat: a task on which no schedule and no budget makes a difference.
    extra_forwards: of the baseline's runs.
    """
    for task in SUITE.tasks:
        for name, value in worth.items():
            budgets = SUITE.horizons if name == "linear" else (1.0,)
            for budget in budgets:
                for lr in grid(find_task(task).lrs["adamw"], SUITE.response_points):
                    for seed in (*TUNING_SEEDS, *SUITE.evaluation_seeds):
                        share = 1.0 if task == flat else value * budget
                        forwards = extra_forwards if name.startswith("hypergradient") else 0
                        yield row(task, name, budget, lr, seed, share, noise, forwards)


def row(
    task: str,
    name: str,
    budget: float,
    lr: float,
    seed: int,
    worth: float,
    noise: float,
    extra_forwards: int = 0,
) -> ResultRow:
    of_seed = np.random.default_rng([seed, *task.encode()]).normal(scale=0.01)
    own = np.random.default_rng([seed, round(1000 * budget), *task.encode(), *name.encode()])
    decades = math.log10(lr / find_task(task).lrs["adamw"])
    loss = worth**-ELASTICITY * math.exp(of_seed + own.normal(scale=noise) + decades**2)
    baseline = name.startswith("hypergradient")
    return ResultRow(
        task=task,
        optimizer=name if baseline else "adamw",
        schedule="constant" if baseline else name,
        lr=lr,
        seed=seed,
        total_steps=round(budget * find_task(task).total_steps),
        status="done",
        validation_loss=loss,
        test_loss=loss,
        extra_forwards=extra_forwards,
        seconds=1.0,
        # Straight in ln loss, so that what is worth more is there sooner.
        evaluations=tuple(8.0 ** (1 - at / 20) * loss ** (at / 20) for at in range(21)),
    )


def lost(found: ResultRow, status: str = "diverged") -> ResultRow:
    return found._replace(
        status=status, validation_loss=None, test_loss=None, evaluations=found.evaluations[:3]
    )
