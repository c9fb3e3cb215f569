import pytest

from lrpilot.bench.claims import load_claims
from lrpilot.bench.claims.claim import UNITS, read_claims
from lrpilot.bench.held_out import CONTROLS
from lrpilot.bench.nmf import SUITE as NMF
from lrpilot.bench.suite import OPTIMIZERS, SUITES
from lrpilot.learning.evaluation.sets import nmf_sets
from lrpilot.schedules import NAMED_SCHEDULES

FILE = load_claims()
FAMILIES = SUITES["standard"].families

# What the project set out to test: a claim with each of these ids, or ids that begin so.
SET_OUT = ("C1", "C1b", "C1c", "C1d", "C2", "C3", "C4", "C5", "C6", "C7", "C8", "C9", "C10")

MINIMAL = """
[sets]
few = ["linear", "cosine"]
[[claim]]
id = "A"
kind = "claim"
statement = "s"
quote = "q"
source = "w"
track = "T1"
metric = "budget-equivalent"
method = "greedy"
comparators = ["few", "step", "cosine"]
families = []
threshold = 1.0
direction = "above"
margin = 0.05
target = 1.0
refuted_by = "r"
study = ""
untested = ""
"""


@pytest.mark.parametrize("prefix", SET_OUT)
def test_every_claim_that_the_project_set_out_with_is_in_the_file(prefix):
    assert any(claim.id == prefix or claim.id.startswith(f"{prefix}-") for claim in FILE.claims)


@pytest.mark.parametrize("claim", FILE.claims, ids=lambda claim: claim.id)
def test_every_claim_says_what_it_claims_who_says_so_and_what_would_refute_it(claim):
    assert claim.statement
    assert claim.quote
    assert claim.source
    assert claim.refuted_by
    assert claim.metric in UNITS
    assert 0 < claim.margin < 1
    assert "|" not in claim.statement + claim.quote + claim.source  # would break the page's table


@pytest.mark.parametrize("claim", FILE.claims, ids=lambda claim: claim.id)
def test_whatever_a_claim_names_exists_unless_it_says_that_it_does_not_yet(claim):
    if claim.untested:
        return
    if claim.study.startswith("learned"):
        assert claim.method in ("learned", *CONTROLS)
        assert claim.comparators[0] in ("replay", *CONTROLS)
        assert set(claim.families) <= {one.group for one in nmf_sets()}
        return
    of_study = {name for pairs in NMF.baselines.values() for name, _ in pairs} | {*NMF.families}
    families, optimizers = (NMF.families, of_study) if claim.study else (FAMILIES, OPTIMIZERS)
    for name in (claim.method, *claim.comparators):
        entrants = [FILE.entrant(name, family) for family in claim.families or families]
        present = [entrant for entrant in entrants if entrant is not None]
        assert present, name
        for entrant in present:
            assert entrant.optimizer in optimizers
            assert entrant.schedule in NAMED_SCHEDULES


def test_baselines_are_compared_with_at_tuned_rates_alone():
    for claim in FILE.claims:
        # Every arm of a study runs at every rate.
        if claim.track in ("T0", "T2", "T3") and not claim.study:
            assert not {claim.method, *claim.comparators} & set(FILE.names)


def test_every_control_says_so_and_there_are_both_kinds():
    controls = [claim for claim in FILE.claims if claim.kind == "control"]
    assert {claim.direction for claim in controls} == {"above", "below", "around"}
    assert all(claim.id.startswith("K-") for claim in controls)


def test_sets_are_spelt_out_once_each():
    assert read_claims(MINIMAL).claims[0].comparators == ("linear", "cosine", "step")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('quote = "q"', "", "claim A lacks quote"),
        ('quote = "q"', 'quote = "q"\nquite = "q"', "claim A must not have quite"),
        ('track = "T1"', 'track = "T9"', "track of claim A must be one of"),
        ('metric = "budget-equivalent"', 'metric = "luck"', "metric of claim A must be one of"),
        ('metric = "budget-equivalent"', 'metric = "none"', "metric of claim A is none"),
        ('direction = "above"', 'direction = "up"', "direction of claim A must be one of"),
        ('direction = "above"', 'direction = "around"', "lack of evidence would support"),
    ],
)
def test_a_claim_that_is_not_well_formed_is_refused_by_name(old, new, problem):
    with pytest.raises(ValueError, match=problem):
        read_claims(MINIMAL.replace(old, new))


def test_two_claims_of_one_id_are_refused():
    entry = MINIMAL[MINIMAL.index("[[claim]]") :]
    with pytest.raises(ValueError, match="twice: A"):
        read_claims(MINIMAL + entry)
