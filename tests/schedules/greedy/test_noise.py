import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import modes, run, scales
from lrpilot.schedules.greedy import NoiseGreedy
from lrpilot.schedules.greedy.trend import critical
from reference.noise import ReferenceNoise

# Everything said aloud: these tests must not depend on a default.
ALERT = {
    "factor": 0.5,
    "patience": 0,
    "window": 1,
    "evidence": 3.0,
    "threshold": 0.0,
    "warmup": 0,
    "cooldown": 0,
    "min_scale": 2.0**-40,
    "max_scale": 2.0**40,
    "mode": "min",
}


def greedy(**changed) -> NoiseGreedy:
    return NoiseGreedy(**(ALERT | changed))


def noise(seed: int, steps: int, correlation: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=steps)
    for t in range(1, steps if correlation else 1):
        values[t] = correlation * values[t - 1] + math.sqrt(1 - correlation**2) * values[t]
    return values


def moves(schedule, losses) -> list[tuple[int, str]]:
    """The steps at which the rate moved, and why."""
    states = run(schedule, [float(loss) for loss in losses])
    return [
        (step, after.reason)
        for step, (before, after) in enumerate(pairwise(states), 1)
        if after.scale != before.scale
    ]


def regimes(rng: np.random.Generator, steps: int) -> np.ndarray:
    """A loss that falls, rests, rises and jumps by turns, in noise of changing strength."""
    level, drift, spread, values = 0.0, 0.0, 1.0, []
    for _ in range(steps):
        if rng.random() < 0.02:
            drift, spread = rng.choice((0.0, 0.01, -0.1, 0.5)), rng.choice((0.01, 0.3, 2.0))
            drift *= rng.choice((-1, 1))
            level += rng.choice((0.0, 0.0, 20.0))
        level += drift
        values.append(level + spread * rng.normal())
    return np.array(values)


@settings(max_examples=60)
@given(
    st.fixed_dictionaries(
        {
            "factor": st.sampled_from((0.5, 0.9)),
            "patience": st.integers(0, 2),
            "window": st.sampled_from((1, 3)),
            "evidence": st.sampled_from((1.0, 2.0, 4.0)),
            "threshold": st.sampled_from((0.0, 1e-3)),
            "warmup": st.integers(0, 3),
            "cooldown": st.integers(0, 3),
            "min_scale": st.sampled_from((1e-3, 0.5)),
            "max_scale": st.sampled_from((2.0, 1e3)),
            "mode": modes,
        }
    ),
    st.integers(0, 2**32),
)
def test_the_rule_is_its_literal_reading(setting, seed):
    rule = NoiseGreedy(**setting)
    reference = ReferenceNoise(rule, critical)
    losses = regimes(np.random.default_rng(seed), 800)
    expected = [reference.observe(float(loss)) for loss in losses]
    states = run(rule, [float(loss) for loss in losses])[1:]
    for step, (state, (scale, reason)) in enumerate(zip(states, expected, strict=True)):
        assert (state.scale, state.reason) == (pytest.approx(scale, rel=1e-9), reason), step


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_noise_alone_moves_the_default_rate_in_at_most_one_run_of_twenty(correlation):
    rates = [scales(run(NoiseGreedy(), noise(seed, 5000, correlation)))[-1] for seed in range(20)]
    assert sum(abs(math.log(rate)) < math.log(1.1) for rate in rates) >= 19


@pytest.mark.parametrize(
    "heavy", [lambda rng: rng.standard_t(3, 5000), lambda rng: rng.laplace(size=5000)]
)
def test_neither_do_heavy_tails(heavy):
    rates = [
        scales(run(NoiseGreedy(), heavy(np.random.default_rng(seed))))[-1] for seed in range(20)
    ]
    assert sum(abs(math.log(rate)) < math.log(1.1) for rate in rates) >= 19


def test_a_loss_that_falls_beyond_doubt_raises_and_one_that_rises_lowers():
    quickening = -0.001 * np.arange(200.0) ** 2 + noise(0, 200)
    assert {reason for _, reason in moves(greedy(window=5), quickening)} == {"raise"}
    assert {reason for _, reason in moves(greedy(window=5), -quickening)} == {"lower"}


