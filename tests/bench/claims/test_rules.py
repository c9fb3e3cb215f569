import pytest

from lrpilot.bench.claims.rules import Bounds, rule

ABOVE, BELOW, ACROSS = Bounds(0.92, 0.98, 0.99), Bounds(0.2, 0.4, 0.6), Bounds(0.5, 0.95, 0.97)
UNKNOWN = Bounds(0.0, 0.2, 0.95)  # a share of which most cells are undecided


@pytest.mark.parametrize(
    ("bounds", "tasks", "p", "parts", "expected"),
    [
        (ABOVE, 3, 0.05, (), "supported"),
        (BELOW, 3, 0.05, (), "refuted"),
        (ACROSS, 3, 0.0, (), "undecided"),
        (UNKNOWN, 12, 0.0, (), "undecided"),  # lack of evidence refutes nothing
        (ABOVE, 2, 0.0, (), "undecided"),
        (ABOVE, 12, 0.051, (), "undecided"),
        (ACROSS, 12, 0.0, (ABOVE, BELOW), "mixed"),
        (ACROSS, 12, 0.0, (ABOVE, ACROSS), "undecided"),
        (BELOW, 12, 0.0, (ABOVE, BELOW), "refuted"),
    ],
)
def test_a_claim_above_a_threshold_is_ruled_by_interval_tasks_p_and_parts(
    bounds, tasks, p, parts, expected
):
    assert rule(bounds, 0.9, "above", tasks=tasks, adjusted_p=p, parts=parts) == expected


@pytest.mark.parametrize(
    ("bounds", "expected"), [(BELOW, "supported"), (ABOVE, "refuted"), (ACROSS, "undecided")]
)
def test_a_claim_below_a_threshold_is_the_mirror_image(bounds, expected):
    assert rule(bounds, 0.9, "below", tasks=3, adjusted_p=0.0) == expected


@pytest.mark.parametrize(
    ("bounds", "expected"), [(BELOW, "refuted"), (ABOVE, "refuted"), (ACROSS, "supported")]
)
def test_a_control_around_a_threshold_holds_if_the_interval_has_it_within(bounds, expected):
    assert rule(bounds, 0.9, "around", tasks=3, adjusted_p=0.0) == expected
