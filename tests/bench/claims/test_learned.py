"""Claims on learned policies, from rows whose truth is known."""

import math

import numpy as np
import pytest

from claim_rows import SUITE
from lrpilot.bench.claims import Findings, evaluate, load_claims
from lrpilot.bench.held_out import CONTROLS, HeldOutRow, differences, load_rows, save_rows

GROUPS = ("low or moderate noise", "strong noise")


def rows(worth, sets=8):
    """Each contender leaves what ``worth`` says, 1 if it says nothing, from every base rate.

    Policies are called p and q.
    """
    rng = np.random.default_rng(0)
    for number in range(sets):
        hard = rng.normal(0, 1, 6)  # the same for all contenders
        for wrong in (0.1, 1.0, 10.0):
            for name in ("p", "q", "replay p", "replay q", *CONTROLS):
                if wrong != 1 and name in CONTROLS[1:]:
                    continue
                left = worth.get((name, wrong), worth.get(name, 1.0))
                finals = hard + math.log(left) + 0.01 * rng.normal(0, 1, 6)
                group = GROUPS[number % 2]
                yield HeldOutRow(f"set {number}", group, "axis", name, wrong, tuple(finals))


def verdicts(nmf=None, net=None):
    learned = {"learned-nmf": nmf, "learned-net": net}
    given = {name: list(found) for name, found in learned.items() if found is not None}
    found = evaluate(load_claims(), Findings([], SUITE), learned=given)
    return {one.id: one for one in found if one.id.startswith(("C6", "C8"))}


def test_without_rows_nothing_is_tested():
    found = verdicts()
    assert len(found) == 9
    assert {one.verdict for one in found.values()} == {"not tested"}
    assert "lrpilot evaluate net --save" in found["C8"].reason


def test_what_is_learned_is_told_from_what_its_base_does():
    """Here the base is as good, and the policies are worth nothing beyond it."""
    found = verdicts(nmf=rows({"tuned step": 1.25}))
    assert found["C6"].verdict == found["C6-theory"].verdict == "supported"
    assert found["C6"].estimate == pytest.approx(0.8, abs=0.01)
    assert found["C6-learning"].verdict == "undecided"
    assert found["C6"].tasks == 8
    assert found["C6-strong"].tasks == 4
    assert dict(found["C6"].by_part)["strong noise"] == pytest.approx(0.8, abs=0.01)
    assert (found["C6"].better, found["C6"].worse) == (8, 0)


def test_a_policy_that_ends_higher_refutes():
    found = verdicts(nmf=rows({"p": 1.1, "q": 1.1}))
    assert found["C6"].verdict == found["C6-learning"].verdict == "refuted"
    assert found["C6-theory"].verdict == "undecided"


def test_wrong_rates_count_where_the_claim_says_so():
    """Good from the right rate, bad from the wrong ones; the comparator is tuned."""
    far = {(name, wrong): 2.0 for name in "pq" for wrong in (0.1, 10.0)}
    found = verdicts(net=rows({"p": 0.9, "q": 0.9} | far))
    assert found["C8-right"].verdict == "supported"
    assert found["C8-right"].estimate == pytest.approx(0.9, abs=0.01)
    assert found["C8"].verdict == "refuted"
    assert found["C8"].estimate == pytest.approx((0.9 * 2 * 2) ** (1 / 3), abs=0.02)
    assert found["C8-same"].estimate == pytest.approx(found["C8"].estimate, abs=0.02)


def test_a_lost_run_is_counted():
    some = list(rows({}))
    at = next(i for i, row in enumerate(some) if row.contender == "p" and row.wrong == 1)
    some[at] = some[at]._replace(finals=(math.inf, *some[at].finals[1:]))
    found = verdicts(nmf=some)
    assert (found["C6"].lost, found["C6-theory"].lost) == (1, 0)
    assert found["C6"].estimate > 1.01


def test_a_replay_is_that_of_the_policy_itself():
    some = list(rows({"p": 0.5, "replay p": 0.5, "q": 2.0, "replay q": 2.0}, sets=1))
    found = differences(some, "learned", "replay", 1.0)
    assert found.shape == (2, 6)
    assert np.abs(found).max() < 0.1


def test_rows_come_back(tmp_path):
    some = list(rows({}, sets=1))
    save_rows(tmp_path / "rows.csv.gz", some, {"kind": "nmf"})
    about, again = load_rows(tmp_path / "rows.csv.gz")
    assert about == {"kind": "nmf"}
    assert [row[:5] for row in again] == [row[:5] for row in some]
    np.testing.assert_allclose(again[0].finals, some[0].finals, rtol=1e-5)
