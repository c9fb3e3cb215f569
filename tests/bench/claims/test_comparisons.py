import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claim_rows import SUITE, rows
from lrpilot.bench.claims import load_claims
from lrpilot.bench.claims.comparisons import (
    Comparison,
    compared,
    expected_log_best,
    shares_if_equal,
    steps_taken,
    verdicts_of,
)
from lrpilot.bench.claims.findings import Cell, Entrant, Findings, evaluations
from lrpilot.bench.statistics.paired import cell_verdict

CELL = Cell("digits-mlp", "adamw")


@pytest.fixture(scope="module")
def findings() -> Findings:
    return Findings(rows(noise=0.05), SUITE)


@given(
    st.integers(0, 8).flatmap(
        lambda seeds: st.lists(
            st.lists(
                st.tuples(st.sampled_from((-0.3, -0.06, 0.0, 0.01, 0.2)), st.booleans()),
                min_size=seeds,
                max_size=seeds,
            ),
            min_size=1,
            max_size=4,
        )
    ),
    st.sampled_from((0.0, 0.05, 0.2)),
)
def test_verdicts_in_one_go_are_those_of_each_cell(cells, margin):
    differences = np.array([[value for value, _ in cell] for cell in cells])
    without = np.array([[flag for _, flag in cell] for cell in cells], dtype=bool)
    differences = differences.reshape(len(cells), -1)
    without = without.reshape(len(cells), -1)
    expected = tuple(
        cell_verdict(row.tolist(), margin=margin, uninformative=flags.tolist()).verdict
        for row, flags in zip(differences, without, strict=True)
    )
    found = verdicts_of(differences, without, margin)
    # A mean on a bound to the last bit may fall on either side of it.
    for one, other, row in zip(found, expected, differences, strict=True):
        assert one == other or np.ptp(row) == 0


def comparison(differences, uninformative=None):
    differences = np.atleast_2d(differences)
    without = np.zeros_like(differences, dtype=bool) if uninformative is None else uninformative
    verdicts = verdicts_of(differences, without, 0.05)
    return Comparison(CELL, "linear", differences, without, verdicts, mine=None, theirs=None)


@pytest.mark.parametrize("count", [3, 10])
@pytest.mark.parametrize("deviation", [0.01, 0.05, 0.1, 0.5])
def test_an_equal_method_is_shown_not_worse_as_often_as_it_is_said_to_be(count, deviation):
    rng = np.random.default_rng(0)
    scatter = rng.normal(size=count)
    scatter = -0.7 + deviation * (scatter - scatter.mean()) / scatter.std(ddof=1)  # far behind
    (said,) = shares_if_equal(comparison(scatter), 0.05)
    equal = rng.normal(scale=deviation, size=(20_000, count))
    shown = verdicts_of(equal, np.zeros_like(equal, dtype=bool), 0.05)
    assert said == pytest.approx(np.mean([v in ("better", "not worse") for v in shown]), abs=0.012)


def test_pairs_that_say_nothing_leave_an_equal_method_less_often_shown():
    noise = np.array([[0.05, -0.04, 0.03, -0.05, 0.01, 0.0, 0.0, 0.0, 0.0, 0.0]])
    without = noise == 0
    (all_tell,) = shares_if_equal(comparison(noise), 0.05)
    (half_tell,) = shares_if_equal(comparison(noise, without), 0.05)
    assert half_tell == shares_if_equal(comparison(noise[:, :5]), 0.05)[0] < all_tell
    assert shares_if_equal(comparison(noise, np.ones_like(without)), 0.05) == 0


def test_a_method_without_scatter_is_always_shown_equal():
    assert shares_if_equal(comparison([0.2, 0.2, 0.2]), 0.05) == pytest.approx(1, abs=1e-6)
    assert shares_if_equal(comparison([0.2]), 0.05) == 0


def test_scores_are_the_budget_equivalents_of_the_test_losses(findings):
    curve = findings.curve(CELL)
    scores = findings.scores(CELL, Entrant("adamw", "greedy"), "T1")
    for row, value in zip(scores.rows[0], scores.budget_equivalents[0], strict=True):
        assert value == curve.budget_equivalent(row.test_loss)


