"""Settings are fitted on the store's tasks, judged on those left out, and nothing runs twice."""

import math

import pytest

from known_engine import KnownEngine
from lrpilot.bench import Outcome, Store
from lrpilot.bench.stages import Method
from lrpilot.bench.suite import EVALUATION_SEEDS, TUNING_SEEDS
from lrpilot.learning.fitting import tune_store
from lrpilot.learning.fitting.candidates import DEFAULT, settings_of
from lrpilot.learning.fitting.cases import CONFIRMING_SEEDS, FITTING_SEEDS, find_cases

TASKS = ("digits-mlp", "noisy-quadratic", "matrix-sensing", "cancer-logreg")
LRS = (0.003, 0.01, 0.03, 0.1)


def engine_of(loss, limit=math.inf):
    """Trials whose losses are known."""
    return KnownEngine(lambda trial: ended(loss(trial)), limit)


def ended(loss):
    if not math.isfinite(loss):
        return Outcome(status="diverged")
    return Outcome(validation_loss=loss, test_loss=loss)


def annealed(trial):
    """The longer the cooldown, the better, on every task; 0.01 is the best rate."""
    share = settings_of(trial.schedule)["anneal"] if "greedy" in trial.schedule else 0.5
    away = abs(math.log10(trial.lr / 0.01))
    return (2 - share + away) * (1 + 0.01 * math.sin(trial.seed))


def shipped(trial):
    """The default is as good as can be."""
    return 1.0 if trial.schedule in (DEFAULT, "cosine") else 1.5


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "runs.db") as made:
        yield made


def filled(store, loss, tasks=TASKS, schedules=("cosine", "greedy-cooldown"), steps=300):
    for task in tasks:
        methods = [Method(task, "adamw", schedule, steps) for schedule in schedules]
        trials = [m.trial(lr, seed) for m in methods for lr in LRS for seed in (0, 1)]
        store.add_many([(trial, ended(loss(trial))) for trial in trials])
    return store


def fit(store, engine, **settings):
    told = settings.pop("told", [])
    return tune_store(
        store,
        engine,
        advance=lambda *progress: told.append(progress),
        **{"settings": 12} | settings,
    )


def test_settings_that_are_better_everywhere_are_found_and_recommended(store):
    answer = fit(filled(store, annealed), engine_of(annealed), settings=40)
    assert answer.better
    assert answer.settings["anneal"] == 0.9
    assert answer.code.startswith("(Greedy(")
    assert answer.code.endswith(" >> cooldown(0.9)).over(total_steps)")
    assert math.exp(answer.difference) == pytest.approx(1.1 / 1.8)
    assert [line.left_out for line in answer.lines] == [line.fitted for line in answer.lines]


def test_where_the_default_is_best_it_is_recommended(store):
    answer = fit(filled(store, shipped), engine_of(shipped))
    assert answer.fitted == answer.recommended == DEFAULT
    assert answer.verdict.startswith("the default is as good")
    assert answer.code == "(Greedy() >> cooldown(0.2)).over(total_steps)"


def test_a_gain_on_one_task_alone_is_not_taken_for_one_elsewhere(store):
    def loss(trial):
        return annealed(trial) if trial.task == "digits-mlp" else shipped(trial) * 2

    answer = fit(filled(store, loss), engine_of(loss), settings=40)
    assert not answer.better
    assert answer.recommended == DEFAULT


def test_a_task_left_out_has_no_say_in_what_is_judged_on_it(store):
    """Whatever this task showed, what the others choose is the same."""

    def reversed_here(trial):
        return annealed(trial) if trial.task != "digits-mlp" else 4 - annealed(trial)

    answer = fit(filled(store, reversed_here), engine_of(reversed_here), settings=40)
    line = next(line for line in answer.lines if line.task == "digits-mlp")
    others = [one for one in answer.lines if one.task != "digits-mlp"]
    assert line.left_out > line.default
    assert all(one.left_out <= one.default for one in others)


