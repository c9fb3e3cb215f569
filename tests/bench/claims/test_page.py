from dataclasses import replace
from pathlib import Path

import pytest

from claim_rows import SUITE, rows
from lrpilot.bench.claims import Findings, evaluate, load_claims
from lrpilot.bench.claims.overview import profiles, standings
from lrpilot.bench.claims.page import page_text, write_page

ABOUT = {"command": "lrpilot claims", "suite": "known"}


@pytest.fixture(scope="module")
def findings() -> Findings:
    return Findings(rows(), SUITE)


@pytest.fixture(scope="module")
def verdicts(findings):
    return evaluate(load_claims(), findings, command="lrpilot claims")


@pytest.fixture(scope="module")
def page(findings, verdicts, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("docs") / "claims.md"
    write_page(path, verdicts, findings, ABOUT)
    return path


def test_equal_rows_make_equal_pages_and_pictures_byte_for_byte(page, tmp_path):
    again = Findings(list(rows())[::-1], SUITE)
    other = tmp_path / "claims.md"
    write_page(other, evaluate(load_claims(), again, command="lrpilot claims"), again, ABOUT)
    assert other.read_bytes() == page.read_bytes()
    pictures = sorted(path.name for path in page.with_suffix("").iterdir())
    assert pictures == ["profiles.svg", "responses.svg", "tasks.svg", "trials.svg", "wins.svg"]
    for name in pictures:
        assert (other.with_suffix("") / name).read_bytes() == (
            page.with_suffix("") / name
        ).read_bytes()


def test_every_claim_stands_on_the_page_with_its_number_and_verdict(page, verdicts):
    lines = page.read_text().splitlines()
    for verdict in verdicts:
        line = next(line for line in lines if line.startswith(f"| {verdict.id} |"))
        shown = {"supported": "yes", "refuted": "no"} if verdict.kind == "control" else {}
        assert shown.get(verdict.verdict, verdict.verdict) in line
        if verdict.estimate is not None:
            assert f"{verdict.estimate:.2f} [".replace("-", "−") in line


def test_the_page_has_the_rules_and_every_picture(page):
    text = page.read_text()
    assert "lack of evidence refutes nothing" in text
    for picture in page.with_suffix("").iterdir():
        assert f"(claims/{picture.name})" in text


def test_numbers_that_two_decimals_would_make_nothing_keep_two_digits(findings, verdicts):
    parts = (("up to the bound", 0.00031), ("one family", -0.92), ("another", -1e-17))
    told = [replace(verdicts[0], by_part=parts), *verdicts[1:]]
    text = page_text(told, findings, ABOUT, standings(findings), {}, "claims")
    assert "up to the bound 0.00031; one family −0.92; another 0.00 |" in text


def test_a_page_replaces_pages_of_claims_only(page, findings, verdicts, tmp_path):
    write_page(page, verdicts, findings, ABOUT)
    mine = tmp_path / "notes.md"
    mine.write_text("my notes")
    with pytest.raises(ValueError, match="is not a page of claims"):
        write_page(mine, verdicts, findings, ABOUT)
    assert mine.read_text() == "my notes"


def test_methods_are_ranked_by_what_they_are_worth(findings):
    ranked = [standing.name for standing in standings(findings)]
    assert ranked[0] == "greedy-cooldown"
    assert set(ranked[-2:]) == {"constant", "random"}
    first = standings(findings)[0]
    assert first.ratio.low < 1.1 * 1.02
    assert first.best_of[0] < first.best_of[-1]
    assert len(first.anytime) == 3


def test_a_profile_rises_from_the_fastest(findings):
    found = profiles(findings, ("greedy-cooldown", "constant"), 0.25)
    assert set(found) == {"greedy-cooldown", "constant"}
    assert all(ratio == 1.0 for ratio in found["greedy-cooldown"])
    assert all(ratio > 1.0 for ratio in found["constant"])
