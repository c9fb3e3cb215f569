import math
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import grid, modes, non_finite, run, scales, streams
from lrpilot.schedules import Signal
from lrpilot.schedules.greedy import ThresholdGreedy
from reference.threshold import ReferenceGreedy

# Everything said aloud: these tests must not depend on a default.
ALERT = {
    "factor": 0.5,
    "patience": 0,
    "window": 1,
    "threshold": 0.0,
    "warmup": 0,
    "cooldown": 0,
    "min_scale": 2.0**-40,
    "max_scale": 2.0**40,
    "mode": "min",
}


def greedy(**changed) -> ThresholdGreedy:
    return ThresholdGreedy(**(ALERT | changed))


def log2_scales(schedule, losses) -> list[float]:
    """After each loss, the number of raises less the number of cuts of an alert schedule."""
    return [math.log2(scale) for scale in scales(run(schedule, losses))[1:]]


def reasons(schedule, losses) -> list[str]:
    return [state.reason for state in run(schedule, losses)[1:]]


exact_settings = st.fixed_dictionaries(
    {
        "factor": st.sampled_from((0.5, 0.9, 0.95)) | st.floats(0.01, 0.99),
        "patience": st.integers(0, 4),
        "window": st.sampled_from((1, 2, 4, 8)),
        "threshold": st.sampled_from((0.0, 1 / 1024, 1 / 4, 1 / 2)),
        "warmup": st.integers(0, 4),
        "cooldown": st.integers(0, 4),
        "min_scale": st.floats(1e-6, 1.0),
        "max_scale": st.floats(1.0, 1e6),
        "mode": modes,
    }
)


@settings(max_examples=300)
@given(exact_settings, streams(grid | st.integers(-9, 9) | non_finite))
def test_the_rule_is_its_literal_reading(setting, losses):
    reference = ReferenceGreedy(**setting)
    expected = [reference.observe(loss) for loss in losses]
    states = run(ThresholdGreedy(**setting), losses)[1:]
    assert [(state.scale, state.reason) for state in states] == expected


