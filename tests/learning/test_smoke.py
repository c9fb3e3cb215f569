"""A short training on real networks beats the untrained policy on networks it has not seen."""

import contextlib

import numpy as np

from lrpilot.learning import train as training_module
from lrpilot.learning.distributions import TRAINING_CELLS, VALIDATION_CELLS, tuned_lr
from lrpilot.learning.net_cells import data_of, problem_of, random_cell
from lrpilot.learning.net_runs import runs_at
from lrpilot.learning.taught import Exercise
from lrpilot.learning.train import Training, train
from lrpilot.schedules import load_policy

QUICK = ("teacher", "mixture", "spectrum")


def quick(cells):
    """Those that train within a second, and have something to gain from a higher rate."""
    return [cell for cell in map(random_cell, cells) if cell.data in QUICK]


def too_slow(cell, seed, copies):
    """Eight runs, each at a rate that is ten to thirty times too low."""
    lrs = tuned_lr(cell) * np.geomspace(0.03, 0.1, 8)
    problem = problem_of(cell, seed, data_of(cell))
    steps = min(cell.total_steps, 120)
    settings = {"optimizer": cell.optimizer, "total_steps": steps, "copies": copies}
    return runs_at([problem], lrs.tolist(), **settings)


def test_a_minute_of_training_beats_the_untrained_policy(tmp_path, monkeypatch):
    training, validation = quick(TRAINING_CELLS), quick(VALIDATION_CELLS)[:5]
    assert not {cell.seed for cell in training} & {cell.seed for cell in validation}

    def draw(rng, copies):
        cell = training[rng.integers(len(training))]
        return too_slow(cell, int(rng.integers(100)), copies)

    def exercise(rng):
        right = -np.log(np.geomspace(0.03, 0.1, 8))
        return Exercise(draw(rng, 1), right, right)

    monkeypatch.setattr(training_module, "WIDE_STACKS", {"net": draw})
    monkeypatch.setattr(training_module, "EXERCISES", {"net": exercise})
    monkeypatch.setattr(training_module, "LESSONS", 1)
    monkeypatch.setattr(
        "lrpilot.learning.validation.validation_draw",
        lambda kind, number: lambda rng, copies: too_slow(validation[number], 0, copies),
    )
    monkeypatch.setattr("lrpilot.learning.validation.VALIDATION_STACKS", {"net": len(validation)})
    reported = []

    def report(one):
        reported.append(one)
        if one.number == 6:
            raise KeyboardInterrupt

    path = tmp_path / "policy.safetensors"
    settings = Training(kind="net", method="ppo", hidden=(8,), seconds=600, every=3)
    with contextlib.suppress(KeyboardInterrupt):
        train(settings, path, report)
    assert reported[-1].best < -0.1  # a tenth less is left than by the base schedule
    assert reported[-1].found.lost == 0
    assert load_policy(path).about["method"] == "ppo"
