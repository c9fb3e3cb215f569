"""What README and docs say of claims is what the committed rows say; nothing is trained."""

from pathlib import Path

import pytest
from rich.console import Console

from lrpilot.bench.claims import misstated
from lrpilot.bench.claims.command import ClaimsAnswer, run_claims
from lrpilot.bench.claims.overview import standings
from lrpilot.bench.claims.page import page_text
from lrpilot.bench.claims.pictures import CAPTIONS
from lrpilot.bench.engines.engine import Engine

ROOT = Path(__file__).parents[3]
ROWS = Path("benchmarks/results/standard.csv.gz")
TEXTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

pytestmark = pytest.mark.skipif(not (ROOT / ROWS).exists(), reason="no rows are committed")


@pytest.fixture(scope="module")
def answer() -> ClaimsAnswer:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # the page names the file of rows as the command does
        return run_claims(
            "standard",
            store_path=Path("unused.db"),
            rows_path=ROWS,
            save_path=None,
            engine=Engine(),
            console=Console(stderr=True),
            command="",
        )


def test_the_page_is_what_the_rows_say_today(answer):
    table = standings(answer.findings)
    text = page_text(
        answer.verdicts, answer.findings, answer.about, table, CAPTIONS, folder="claims"
    )
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == text, (
        f"run `lrpilot claims --suite standard --rows {ROWS} --page docs/claims.md`"
    )


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_no_number_of_a_claim_is_misstated(path, answer):
    assert misstated(path.read_text(encoding="utf-8"), answer.verdicts) == []


def test_the_bench_is_sound_where_its_controls_must_hold(answer):
    by_id = {verdict.id: verdict.verdict for verdict in answer.verdicts}
    for control in ("K-self", "K-constant", "K-random"):
        assert by_id[control] == "supported"
    assert all(one.cells for one in answer.verdicts if one.kind == "control")
