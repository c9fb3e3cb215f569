"""What a comparison takes, and what cannot be compared."""

import pytest

from lrpilot.bench import Plan
from lrpilot.bench.suite import (
    DEFAULT_SCHEDULES,
    OPTIMIZERS,
    SHIPPED_LRS,
    TORCH_OPTIMIZERS,
    grid,
    grid_point,
    neighbours,
    nominal_lr,
)
from lrpilot.tasks import TASKS


def test_every_schedule_meets_every_rate_and_seed_once():
    plan = Plan(
        tasks=["digits-mlp", "digits-mlp"],
        schedules=["greedy", "cosine"],
        optimizers=["sgd"],
        lrs=[0.1, 0.2],
        seeds=3,
    )
    trials = plan.trials
    assert len(trials) == len({trial.key for trial in trials}) == 2 * 2 * 3
    cells = {(trial.schedule, trial.lr, trial.seed) for trial in trials}
    assert len(cells) == 12


def test_without_rates_the_grid_surrounds_the_tasks_own():
    lrs = {trial.lr for trial in Plan(tasks=["digits-mlp"], seeds=1).trials}
    assert lrs == set(neighbours(TASKS["digits-mlp"].lrs["adamw"]))


def test_every_task_has_a_rate_for_every_optimizer():
    assert all(set(task.lrs) == set(TORCH_OPTIMIZERS) for task in TASKS.values())
    rates = [nominal_lr(task, name) for task in TASKS.values() for name in OPTIMIZERS]
    assert all(rate > 0 for rate in rates)


def test_grids_are_half_decades_and_share_their_points():
    assert grid(0.3, 9) == (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    assert set(grid(0.01, 9)) < set(grid(0.03, 11))
    assert [grid_point(at) for at in (-3, -2, -1, 0, 1)] == [0.03, 0.1, 0.3, 1.0, 3.0]


def test_the_rates_that_libraries_ship_are_on_the_grid():
    assert all(grid(lr, 1) == (lr,) for lr in SHIPPED_LRS.values())


def test_a_training_function_is_not_driven_by_evaluations(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("def train(trial): return 1.0")
    with pytest.raises(ValueError, match="driven by validation losses"):
        Plan(tasks=[f"{path}:train"], schedules=["transformers-greedy-eval"])


def test_steps_change_the_horizon_of_the_schedule():
    (trial,) = Plan(tasks=["digits-mlp"], schedules=["cosine"], lrs=[0.1], seeds=1, steps=77).trials
    assert trial.total_steps == 77
    assert "total_steps=77" in trial.settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": ["digit-mlp"]}, "unknown task 'digit-mlp'; did you mean 'digits-mlp'"),
        ({"schedules": ["gready"]}, "unknown schedule 'gready'; did you mean 'greedy'"),
        ({"optimizers": ["adamv"]}, "unknown optimizer 'adamv'; did you mean 'adam"),
        ({"schedules": ["??"]}, r"unknown schedule '\?\?' \(known: constant"),
        ({"lrs": []}, "lrs is empty"),
        ({"schedules": []}, "schedules is empty"),
        ({"lrs": [0.1, -0.1]}, "lr must be positive and finite, got -0.1"),
        ({"lrs": [float("nan")]}, "lr must be positive and finite, got nan"),
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"tasks": ["missing.py:train"]}, "cannot read the training function"),
        ({"tasks": ["train.py"]}, "names no function; write train.py:train"),
    ],
)
def test_what_cannot_be_compared_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Plan(**settings)


def test_an_optimizer_does_not_apply_to_a_training_function(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("def train(trial): ...")
    with pytest.raises(ValueError, match="makes its own; leave it out"):
        Plan(tasks=[f"{path}:train"], optimizers=["sgd"])


def test_a_changed_training_function_is_another_trial(tmp_path):
    path = tmp_path / "train.py"
    path.write_text("def train(trial): return 1.0")
    (before,) = Plan(tasks=[f"{path}:train"], schedules=["cosine"], seeds=1).trials
    path.write_text("def train(trial): return 2.0")
    (after,) = Plan(tasks=[f"{path}:train"], schedules=["cosine"], seeds=1).trials
    assert before.key != after.key


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "has no function 'train'; it has: no functions"),
        ("def trane(trial): ...", "has no function 'train'; it has: trane"),
        ("def train(", "cannot read"),
        ("train = 3", "has no function 'train'; it has: no functions"),
        ("import train", "has no function 'train'; it has: no functions"),
        ("import os\nfrom math import cos\ndef fit(trial): ...", "it has: cos, fit$"),
        ("def train(): ...", r"cannot be called with a trial; write def train\(trial\)"),
        ("def train(trial, epochs): ...", "cannot be called with a trial"),
        ("def train(*, trial): ...", "cannot be called with a trial"),
        ("train = lambda: 1.0", "cannot be called with a trial"),
    ],
)
def test_a_file_without_the_function_is_refused_before_it_is_run(tmp_path, source, message):
    path = tmp_path / "train.py"
    path.write_text(source)
    with pytest.raises(ValueError, match=message):
        Plan(tasks=[f"{path}:train"])


@pytest.mark.parametrize(
    "source",
    [
        "from elsewhere import fit as train",
        "train = lambda trial: 1.0",
        "from functools import partial\ntrain = partial(print, 1)",
        "def train(*trials): ...",
        "def train(trial, epochs=3, *, width=8): ...",
        "from elsewhere import seeded\n@seeded\ndef train(): ...",
    ],
)
def test_a_function_may_be_imported_or_assigned(tmp_path, source):
    path = tmp_path / "train.py"
    path.write_text(source)
    assert Plan(tasks=[f"{path}:train"], schedules=["cosine"], seeds=1).trials


def test_the_same_lines_in_another_folder_are_another_training(tmp_path, monkeypatch):
    keys = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.py").write_text("def train(trial): ...")
        monkeypatch.chdir(tmp_path / name)
        keys |= {trial.key for trial in Plan(tasks=["train.py:train"], seeds=1).trials}
    assert len(keys) == 2 * len(DEFAULT_SCHEDULES)