@pytest.mark.parametrize("patience", [0, 1, 2, 7])
def test_the_rate_rises_at_each_patience_plus_1_improvements_in_a_row(patience):
    falling = [100.0 - n for n in range(30)]
    moves = log2_scales(greedy(patience=patience), falling)
    assert moves == [n // (patience + 1) for n in range(30)]


@pytest.mark.parametrize("patience", [0, 1, 2, 7])
def test_the_rate_falls_at_each_patience_plus_1_failures_in_a_row(patience):
    moves = log2_scales(greedy(patience=patience), [1.0] * 30)
    assert moves == [-(n // (patience + 1)) for n in range(30)]


def test_one_failure_starts_the_count_of_improvements_again():
    two_records_and_a_tie = [10.0, 9.0, 8.0, 8.0, 7.0, 6.0, 6.0, 5.0, 4.0, 3.0]
    assert log2_scales(greedy(patience=2), two_records_and_a_tie) == [0] * 9 + [1]


def test_one_improvement_starts_the_count_of_failures_again():
    two_failures_and_a_record = [9.0, 9.0, 9.0, 8.0, 8.0, 8.0, 7.0, 7.0, 7.0, 7.0]
    assert log2_scales(greedy(patience=2), two_failures_and_a_record) == [0] * 9 + [-1]


@given(loss=grid)
def test_the_first_observation_never_counts(loss):
    assert reasons(greedy(), [loss]) == ["calibrate"]
    assert log2_scales(greedy(), [loss]) == [0]


@pytest.mark.parametrize("window", [1, 2, 5, 50])
def test_nothing_is_decided_until_the_window_is_full(window):
    falling = [1000.0 - n for n in range(window + 1)]
    assert reasons(greedy(window=window), falling) == ["calibrate"] * window + ["raise"]
    assert greedy(window=window).init().best is None


def test_the_first_full_window_is_the_reference_and_not_its_lowest_loss():
    states = run(greedy(window=2), [9.0, 1.0, 8.0])
    assert [state.best for state in states] == [None, None, 5.0, 4.5]


def test_a_loss_improves_on_the_best_and_not_on_the_last():
    assert reasons(greedy(), [5.0, 3.0, 9.0, 4.0]) == ["calibrate", "raise", "lower", "lower"]


@pytest.mark.parametrize("warmup", [1, 2, 5])
def test_warmup_goes_on_raising_for_that_many_observations_from_the_reversal_on(warmup):
    losses = [4.0, 3.0, *[9.0] * (warmup + 2)]
    assert reasons(greedy(warmup=warmup), losses) == [
        "calibrate",
        "raise",
        *["warmup"] * warmup,
        *["lower"] * 2,
    ]
    assert log2_scales(greedy(warmup=warmup), losses)[-3:] == [warmup + 1, warmup, warmup - 1]


@pytest.mark.parametrize("cooldown", [1, 2, 5])
def test_cooldown_goes_on_cutting_for_that_many_observations_from_the_reversal_on(cooldown):
    losses = [4.0, 5.0, *[3.0 - n / 8 for n in range(cooldown + 2)]]
    assert reasons(greedy(cooldown=cooldown), losses) == [
        "calibrate",
        "lower",
        *["cooldown"] * cooldown,
        *["raise"] * 2,
    ]
    assert log2_scales(greedy(cooldown=cooldown), losses)[-3:] == [
        -cooldown - 1,
        -cooldown,
        1 - cooldown,
    ]


def test_warmup_runs_its_course_whatever_the_loss_does_meanwhile():
    losses = [4.0, 3.0, 9.0, 2.0, math.nan, 9.0, 9.0]
    assert reasons(greedy(warmup=3), losses) == [
        "calibrate",
        "raise",
        "warmup",
        "warmup",
        "ignore",
        "warmup",
        "lower",
    ]


def test_warmup_waits_for_the_reversal_however_late_it_comes():
    losses = [9.0, 8.0, 7.0, 6.0, 6.0, 6.0]
    assert reasons(greedy(patience=1, warmup=1), losses) == [
        "calibrate",
        "hold",
        "raise",
        "hold",
        "warmup",
        "hold",
    ]


def test_patience_starts_again_after_a_continuation():
    losses = [9.0, 8.0, 7.0, 7.0, 7.0, 7.0]
    assert reasons(greedy(patience=1, warmup=1), losses)[-3:] == ["warmup", "hold", "lower"]


def test_the_best_is_kept_up_to_date_during_a_continuation():
    """Variant E is blind here: it then takes 4 for an improvement on 5 (fault 5)."""
    losses = [5.0, 10.0, 1.0, 1.0, 4.0]
    states = run(greedy(cooldown=2), losses)
    assert [state.best for state in states] == [None, 5.0, 5.0, 1.0, 1.0, 1.0]
    assert states[-1].reason == "lower"


def test_bounds_stop_the_rate_exactly_at_themselves():
    schedule = greedy(factor=0.3, min_scale=0.01, max_scale=7.0)
    assert scales(run(schedule, [-n for n in range(9)]))[-1] == 7.0
    assert scales(run(schedule, [1.0] * 9))[-1] == 0.01


def test_the_rate_leaves_a_bound_as_soon_as_the_loss_turns():
    schedule = greedy(max_scale=2.0)
    assert log2_scales(schedule, [9.0, 8.0, 7.0, 6.0, 6.0]) == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("worse", [-92.0, -99.5, -100.0, -100.5])
def test_a_negative_loss_improves_only_by_falling(worse):
    """Variant E raises at a loss of -92 after -100 with a threshold of 1 % (fault 7)."""
    assert reasons(greedy(threshold=0.01), [-100.0, worse])[-1] == "lower"
    assert reasons(greedy(threshold=0.01), [-100.0, -101.5])[-1] == "raise"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_non_finite_loss_never_enters_the_window(bad):
    """One NaN in variant E's running mean sends the rate to its floor (fault 6)."""
    schedule = greedy(window=5)
    states = run(schedule, [9.0, bad, 9.0, 9.0, bad, 9.0, 9.0, bad, 8.0])
    assert states[-1].window == (9.0, 9.0, 9.0, 9.0, 8.0)
    assert states[-1].reason == "raise"


@given(
    loss=st.floats(allow_nan=False, allow_infinity=False),
    window=st.integers(1, 60),
    mode=modes,
)
def test_a_constant_loss_never_counts_as_an_improvement(loss, window, mode):
    rates = scales(run(greedy(window=window, mode=mode), [loss] * (window + 40)))
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == ALERT["min_scale"]


def test_a_longer_window_on_resume_is_filled_before_deciding():
    state = run(greedy(window=2), [3.0, 2.0, 1.0])[-1]
    resumed = run(greedy(window=4), [1.0, 1.0, 1.0], state)
    assert [state.reason for state in resumed] == ["raise", "calibrate", "calibrate", "raise"]


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("factor", 0.0, ValueError),
        ("factor", 1.0, ValueError),
        ("factor", -0.5, ValueError),
        ("factor", math.nan, ValueError),
        ("patience", -1, ValueError),
        ("patience", 1.5, TypeError),
        ("patience", True, TypeError),
        ("window", 0, ValueError),
        ("window", 2.0, TypeError),
        ("threshold", -0.1, ValueError),
        ("threshold", 1.0, ValueError),
        ("threshold", math.nan, ValueError),
        ("warmup", -2, ValueError),
        ("cooldown", -3, ValueError),
        ("min_scale", 0.0, ValueError),
        ("min_scale", math.nan, ValueError),
        ("min_scale", 1.5, ValueError),
        ("max_scale", math.inf, ValueError),
        ("max_scale", 0.5, ValueError),
        ("mode", "mean", ValueError),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_value(setting, value, error):
    with pytest.raises(error) as refusal:
        greedy(**{setting: value})
    assert setting in str(refusal.value)
    shown = repr(value) if isinstance(value, str) else format(value)
    assert shown in str(refusal.value)


def test_the_bounds_may_not_cross():
    with pytest.raises(ValueError, match=r"min_scale \(2\) is above max_scale \(0.5\)"):
        greedy(min_scale=2.0, max_scale=0.5)


def test_settings_and_state_have_only_their_own_names():
    """So that a checkpoint holds no settings; ``window`` is a size in one, losses in the other."""
    schedule = greedy(window=3)
    shared = set(asdict(schedule)) & set(schedule.init()._fields)
    assert shared == {"window"}
    assert schedule.update(schedule.init(), Signal(2.0)).window == (2.0,)
