from dataclasses import replace

import pytest

from claim_rows import SUITE, rows
from lrpilot.bench.claims import Findings, evaluate, load_claims, misstated


@pytest.fixture(scope="module")
def verdicts():
    found = evaluate(load_claims(), Findings(rows(), SUITE))
    return [replace(one, estimate=0.4249, low=-0.3) if one.id == "C-lin" else one for one in found]


@pytest.mark.parametrize(
    "stated",
    [
        "<!-- claim:C-lin -->0.42<!-- /claim -->",
        "<!--claim:C-lin-->0.4<!--/claim-->",
        "<!-- claim:C-lin -->42 %<!-- /claim -->",
        "<!-- claim:C-lin.low -->-0.30<!-- /claim -->",
        "<!-- claim:C-lin.low -->−0.30<!-- /claim -->",
        "<!-- claim:C-lin -->refuted<!-- /claim -->",
        "<!-- claim:C2 -->not tested<!-- /claim -->",
        "<!-- claim:C-lin.cells -->4<!-- /claim -->",
        "no mark, and so 0.99 is nobody's claim",
    ],
)
def test_what_the_rows_say_to_as_many_digits_is_no_misstatement(verdicts, stated):
    assert misstated(stated, verdicts) == []


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ("<!-- claim:C-lin -->0.43<!-- /claim -->", "stated as 0.43, but the rows say 0.42"),
        ("<!-- claim:C-lin -->supported<!-- /claim -->", "but the rows say refuted"),
        ("<!-- claim:C-lin.low -->0.30<!-- /claim -->", "but the rows say -0.30"),
        ("<!-- claim:C2 -->0.9<!-- /claim -->", "but the rows say not known"),
        ("<!-- claim:C99 -->0.9<!-- /claim -->", "there is no such claim"),
        ("<!-- claim:C-lin.hight -->0.9<!-- /claim -->", "no field hight"),
    ],
)
def test_a_misstated_number_or_verdict_is_told(verdicts, stated, complaint):
    (found,) = misstated(f"GreedyLR: {stated} of the budget", verdicts)
    assert complaint in found


def test_every_misstatement_of_a_text_is_told(verdicts):
    text = "<!-- claim:C-lin -->0.9<!-- /claim --> and\n<!-- claim:C-lin -->\n0.8\n<!-- /claim -->"
    assert len(misstated(text, verdicts)) == 2