def test_the_best_rate_is_chosen_on_the_tuning_seeds_alone(findings):
    lured = [
        one._replace(validation_loss=0.01, test_loss=0.01)
        if one.schedule == "greedy" and one.seed == 0
        else one
        for one in rows(noise=0.05)
    ]
    entrant = Entrant("adamw", "greedy")
    assert Findings(lured, SUITE).tuned("digits-mlp", entrant) == findings.tuned(
        "digits-mlp", entrant
    )


def test_an_entrant_beside_itself_is_two_sets_of_runs_that_share_none(findings):
    claim = next(one for one in load_claims().claims if one.id == "K-self")
    linear = Entrant("adamw", "linear")
    found = compared(claim, findings, CELL, linear, linear)
    assert [row.seed for row in found.mine.rows[0]] == [0, 1]
    assert [row.seed for row in found.theirs.rows[0]] == [2, 3]
    assert found.differences.shape == (1, 2)
    assert found.differences.mean() != 0


def test_one_seed_has_nothing_to_stand_beside_itself():
    claim = next(one for one in load_claims().claims if one.id == "K-self")
    linear, single = Entrant("adamw", "linear"), replace(SUITE, evaluation_seeds=(0,))
    assert compared(claim, Findings(rows(), single), CELL, linear, linear) is None


@pytest.mark.parametrize("track", ["T0", "T2"])
def test_a_baseline_is_judged_at_its_tuned_rate_alone(track):
    # Its rows have every rate, the shipped one and those of the response among them.
    found, baseline = Findings(rows(), SUITE), "hypergradient-adam-parameter"
    assert found.scores(CELL, Entrant("adamw", "greedy"), track) is not None
    assert found.scores(CELL, Entrant(baseline, "constant"), track) is None
    assert found.scores(CELL, Entrant(baseline, "constant"), "T1") is not None


def test_a_shipped_rate_beyond_the_response_is_judged_for_nobody():
    # Some may have been run there: those whose tuning went so far.
    far = [
        one._replace(lr=1e-3) if one.schedule == "greedy" and one.lr == 1.0 else one
        for one in rows()
        if one.task == "noisy-quadratic"
    ]
    cell, entrant = Cell("noisy-quadratic", "adamw"), Entrant("adamw", "greedy")
    assert Findings(far, SUITE).scores(cell, entrant, "T0") is None


def test_a_missing_seed_makes_a_cell_missing():
    without = [one for one in rows() if not (one.schedule == "greedy" and one.seed == 4)]
    found = Findings(without, SUITE)
    assert found.scores(CELL, Entrant("adamw", "greedy"), "T1") is None
    assert found.scores(CELL, Entrant("adamw", "linear"), "T1") is not None


def test_steps_end_where_the_loss_stays_below_the_reference_and_forwards_are_charged(findings):
    curve = findings.curve(CELL, "validation")
    row = findings.scores(CELL, Entrant("adamw", "greedy-cooldown"), "T1").rows[0][0]
    steps = steps_taken(curve, row, 0.5, compute=False)
    after = [loss for step, loss in evaluations(row) if step >= steps + 1e-6]
    assert max(after) <= curve.loss_at(0.5) * (1 + 1e-9)
    dearer = row._replace(extra_forwards=3 * row.total_steps)
    assert steps_taken(curve, dearer, 0.5, compute=True) == pytest.approx(2 * steps)
    assert steps_taken(curve, dearer, 0.5, compute=False) == steps
    assert steps_taken(curve, row._replace(status="diverged"), 0.5, compute=False) is None


def test_more_trials_are_expected_to_find_a_better_rate(findings):
    scores = findings.scores(CELL, Entrant("adamw", "linear"), "T2")
    expected = [expected_log_best(scores, 0, trials) for trials in (1, 3, 9)]
    assert expected == sorted(expected)
    best = math.log(scores.budget_equivalents[:, 0].max())
    assert expected[0] < expected[-1] <= best + 1e-12