def test_the_first_verdict_comes_after_eight_blocks():
    falling = 100.0 - np.arange(100)
    assert moves(greedy(window=5), falling)[0] == (40, "raise")
    assert moves(greedy(window=1), falling)[0] == (8, "raise")


@pytest.mark.parametrize("patience", [0, 1, 2])
def test_the_rate_moves_after_patience_plus_1_equal_verdicts_in_a_row(patience):
    rising = np.arange(100.0) + noise(0, 100)
    assert moves(greedy(patience=patience), rising)[0] == (8 * (patience + 1), "lower")


def test_a_trend_that_noise_hides_at_first_is_found_at_a_later_look():
    drift = -0.002 * np.arange(900)
    assert moves(greedy(window=10), drift)[0] == (80, "raise")
    hidden = moves(greedy(window=10), drift + noise(1, 900))[0]
    assert hidden[0] in (270, 400, 600, 900)
    assert hidden[1] == "raise"


def test_the_reference_is_recent_and_not_the_record():
    """An all-time record would call this descent no improvement until it has made up for 50."""
    jump = np.concatenate([np.zeros(30), 50 - 0.1 * np.arange(60)]) + 0.01 * noise(0, 90)
    late = [(step, reason) for step, reason in moves(greedy(), jump) if step > 32]
    assert late[0][1] == "raise"
    assert jump[late[0][0]] > 45


def test_a_raise_that_does_not_speed_the_descent_up_is_taken_back():
    slowing = np.concatenate([100.0 - np.arange(8), 92 - 0.2 * np.arange(12)])
    assert moves(greedy(), slowing)[:2] == [(8, "raise"), (16, "revert")]
    states = run(greedy(), slowing)
    assert [state.scale for state in states[7:17:8]] == [1.0, 2.0]
    assert states[16].scale == 1.0


def test_a_raise_after_which_the_loss_rests_is_taken_back_by_its_deadline():
    resting = np.concatenate([100.0 - np.arange(8), 92 + noise(2, 30)])
    assert moves(greedy(), resting) == [(8, "raise"), (26, "revert")]


def test_a_raise_after_which_the_loss_stands_higher_is_taken_back_though_it_is_level():
    higher = np.concatenate([100.0 - np.arange(8), 99 + 0.1 * noise(3, 8)])
    assert moves(greedy(), higher) == [(8, "raise"), (16, "revert")]
    level = np.concatenate([100.0 - np.arange(8), 93 + 0.1 * noise(3, 8)])
    assert moves(greedy(), level) == [(8, "raise")]


def test_a_failed_raise_is_remembered_as_a_ceiling_and_forgotten_later():
    steps = np.arange(8.0)
    failed = np.concatenate([100 - 4 * steps, 70 - steps])  # raise, then slower: revert
    descent = 60 - 0.5 * np.arange(200)
    after = [step for step, reason in moves(greedy(), np.concatenate([failed, descent]))[2:]]
    assert after[0] == 16 + 56  # the seventh verdict "better" is the first past 50 blocks


def test_the_ceiling_is_remembered_twice_as_long_after_each_failure():
    memories = {
        state.memory.backoff for state in run(greedy(), regimes(np.random.default_rng(5), 3000))
    }
    assert {50, 100, 200} <= memories


def test_two_losses_in_a_row_far_above_the_noise_brake_at_once():
    spike = np.concatenate([noise(0, 50), [500.0, 500.0], noise(1, 20)])
    assert moves(greedy(), spike)[0] == (52, "brake")
    assert run(greedy(), spike)[52].scale == 0.25


def test_a_brake_is_taken_back_if_the_loss_is_back_at_the_next_look():
    harmless = np.concatenate([noise(0, 50), [500.0, 500.0], noise(1, 60)])
    assert moves(greedy(), harmless) == [(52, "brake"), (60, "recover")]
    assert scales(run(greedy(), harmless))[-1] == 1.0
    lasting = np.concatenate([noise(0, 50), [500.0, 500.0], 100 + noise(1, 60)])
    assert moves(greedy(), lasting) == [(52, "brake")]


def test_a_second_brake_soon_after_is_not_taken_back():
    harmful = np.concatenate([noise(0, 50), *[[500.0, 500.0, *noise(1, 20)]] * 2])
    assert moves(greedy(), harmful) == [(52, "brake"), (60, "recover"), (74, "brake")]


