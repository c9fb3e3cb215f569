"""The claim on the stability bound, from the rows of whole factorisations."""

import math

import pytest

from claim_rows import SUITE
from lrpilot.bench.claims import Findings, evaluate, load_claims
from lrpilot.bench.claims.stability import PROVED, StabilityRow, load_rows, save_rows


def rows(rose=0, *, count=1500, shares=(0.5, 0.95), risen=1.5):
    found = [
        StabilityRow(regime, share, at, 0.01)
        for regime in PROVED
        for share in shares
        for at in range(count)
    ]
    return [row._replace(left=risen) if at < rose else row for at, row in enumerate(found)]


def verdict(found):
    verdicts = evaluate(load_claims(), Findings([], SUITE), stability=found)
    return next(one for one in verdicts if one.id == "C7")


def test_no_rise_in_many_runs_supports_it_and_many_rises_refute_it():
    safe = verdict(rows())
    assert (safe.verdict, safe.estimate, safe.cells) == ("supported", 0.0, 12_000)
    assert safe.high == pytest.approx(1 - 0.025 ** (1 / 12_000))  # no success in n, exactly
    assert verdict(rows(60)).verdict == "refuted"
    assert verdict(rows(12)).verdict == "undecided"


def test_no_rise_in_few_runs_decides_nothing():
    assert verdict(rows(count=100)).verdict == "undecided"


@pytest.mark.parametrize("left", [math.nan, math.inf, 1.02])
def test_a_run_that_is_not_finite_has_risen(left):
    assert verdict(rows(7, risen=left)).estimate == pytest.approx(7 / 12_000)


def test_only_rates_up_to_a_proved_bound_count_and_the_others_are_shown():
    wrong = [StabilityRow("minibatch, 2/λmax", 0.95, at, 9.0) for at in range(100)]
    above = [StabilityRow(PROVED[0], 2.0, at, 9.0) for at in range(100)]
    found = verdict([*rows(), *wrong, *above])
    assert (found.verdict, found.estimate) == ("supported", 0.0)
    assert dict(found.by_part)["minibatch, 2/λmax, up to the bound"] == 1.0
    assert dict(found.by_part)[f"{PROVED[0]}, at 2 of it"] == 1.0


def test_without_rows_it_is_not_tested_and_says_what_makes_them():
    for none in (None, [], [StabilityRow(PROVED[0], 2.0, 0, 0.1)]):
        found = verdict(none)
        assert found.verdict == "not tested"
        assert "nmf_whole_runs.py" in found.reason


def test_rows_survive_a_file(tmp_path):
    some = [*rows(2, count=3, risen=math.nan)]
    save_rows(tmp_path / "rows.csv.gz", some, {"command": "x"})
    about, found = load_rows(tmp_path / "rows.csv.gz")
    assert about == {"command": "x"}
    assert [replace_nan(row) for row in found] == [replace_nan(row) for row in some]


def replace_nan(row):
    return row._replace(left="nan") if math.isnan(row.left) else row
