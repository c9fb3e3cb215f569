"""The page of claims says what the committed rows say; nothing is trained."""

from pathlib import Path

import pytest
from rich.console import Console

from lrpilot.bench.claims.command import run_claims
from lrpilot.bench.engines import Engine

ROOT = Path(__file__).parents[3]
ROWS = ROOT / "benchmarks" / "results" / "standard.csv.gz"


@pytest.fixture(scope="module")
def answer():
    return run_claims(
        "standard",
        store_path=Path("unused.db"),
        rows_path=ROWS,
        save_path=None,
        engine=Engine(),
        console=Console(stderr=True),
        command="",
    )


def test_every_verdict_stands_on_the_page_with_its_number(answer):
    page = (ROOT / "docs" / "claims.md").read_text()
    for verdict in answer.verdicts:
        assert verdict.id in page
        if verdict.estimate is not None:
            line = next(line for line in page.splitlines() if f"{verdict.id}" in line)
            assert verdict.verdict in page
            assert line


def test_the_controls_come_out(answer):
    verdicts = {verdict.verdict for verdict in answer.verdicts}
    assert verdicts <= {"supported", "refuted", "mixed", "undecided", "not tested"}
    assert "refuted" in verdicts