def test_a_single_outlier_never_brakes():
    outliers = noise(0, 200)
    outliers[60::7] = 500.0
    assert "brake" not in [reason for _, reason in moves(greedy(window=10), outliers)]


def test_a_divergence_is_cut_again_at_each_doubling_until_it_stops():
    exploding = np.concatenate([noise(0, 50), 100 * 2.0 ** np.arange(12)])
    assert [reason for _, reason in moves(greedy(), exploding)].count("brake") == 6


def test_warmup_goes_on_raising_for_so_many_blocks_from_the_reversal_on():
    turning = np.concatenate([100.0 - np.arange(8), 92 + np.arange(30.0)])
    assert moves(greedy(warmup=3), turning)[:5] == [
        (8, "raise"),
        (16, "warmup"),
        (17, "warmup"),
        (18, "warmup"),
        (26, "lower"),
    ]


def test_cooldown_goes_on_cutting_for_so_many_blocks_from_the_reversal_on():
    turning = np.concatenate([np.arange(8.0), 8 - np.arange(30.0)])
    assert moves(greedy(cooldown=2), turning)[:4] == [
        (8, "lower"),
        (16, "cooldown"),
        (17, "cooldown"),
        (25, "raise"),
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200, -1e200])
def test_a_loss_that_is_no_measurement_changes_nothing_but_the_reason(bad):
    state = run(greedy(), noise(0, 11))[-1]
    assert run(greedy(), [bad], state)[-1] == state._replace(reason="ignore")


def test_a_change_below_the_threshold_is_no_evidence():
    drift = 1000 - 0.001 * np.arange(400)
    assert moves(greedy(threshold=1e-3), drift) == []
    assert moves(greedy(threshold=1e-9), drift) != []


def test_another_window_on_resume_does_not_bend_the_block_under_way():
    state = run(greedy(window=10), [7.0] * 9)[-1]
    assert run(greedy(window=2), [7.0], state)[-1].evidence.last == 7.0


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("factor", 0.0, ValueError),
        ("factor", 1.0, ValueError),
        ("patience", -1, ValueError),
        ("patience", 1.5, TypeError),
        ("window", 0, ValueError),
        ("evidence", 0.5, ValueError),
        ("evidence", math.nan, ValueError),
        ("evidence", 11.0, ValueError),
        ("threshold", -0.1, ValueError),
        ("warmup", -2, ValueError),
        ("cooldown", -3, ValueError),
        ("min_scale", 1.5, ValueError),
        ("max_scale", 0.5, ValueError),
        ("mode", "mean", ValueError),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_value(setting, value, error):
    with pytest.raises(error) as refusal:
        greedy(**{setting: value})
    assert setting in str(refusal.value)
    assert (repr(value) if isinstance(value, str) else format(value)) in str(refusal.value)


def test_a_cut_never_raises_a_rate_that_tighter_bounds_have_left_below_the_floor():
    rising = np.arange(400.0) + noise(0, 400)
    low = run(greedy(min_scale=0.01), rising)[-1]
    assert low.scale == 0.01
    for losses in (rising, [1.0] * 20 + [1e6] * 2):
        resumed = scales(run(greedy(min_scale=0.5), [float(x) for x in losses], low))
        assert max(resumed) == 0.01


@given(
    st.sampled_from(("min", "max")), st.integers(2, 12), st.integers(0, 300), st.integers(0, 2**16)
)
def test_calm_losses_taken_in_together_are_what_updates_make_of_them_one_by_one(
    mode, window, before, seed
):
    rule = NoiseGreedy(window=window, evidence=1.0, mode=mode)
    losses = regimes(np.random.default_rng(seed), before + 20).tolist()
    state = run(rule, losses[:before])[-1]
    room, low, high = rule.calm(state)
    assert room == (window - 1 - state.seen if state.reason == "hold" else 0)
    calm = [loss for loss in losses[before:] if low < loss < high][:room]
    one_by_one = run(rule, calm, state)
    assert not calm or repr(rule.absorb(state, calm)) == repr(one_by_one[-1])
    assert {(each.scale, each.reason) for each in one_by_one} == {(state.scale, state.reason)}
