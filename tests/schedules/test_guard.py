"""The guard: what alarms and what does not, how it brakes, and that it is a schedule."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contracts
from contracts import finite, grid, modes, non_finite, streams
from lrpilot.schedules import (
    Constant,
    Cosine,
    Greedy,
    OpenLoop,
    Plateau,
    Signal,
    cooldown,
    pack,
    phase,
    warmup,
)
from lrpilot.schedules.guard import Guard

CONSTANT = OpenLoop(Constant(), total_steps=10)
ALERT = {"calibration": 1, "settle": 2, "recovery": 2}

INNER = {
    "constant": CONSTANT,
    "cosine": OpenLoop(Cosine(), total_steps=12),
    "greedy": Greedy(factor=0.5, patience=0, window=2),
    "plateau": Plateau(factor=0.5, patience=0),
    "phases": (warmup(3) >> Greedy(factor=0.5, patience=0, window=1) >> cooldown(0.25)).over(16),
}


def noise(kind: str, number: int, seed: int = 0) -> list[float]:
    """Losses around 3 with a spread of about 1."""
    rng = random.Random(seed)
    last = 0.0
    losses = []
    for _ in range(number):
        match kind:
            case "normal":
                away = rng.gauss(0, 1)
            case "laplace":
                away = rng.expovariate(1) * rng.choice((-1, 1))
            case "student-t(3)":
                away = rng.gauss(0, 1) / math.sqrt(rng.gammavariate(1.5, 2) / 3)
            case "exponential":
                away = rng.expovariate(1)
            case _:
                last = away = 0.9 * last + math.sqrt(1 - 0.9**2) * rng.gauss(0, 1)
        losses.append(3 + away)
    return losses


def alarms(guard: Guard, losses) -> list[int]:
    """Which losses, counted from 0, set off the alarm."""
    states = contracts.run(guard, losses)
    counts = [state.alarms for state in states]
    return [at for at in range(len(losses)) if counts[at + 1] > counts[at]]


def reasons(guard: Guard, losses) -> list[str]:
    return [state.reason for state in contracts.run(guard, losses)[1:]]


def brakes(guard: Guard, losses) -> list[float]:
    return [state.brake for state in contracts.run(guard, losses)[1:]]


KINDS = ["normal", "laplace", "student-t(3)", "exponential", "autoregressive"]


@pytest.mark.parametrize("kind", KINDS)
def test_noise_alone_never_alarms(kind):
    losses = noise(kind, 20_000)
    assert alarms(Guard(CONSTANT), losses) == []
    assert alarms(Guard(CONSTANT), [loss - 3 for loss in losses]) == []
    assert alarms(Guard(CONSTANT), [loss - 30 for loss in losses]) == []


@pytest.mark.parametrize("kind", ["normal", "laplace", "student-t(3)", "autoregressive"])
def test_few_starts_are_braked_though_nothing_is_known_about_the_noise(kind):
    starts = [noise(kind, 30, seed) for seed in range(400)]
    assert sum(bool(alarms(Guard(CONSTANT), losses)) for losses in starts) <= 4


def test_a_loss_that_falls_fast_never_alarms():
    rng = random.Random(1)
    losses = [10 * math.exp(-step / 30) * rng.gauss(1, 0.1) + 0.01 for step in range(1000)]
    assert alarms(Guard(CONSTANT), losses) == []


def test_a_fall_is_soon_forgotten():
    rng = random.Random(1)
    losses = [10 * math.exp(-step / 10) + rng.gauss(1, 0.1) for step in range(300)]
    assert alarms(Guard(CONSTANT), [*losses, *[2.5] * 5]) == [302]


@pytest.mark.parametrize(
    ("seen", "reach"), [(10, 10), (40, 40), (100, 50), (400, 100), (800, 200), (3000, 200)]
)
def test_the_averages_reach_over_a_quarter_of_what_was_seen_and_at_most_the_memory(seen, reach):
    losses = noise("normal", seen - 1)
    level, spread, _ = contracts.run(Guard(CONSTANT), losses)[-1].losses.usual
    moved = contracts.run(Guard(CONSTANT), [*losses, level + 2 * spread])[-1].losses.usual
    assert moved.level - level == pytest.approx(2 * spread / reach)
    assert moved.spread - spread == pytest.approx(spread / reach)


def test_a_single_outlier_never_alarms_however_large():
    losses = noise("normal", 600)
    losses[300::50] = [1e12] * 6
    assert alarms(Guard(CONSTANT), losses) == []


def test_outliers_leave_the_usual_where_it_was():
    losses = noise("normal", 600)
    level, spread, _ = contracts.run(Guard(CONSTANT), losses)[-1].losses.usual
    losses[300::50] = [1e12] * 6
    moved, widened, _ = contracts.run(Guard(CONSTANT), losses)[-1].losses.usual
    assert moved == pytest.approx(level, abs=0.2 * spread)
    assert widened == pytest.approx(spread, rel=0.2)


@pytest.mark.parametrize("confirm", [1, 2, 3, 5])
def test_as_many_high_losses_in_a_row_as_confirm_says_alarm_at_once(confirm):
    losses = [*noise("normal", 300), *[30.0] * confirm]
    assert alarms(Guard(CONSTANT, confirm=confirm), losses) == [299 + confirm]
    assert alarms(Guard(CONSTANT, confirm=confirm), losses[:-1]) == []
    losses[-1:-1] = [3.0]
    assert alarms(Guard(CONSTANT, confirm=confirm), losses) == ([301] if confirm == 1 else [])


@pytest.mark.parametrize(("above", "alarmed"), [(5.5, False), (6.5, True)])
def test_high_is_so_many_spreads_above_the_level(above, alarmed):
    guard = Guard(CONSTANT, confirm=1)
    losses = noise("normal", 1000)
    level, spread, _ = contracts.run(guard, losses)[-1].losses.usual
    assert bool(alarms(guard, [*losses, level + above * spread])) is alarmed


@pytest.mark.parametrize("shift", [0.0, -1.0, -20.0])
def test_a_loss_that_triples_alarms_whatever_its_sign(shift):
    rng = random.Random(2)
    losses = [rng.gauss(1, 0.1) for _ in range(300)]
    jumped = [rng.gauss(3, 0.3) for _ in range(10)]
    assert alarms(Guard(CONSTANT), [loss + shift for loss in (*losses, *jumped)]) == [302]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e305])
@pytest.mark.parametrize("non_finite", [1, 3])
def test_non_finite_losses_alarm_even_before_calibration(value, non_finite):
    guard = Guard(CONSTANT, non_finite=non_finite, calibration=50)
    assert alarms(guard, [value] * non_finite) == [non_finite - 1]
    assert alarms(guard, [1.0, *[value] * (non_finite - 1), 1.0, *[value] * non_finite]) == [
        2 * non_finite
    ]


def test_nothing_else_alarms_before_calibration():
    explosion = [2.0 * 10**step for step in range(9)]
    assert alarms(Guard(CONSTANT), explosion)[0] == 3
    assert alarms(Guard(CONSTANT, calibration=7), explosion)[0] == 6


@pytest.mark.parametrize("level", [1.0, -1.0, 1e-12, 1e9])
def test_rounding_of_a_constant_loss_is_no_spike(level):
    unit = 2**-8 * abs(level)  # of bfloat16
    losses = [level] * 3000
    losses += [level + unit * (step // 3 % 2) for step in range(300)]
    assert alarms(Guard(CONSTANT), losses) == []


def test_losses_that_were_all_zero_say_nothing_about_their_size():
    assert alarms(Guard(CONSTANT, confirm=1), [*[0.0] * 50, 0.1, 0.2, 0.1, 0.3]) == []
    assert alarms(Guard(CONSTANT), [*[0.0] * 50, 0.1, 0.2, 0.1, *[9.0] * 3]) == [55]


@pytest.mark.parametrize("growth", [1.003, 1.03])
def test_a_loss_that_creeps_up_alarms_before_it_has_grown_tenfold(growth):
    rng = random.Random(3)
    losses = noise("normal", 300) + [3 * growth**step + rng.gauss(0, 1) for step in range(2000)]
    at = alarms(Guard(CONSTANT), losses)
    assert at[0] > 300
    assert losses[at[0]] < 30


def test_a_loss_that_has_crept_up_and_stays_there_alarms_once():
    rng = random.Random(3)
    losses = [3 * 1.003 ** min(max(step - 300, 0), 330) + rng.gauss(0, 1) for step in range(3000)]
    assert len(alarms(Guard(CONSTANT), losses)) == 1


def test_a_raised_rate_may_make_more_noise():
    rng = random.Random(4)
    losses = [1 + abs(rng.gauss(0, 0.02)) for _ in range(1000)]
    losses += [1 + abs(rng.gauss(0, 0.6)) for _ in range(1000)]
    raising = OpenLoop(lambda progress: 1.0 if progress >= 0.5 else 1 / 32, total_steps=2000)
    assert alarms(Guard(raising, confirm=2), losses) == []
    assert alarms(Guard(CONSTANT, confirm=2), losses)


def test_an_alarm_cuts_at_once_and_the_brake_recovers_to_half_of_what_failed():
    guard = Guard(CONSTANT, recovery=3)
    losses = [1.0, 1.0, 50.0, 50.0, 50.0, 50.0, *[1.0] * 9]
    states = contracts.run(guard, losses)[1:]
    assert [state.brake for state in states] == [1.0] * 4 + [0.25] * 4 + [0.5] * 7
    assert [state.reason for state in states][4::4] == ["brake", "recover", "plan"]
    assert [state.alarms for state in states[3:5]] == [0, 1]


def test_each_further_alarm_cuts_what_is_left_and_halves_the_ceiling():
    guard = Guard(CONSTANT, recovery=1, non_finite=1)
    spike = [math.nan, 1.0, 1.0, 1.0]
    assert brakes(guard, [1.0, *spike, *spike]) == [1.0, 0.25, *[0.5] * 3, 0.125, *[0.25] * 3]


def test_the_ceiling_is_forgotten_in_the_long_run():
    guard = Guard(CONSTANT, recovery=2, forget=20)
    ends = [math.nan, *[1.0] * 60]
    assert [brakes(guard, ends)[at] for at in (0, 2, 19, 20, 60)] == [0.25, 0.5, 0.5, 1.0, 1.0]


def test_one_spike_is_cut_once_and_a_second_one_again():
    calm, spike = [1.0] * 20, [90.0] * 6
    guard = Guard(CONSTANT, settle=10)
    assert alarms(guard, [*calm, *spike, *calm, *spike, *calm]) == [22, 48]


def test_a_loss_that_stays_up_is_the_new_usual_and_one_that_goes_on_rising_alarms_again():
    calm = [1.0] * 50
    assert alarms(Guard(CONSTANT, settle=5), [*calm, *[90.0] * 500]) == [52]
    rising = [90.0 * 3**step for step in range(60)]
    assert alarms(Guard(CONSTANT, settle=5), [*calm, *rising])[:3] == [52, 62, 72]


def test_losses_that_stay_non_finite_are_cut_every_settle_observations():
    losses = [1.0, *[math.nan] * 12]
    assert alarms(Guard(CONSTANT, settle=5), losses) == [1, 6, 11]


def test_after_an_alarm_the_usual_is_that_before_the_spike():
    guard = Guard(CONSTANT)
    calm = noise("normal", 300)
    before = contracts.run(guard, calm)[-1].losses.usual
    after = contracts.run(guard, [*calm, *[1e6] * 8, 3.0])[-1].losses.usual
    assert after.level == pytest.approx(before.level, abs=0.1)


def test_the_brake_never_falls_below_its_floor():
    guard = Guard(CONSTANT, settle=1, min_brake=0.01)
    states = contracts.run(guard, [math.nan] * 40)
    assert states[-1].alarms > 4
    assert states[-1].brake == states[-1].scale == 0.01


def test_healthy_means_finite_and_unsuspicious():
    losses = [1.0, 1.0, 50.0, 1.0, math.nan, 1.0, *[50.0] * 4, 1.0]
    states = contracts.run(Guard(CONSTANT, non_finite=2), losses)[1:]
    assert [state.is_healthy for state in states] == [
        *(True, True, False, True, False, True),
        *(False, False, False, False, True),
    ]


@pytest.mark.parametrize("name", INNER)
@given(losses=streams(grid | finite | non_finite))
def test_the_scale_is_the_inner_one_times_a_brake(name, losses):
    guard = Guard(INNER[name], **ALERT)
    inner = contracts.run(INNER[name], losses)
    guarded = contracts.run(guard, losses)
    assert [state.inner for state in guarded] == inner
    for state in guarded:
        assert guard.min_brake <= state.brake <= state.ceiling <= 1
        assert state.scale == state.inner.scale * state.brake
        assert state.reason in (state.inner.reason, "brake", "recover")


@pytest.mark.parametrize("name", INNER)
@given(losses=streams(grid | finite | non_finite), cut=st.integers(0, 100))
def test_resuming_changes_nothing_and_the_state_is_strict_json(name, losses, cut):
    guard = Guard(INNER[name], **ALERT)
    contracts.check_resume_changes_nothing(guard, losses, cut)
    for state in contracts.run(guard, losses):
        json.dumps(pack(state), allow_nan=False)


@pytest.mark.parametrize("name", INNER)
@given(losses=streams(grid | non_finite))
def test_update_is_a_pure_function(name, losses):
    contracts.check_update_is_pure(Guard(INNER[name], **ALERT), losses)


@given(losses=streams(finite | contracts.awkward | non_finite), mode=modes)
def test_any_loss_is_survived(losses, mode):
    for state in contracts.run(Guard(CONSTANT, **ALERT, mode=mode), losses):
        json.dumps(pack(state), allow_nan=False)
        assert 0 < state.scale <= 1


@given(losses=streams(grid), power=st.integers(-30, 30))
def test_the_unit_of_the_loss_does_not_matter(losses, power):
    contracts.check_unit_of_loss_does_not_matter(Guard(CONSTANT, **ALERT), losses, 2.0**power)


@given(losses=streams(finite | non_finite), mode=modes)
def test_scores_mirror_losses(losses, mode):
    contracts.check_mirror_is_exact(Guard(CONSTANT, **ALERT, mode=mode), losses)


def test_a_guard_needs_the_loss_and_what_the_inner_schedule_needs():
    assert Guard(CONSTANT).needs == ("loss",)
    assert Guard(Greedy()).needs == ("loss",)
    assert Guard(phase(Cosine(), 5)).needs[-1] == "loss"


def test_a_guard_is_a_value():
    contracts.check_settings_are_values(Guard(INNER["greedy"], spike=4.0))
    assert Guard(CONSTANT) != Guard(CONSTANT, spike=4.0)
    assert Guard(CONSTANT).init().scale == 1.0
    assert Guard(CONSTANT).update(Guard(CONSTANT).init(), Signal(1.0)).reason == "plan"


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("spike", 1.0, "spike must be above 1"),
        ("spike", math.inf, "spike must be above 1"),
        ("confirm", 0, "confirm must be at least 1"),
        ("non_finite", 0, "non_finite must be at least 1"),
        ("calibration", 0, "calibration must be at least 1"),
        ("memory", 9, "memory must be at least 10"),
        ("factor", 1.0, "factor must lie strictly between 0 and 1"),
        ("settle", 0, "settle must be at least 1"),
        ("recovery", 0, "recovery must be at least 1"),
        ("forget", 0, "forget must be at least 1"),
        ("min_brake", 0.0, "min_brake must lie above 0"),
        ("min_brake", 1.5, "min_brake must lie above 0"),
        ("mode", "up", "mode must be"),
    ],
)
def test_impossible_settings_are_refused(setting, value, error):
    with pytest.raises(ValueError, match=error):
        Guard(CONSTANT, **{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"), [("spike", "high"), ("confirm", 1.5), ("settle", True)]
)
def test_settings_of_the_wrong_type_are_refused(setting, value):
    with pytest.raises(TypeError, match=f"{setting} must be a"):
        Guard(CONSTANT, **{setting: value})


@pytest.mark.parametrize("schedule", [Greedy, Constant(), None, 0.1])
def test_what_is_no_schedule_is_refused(schedule):
    with pytest.raises(TypeError, match="schedule must be a schedule such as"):
        Guard(schedule)