def test_seeds_of_comparisons_and_suites_are_not_trained_on(store):
    engine = engine_of(annealed)
    fit(filled(store, annealed), engine)
    used = {trial.seed for trial in engine.ran}
    assert used == {*FITTING_SEEDS, *CONFIRMING_SEEDS}
    assert not used & {*EVALUATION_SEEDS, *TUNING_SEEDS}
    assert not set(FITTING_SEEDS) & set(CONFIRMING_SEEDS)


def test_candidates_run_at_the_best_stored_rate_and_beside_it(store):
    engine = engine_of(annealed)
    fit(filled(store, annealed), engine)
    assert {trial.lr for trial in engine.ran} == {0.003, 0.01, 0.03}
    assert {trial.engine for trial in engine.ran} == {"batched"}


def test_an_interrupted_fit_goes_on_where_it_stopped_and_ends_the_same(store, tmp_path):
    with Store(tmp_path / "whole.db") as other:
        whole = fit(filled(other, annealed), engine_of(annealed))
    filled(store, annealed)
    cut = engine_of(annealed, limit=250)  # lots of 100 are stored
    with pytest.raises(KeyboardInterrupt):
        fit(store, cut)
    rest = engine_of(annealed)
    assert fit(store, rest) == whole
    again = engine_of(annealed)
    assert fit(store, again) == whole
    assert again.ran == []
    assert len(set(cut.ran) & set(rest.ran)) < 100


def test_more_settings_reuse_those_that_ran(store):
    first, more = engine_of(annealed), engine_of(annealed)
    fit(filled(store, annealed), first, settings=6)
    answer = fit(store, more, settings=12)
    assert answer.candidates == 12
    assert not set(first.ran) & set(more.ran)


def test_what_was_fitted_before_does_not_become_the_best_stored_schedule(store):
    filled(store, annealed)
    before, _ = find_cases(store)
    fit(store, engine_of(annealed))
    after, _ = find_cases(store)
    assert after == before


def test_a_budget_that_is_over_says_so_and_keeps_what_ran(store):
    engine = engine_of(annealed)
    with pytest.raises(ValueError, match=r"tried in time; what ran is stored"):
        fit(filled(store, annealed), engine, seconds=1e-9)
    assert engine.ran


def test_one_task_is_said_to_tell_nothing_about_others(store):
    answer = fit(filled(store, annealed, tasks=["digits-mlp"]), engine_of(annealed), settings=40)
    assert answer.lines[0].left_out is None
    assert "says nothing about other tasks" in answer.verdict


def test_lost_runs_count_as_ten_times_the_loss(store):
    def loss(trial):
        lost = trial.schedule.startswith("greedy:") and trial.seed < 300
        return math.inf if lost else shipped(trial)

    answer = fit(filled(store, loss), engine_of(loss))
    assert answer.fitted == DEFAULT
    assert answer.verdict.startswith("the default")


def test_an_empty_store_and_an_unknown_task_are_told(store):
    with pytest.raises(ValueError, match="has no trials to learn from"):
        fit(store, engine_of(annealed))
    filled(store, annealed)
    with pytest.raises(ValueError, match="'digits-mpl'; did you mean 'digits-mlp'"):
        fit(store, engine_of(annealed), tasks=["digits-mpl"])
    with pytest.raises(ValueError, match="settings must be at least 3, got 2"):
        fit(store, engine_of(annealed), settings=2)


def test_what_cannot_be_used_is_left_out_and_said(store):
    filled(store, annealed)
    filled(store, lambda trial: -annealed(trial), tasks=["rosenbrock"])
    answer = fit(store, engine_of(annealed))
    assert {line.task for line in answer.lines} == set(TASKS)
    (note,) = answer.left_out
    assert note.startswith("rosenbrock, adamw, is left out: its losses are not all positive")


def test_the_budget_that_most_trials_have_is_that_of_the_case(store):
    filled(store, annealed, tasks=["digits-mlp"])
    filled(store, annealed, tasks=["digits-mlp"], schedules=("linear",), steps=100)
    (case,), _ = find_cases(store)
    assert case.total_steps == 300
