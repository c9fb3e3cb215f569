"""A suite is tuned, evaluated and run over its rates, once, however often it is interrupted."""

import math
from collections import Counter

import pytest

from known_engine import KnownEngine
from lrpilot.bench import Outcome, Store
from lrpilot.bench.stages import Method, Stages
from lrpilot.bench.suite import TUNING_SEEDS, Suite, grid
from lrpilot.tasks import find_task

SUITE = Suite(
    name="small",
    tasks=("digits-mlp", "noisy-quadratic"),
    families=("adamw",),
    schedules=("linear", "greedy"),
    baselines={"adamw": (("schedule-free-adamw", "constant"),)},
    responses=("noisy-quadratic",),
    evaluation_seeds=(0, 1, 2),
    tuning_points=5,
    response_points=7,
    horizons=(0.5, 1.0),
)

# Half-decades from the task's own rate to where a schedule does best: greedy's lies beyond the
# edge of the grid, which reaches two half-decades.
BEST = {"linear": 1, "greedy": 4, "constant": 0}


def outcome(trial):
    away = half_decades(trial.task, trial.lr) - BEST[trial.schedule]
    if away > 3:
        return Outcome(status="diverged")
    loss = (1 + away**2) / trial.total_steps * (1 + trial.seed / 1000)
    return Outcome(validation_loss=loss, test_loss=loss)


def half_decades(task, lr):
    return round(2 * math.log10(lr / find_task(task).lrs["adamw"]))


def run(path, engine):
    told = []
    with Store(path) as store:
        trials = Stages(SUITE, store, engine, lambda *news: told.append(news)).run()
        return trials, dict(store.outcomes(trials, curves=False)), told


def test_every_method_is_evaluated_at_the_rate_that_tuning_found(tmp_path):
    trials, _, _ = run(tmp_path / "runs.db", KnownEngine(outcome))
    for task in SUITE.tasks:
        for schedule, optimizer in (("linear", "adamw"), ("greedy", "adamw")):
            of_method = [
                trial
                for trial in trials
                if (trial.task, trial.schedule, trial.optimizer) == (task, schedule, optimizer)
                and trial.total_steps == find_task(task).total_steps
            ]
            tuned = {half_decades(task, trial.lr) for trial in of_method if trial.seed >= 100}
            # Two half-decades each way, and as many more as it takes to have the best inside.
            assert tuned == set(range(-2, max(2, BEST[schedule] + 1) + 1))
            if task not in SUITE.responses:
                judged = {(half_decades(task, t.lr), t.seed) for t in of_method if t.seed < 100}
                assert judged == {(BEST[schedule], seed) for seed in SUITE.evaluation_seeds}


def test_tasks_with_responses_alone_are_run_at_every_rate_and_baselines_are_not(tmp_path):
    trials, _, _ = run(tmp_path / "runs.db", KnownEngine(outcome))
    task = find_task("noisy-quadratic")
    wanted = grid(task.lrs["adamw"], SUITE.response_points)
    for seed in SUITE.evaluation_seeds:
        for schedule in SUITE.schedules:
            of_seed = {
                trial.lr
                for trial in trials
                if (trial.task, trial.schedule, trial.seed) == (task.name, schedule, seed)
                and trial.total_steps == task.total_steps
            }
            assert of_seed >= set(wanted)
    rates = Counter(
        (trial.task, trial.seed) for trial in trials if trial.optimizer == "schedule-free-adamw"
    )
    assert {count for (_, seed), count in rates.items() if seed in SUITE.evaluation_seeds} == {1}


def test_the_reference_is_tuned_at_each_horizon_by_itself(tmp_path):
    trials, _, _ = run(tmp_path / "runs.db", KnownEngine(outcome))
    for task in SUITE.tasks:
        half = [trial for trial in trials if trial.total_steps == find_task(task).total_steps / 2]
        assert {trial.schedule for trial in half if trial.task == task} == {"linear"}
        seeds = {trial.seed for trial in half if trial.task == task}
        assert seeds == {*TUNING_SEEDS, *SUITE.evaluation_seeds}


@pytest.mark.parametrize("limit", [1, 33, 100, 150])
def test_an_interrupted_suite_goes_on_where_it_was_and_ends_the_same(tmp_path, limit):
    whole, outcomes, _ = run(tmp_path / "whole.db", KnownEngine(outcome))
    first, second = KnownEngine(outcome, limit), KnownEngine(outcome)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "runs.db", first)
    trials, found, _ = run(tmp_path / "runs.db", second)
    assert trials == whole
    assert found == outcomes
    # What ended before the interruption was kept, but for the lot that was not yet full.
    assert len(set(first.ran) & set(second.ran)) <= 100
    assert not set(second.ran) - set(whole)


def test_a_finished_suite_runs_nothing_and_progress_ends_at_the_total(tmp_path):
    run(tmp_path / "runs.db", KnownEngine(outcome))
    again = KnownEngine(outcome)
    _, _, told = run(tmp_path / "runs.db", again)
    assert again.ran == []
    assert all(done == total for _, done, total in told)
    assert {what for what, _, _ in told} == {
        *(f"{task}: {stage}" for task in SUITE.tasks for stage in ("tuning", "evaluation")),
        "noisy-quadratic: response",
    }


def test_a_method_runs_as_a_tensor_program_where_there_is_one():
    method = Method("digits-mlp", "adamw", "linear", 100)
    assert method.trial(0.01, 0).engine == "batched"
    assert Method("digits-cnn", "adamw", "linear", 100).trial(0.01, 0).engine == "single"
    assert Method("digits-mlp", "prodigy", "cosine", 100).trial(1.0, 0).engine == "single"
