"""From outcomes to the answer."""

import json

import pytest

from lrpilot.bench import Outcome, Plan, cells, rows


def outcomes(losses_by, tests_by=None):
    """Outcomes of a plan over ``{schedule: {lr: validation losses by seed}}``."""
    first = next(iter(losses_by.values()))
    seeds = len(next(iter(first.values())))
    plan = Plan(tasks=["digits-mlp"], schedules=list(losses_by), lrs=list(first), seeds=seeds)
    for trial in plan.trials:
        loss = losses_by[trial.schedule][trial.lr][trial.seed]
        test = (tests_by or losses_by)[trial.schedule][trial.lr][trial.seed]
        yield trial, outcome(loss, test)


def outcome(loss, test):
    if isinstance(loss, str):
        return Outcome(status=loss)
    return Outcome(validation_loss=loss, test_loss=test)


def answer(*arguments):
    return {row.name: row for row in rows(cells(outcomes(*arguments)))}


def test_each_schedule_is_judged_at_its_own_best_rate():
    found = answer(
        {
            "greedy": {0.1: [1.0, 1.2], 0.2: [0.5, 0.6], 0.3: [2.0, 2.0]},
            "cosine": {0.1: [3.0, 3.0], 0.2: [2.0, 2.0], 0.3: [1.0, 1.0]},
        }
    )
    assert (found["greedy"].lr, found["greedy"].at_edge) == (0.2, False)
    assert (found["cosine"].lr, found["cosine"].at_edge) == (0.3, True)
    assert found["greedy"].mean == pytest.approx(0.55)


def test_the_rate_is_chosen_on_validation_and_reported_on_test():
    validation = {
        "greedy": {0.1: [1.0, 1.0], 0.2: [2.0, 2.0]},
        "cosine": {0.1: [1, 1], 0.2: [2, 2]},
    }
    test = {"greedy": {0.1: [9.0, 9.0], 0.2: [1.0, 1.0]}, "cosine": {0.1: [5, 5], 0.2: [5, 5]}}
    greedy = answer(validation, test)["greedy"]
    assert (greedy.lr, greedy.test_mean, greedy.judged_on) == (0.1, 9.0, "test")
    assert greedy.difference == pytest.approx(4.0)
    assert greedy.verdict == "worse"


def test_a_single_rate_is_judged_on_validation():
    found = answer({"greedy": {0.1: [1.0, 1.1]}, "cosine": {0.1: [2.0, 2.1]}})
    assert found["greedy"].judged_on == "validation"
    assert found["greedy"].difference == pytest.approx(-1.0)
    assert found["greedy"].verdict == "good or better"


def test_the_difference_is_paired_by_seed():
    found = answer({"greedy": {0.1: [1.0, 5.0, 9.0]}, "cosine": {0.1: [1.1, 5.1, 9.1]}})
    low, high = found["greedy"].difference_interval
    assert low == pytest.approx(-0.1)
    assert high == pytest.approx(-0.1)


def test_the_order_in_which_trials_ended_does_not_matter():
    losses = {"greedy": {0.1: [1.0, 5.0, 9.0]}, "cosine": {0.1: [1.1, 5.2, 9.3]}}
    in_order = list(outcomes(losses))
    mine = [pair for pair in in_order if pair[0].schedule == "greedy"]
    theirs = [pair for pair in in_order if pair[0].schedule == "cosine"]
    assert rows(cells([*mine, *reversed(theirs)])) == rows(cells([*mine, *theirs]))


def test_the_reference_is_cosine_or_else_the_first():
    found = answer({"greedy": {0.1: [1.0, 2.0]}, "cosine": {0.1: [1.0, 2.0]}})
    assert (found["greedy"].reference, found["cosine"].verdict) == ("cosine", None)
    found = answer({"linear": {0.1: [1.0, 2.0]}, "greedy": {0.1: [1.0, 2.0]}})
    assert (found["greedy"].reference, found["linear"].verdict) == ("linear", None)


def test_a_rate_that_loses_runs_is_not_the_best_however_low_the_others():
    found = answer(
        {"greedy": {0.1: [1.0, 1.0], 0.2: [0.1, "diverged"]}, "cosine": {0.1: [1, 1], 0.2: [1, 1]}}
    )
    assert (found["greedy"].lr, found["greedy"].diverged) == (0.1, 0)


def test_lost_runs_are_counted_and_decide():
    found = answer({"greedy": {0.1: [1.0, "diverged", 1.0]}, "cosine": {0.1: [1.0, 1.0, 1.0]}})
    assert (found["greedy"].diverged, found["greedy"].verdict) == (1, "worse")
    found = answer({"greedy": {0.1: [1.0, "failed", 1.0]}, "cosine": {0.1: [1.0, 1.0, 1.0]}})
    assert (found["greedy"].failed, found["greedy"].verdict) == (1, "undecided")


def test_an_answer_without_one_finite_loss_is_strict_json():
    found = answer({"greedy": {0.1: ["diverged"] * 2}, "cosine": {0.1: ["failed"] * 2}})
    assert found["greedy"].mean is None
    for row in found.values():
        json.dumps(row.as_json(), allow_nan=False)
