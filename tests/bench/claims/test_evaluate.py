import json
import math

import numpy as np
import pytest

from claim_rows import SUITE, WORTH, lost, rows
from lrpilot.bench.claims import Findings, evaluate, load_claims
from lrpilot.bench.claims.claim import read_claims
from lrpilot.bench.claims.comparisons import compared
from lrpilot.bench.claims.findings import Entrant
from lrpilot.bench.claims.sampling import estimate
from lrpilot.bench.claims.verdict import Verdict
from lrpilot.bench.statistics.aggregates import holm
from lrpilot.tasks import find_task

FILE = load_claims()


def judged(found, **options) -> dict[str, Verdict]:
    return {one.id: one for one in evaluate(FILE, Findings(found, SUITE), **options)}


@pytest.fixture(scope="module")
def known() -> dict[str, Verdict]:
    return judged(
        rows(), development=("digits-mlp",), held_out=("nmf-digits",), command="lrpilot claims"
    )


def test_a_method_that_is_ten_per_cent_better_is_found_to_be(known):
    found = known["C-cos-cooldown"]
    assert found.verdict == "supported"
    assert found.estimate == pytest.approx(1.1, rel=0.02)
    assert found.low < 1.1 * 1.01
    assert found.low > 1.05
    assert (found.better, found.cells, found.tasks) == (4, 4, 4)


def test_a_method_that_is_twenty_per_cent_worse_is_refuted(known):
    found = known["C-lin"]
    assert found.verdict == "refuted"
    assert found.estimate == pytest.approx(0.8, rel=0.02)
    assert found.worse == 4
    assert found.strict == 0.0


def test_an_equal_method_is_not_worse(known):
    found = known["K-cosine"]
    assert found.verdict == "supported"
    assert found.estimate == pytest.approx(1.0, abs=0.02)
    assert found.low > 0.95
    assert found.p is None  # a control takes no part in Holm's correction


def test_the_share_counts_the_comparators_that_the_method_is_not_worse_than(known):
    found = known["C1-T1"]
    shown = [name for name in WORTH if name in found.comparators and WORTH[name] < WORTH["greedy"]]
    present = [name for name in WORTH if name in found.comparators]
    assert found.estimate == pytest.approx(len(shown) / len(present))
    assert dict(found.by_part)["against constant"] == 1.0
    assert dict(found.by_part)["against linear"] == 0.0
    assert found.verdict == "refuted"
    assert "plateau" in found.absent  # the suite has none


def test_over_the_same_rates_a_method_that_loses_everywhere_gains_no_range(known):
    assert known["C9-untuned-cosine"].estimate < 0
    assert known["C9-cooldown-cosine"].estimate > 0
    assert known["C9-trials"].estimate < 1


def test_usable_decades_stand_beside_the_share_of_cells_that_have_none(known):
    found = judged(rows(WORTH | {"constant": 0.4}))
    assert found["C9-constant"].unusable == (0.0, 1.0)
    assert known["C-lin"].unusable is None


def test_what_is_no_share_of_a_budget_has_no_margin(known):
    found = known["C9-constant"]
    assert found.by_margin == ()
    assert found.not_worse == 0
    assert "margin" not in found.protocol
    assert "margin 5 %" in known["C-lin"].protocol


def test_development_and_held_out_tasks_are_told_apart_and_none_carries_the_number(known):
    found = known["C-lin"]
    assert found.development == pytest.approx(0.8, rel=0.03)
    assert found.held_out == pytest.approx(0.8, rel=0.03)
    assert found.without_low[0] <= found.estimate <= found.without_high[0]


def test_an_equal_method_passes_the_strict_yardstick_as_often_as_its_null_model(known):
    found = known["K-cosine"]
    assert 0.4 < found.strict_null <= 1
    assert found.by_margin[0][0] == 0.05
    assert found.by_margin[-1][2] == 1.0  # at 20 % a tie is seen as one in every cell


def test_the_number_of_a_claim_follows_a_task_that_was_worth_more():
    tilted = [
        one._replace(test_loss=one.test_loss * (1.1 if one.task == "digits-mlp" else 1.0))
        if one.schedule == "greedy"
        else one
        for one in rows()
    ]
    found = judged(tilted)["C-lin"]
    assert found.without_high[1] == "digits-mlp"
    assert found.estimate < 0.79


def test_diverged_runs_are_counted_and_never_dropped(known):
    one_lost = [
        lost(one)
        if (one.schedule, one.task, one.seed) == ("greedy-cooldown", "digits-mlp", 3)
        else one
        for one in rows()
    ]
    found, before = judged(one_lost)["C-cos-cooldown"], known["C-cos-cooldown"]
    assert (before.lost, found.lost) == (0, 1)
    assert found.runs == before.runs
    # The lost run counts as a quarter of the budget.
    fall = math.log(found.estimate / before.estimate)
    assert fall == pytest.approx(math.log(0.25 / 1.1) / 20, rel=0.1)


def test_what_was_not_run_is_not_tested_and_says_why(known):
    assert known["C2"].verdict == "not tested"
    assert known["C2"].reason == "the suite has no momentum"
    assert known["C4"].reason == "the suite has no hypergradient-global"
    assert "`lrpilot evaluate net --save` makes them" in known["C8"].reason
    without = judged(one for one in rows() if one.schedule != "step")["K-step"]
    assert without.verdict == "not tested"
    assert without.reason == "none of its 4 cells has been run in full"


def test_an_optimizer_that_fails_everywhere_was_not_run_but_one_that_fails_once_has_lost_a_run():
    name = "hypergradient-adam-parameter"
    all_failed = [lost(one, "failed") if one.optimizer == name else one for one in rows()]
    assert judged(all_failed)["C3"].verdict == "not tested"
    assert judged(all_failed)["C3"].missing == 4
    failed = [
        lost(one, "failed") if one.optimizer == name and one.seed == 3 else one for one in rows()
    ]
    assert judged(failed)["C3"].cells == 4
    assert judged(failed)["C3"].lost_by_comparators == 4
    assert Findings(failed, SUITE).failed > 4


def test_a_task_that_cannot_tell_schedules_apart_is_left_out_and_listed(known):
    found = judged(rows(flat="cancer-logreg"))["C-lin"]
    assert found.inadmissible == ("cancer-logreg, adamw",)
    assert found.tasks == 3
    assert found.estimate == pytest.approx(known["C-lin"].estimate, rel=0.02)
    assert found.with_inadmissible > found.estimate


def test_two_tasks_decide_nothing():
    two = [one for one in rows() if one.task in SUITE.tasks[:2]]
    found = judged(two)["C-lin"]
    assert found.verdict == "undecided"
    assert found.reason == "fewer than 3 tasks"


def test_extra_forward_passes_are_charged_only_where_computation_is_compared():
    text = (
        '[defaults]\nkind = "claim"\nfamilies = []\nstudy = ""\ndirection = "above"\n'
        'margin = 0.05\ntarget = 0.5\nuntested = ""\nquote = ""\nsource = ""\nrefuted_by = ""\n'
        'track = "T1"\n'
        'method = "hyper"\ncomparators = ["greedy"]\nthreshold = 0.5\nstatement = ""\n'
        '[names.hyper]\nadamw = "hypergradient-adam-parameter/constant"\n'
        '[[claim]]\nid = "steps"\nmetric = "faster"\n'
        '[[claim]]\nid = "compute"\nmetric = "faster per compute"\n'
    )
    steps = max(find_task(task).total_steps for task in SUITE.tasks)
    found = {
        one.id: one.estimate
        for one in evaluate(read_claims(text), Findings(rows(extra_forwards=3 * steps), SUITE))
    }
    assert found["steps"] == 1.0
    assert found["compute"] == 0.0


def test_the_order_of_rows_changes_nothing(known):
    shuffled = judged(list(rows())[::-1])
    assert shuffled["C1-T2"].low == known["C1-T2"].low
    assert shuffled["C-lin"].high == known["C-lin"].high


def test_verdicts_are_json_without_nan(known):
    text = json.dumps([one.as_json() for one in known.values()], allow_nan=False)
    assert len(json.loads(text)) == len(FILE.claims)


def test_the_controls_are_counted(known):
    assert known["C-lin"].controls == "6 of 6 controls came out as they must"


def test_undecided_cells_are_given_to_a_share_before_it_is_refuted():
    noisy = Findings(rows(dict.fromkeys(WORTH, 1.0) | {"constant": 0.5}, noise=0.1), SUITE)
    claim = next(one for one in FILE.claims if one.id == "C1-T1")
    greedy, cosine = (Entrant("adamw", name) for name in ("greedy", "cosine"))
    pairs = (compared(claim, noisy, cell, greedy, cosine) for cell in noisy.cells)
    comparisons = [pair for pair in pairs if pair is not None]
    flat = [verdict for pair in comparisons for verdict in pair.verdicts]
    assert flat.count("undecided") == len(flat) == 4
    share, bounds = estimate(claim.metric, comparisons, np.random.default_rng(0))
    assert (share.value, bounds.possible) == (0.0, 1.0)
    assert bounds.high < claim.threshold


def test_p_values_are_corrected_for_the_number_of_claims_that_were_tested(known):
    tested = [one for one in known.values() if one.p is not None]
    assert len(tested) > 10
    assert [one.adjusted_p for one in tested] == holm([one.p for one in tested])
    assert any(one.adjusted_p > 2 * one.p for one in tested)
