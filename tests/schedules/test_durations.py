import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import scales
from lrpilot.schedules import Constant, Linear, Plateau, Signal, State
from lrpilot.schedules.durations import (
    amount_or_share,
    epochs,
    lengths,
    samples,
    seconds,
    steps,
    tokens,
)
from lrpilot.schedules.phases import Phases, cooldown, phase, warmup

ALERT = Plateau(factor=0.5, patience=0, threshold=0.0)


def rate(progress: float) -> float:
    return 1 - 0.75 * progress**2


def fed(schedule: Phases, consumed: list[Signal]) -> list[State]:
    states = [schedule.init()]
    for signal in consumed:
        states.append(schedule.update(states[-1], signal))
    return states


@pytest.mark.parametrize("lasts", [500, np.int64(500), steps(500)])
def test_a_whole_number_counts_steps(lasts):
    assert amount_or_share(lasts) == steps(500)
    assert warmup(lasts) == warmup(500)
    assert repr(warmup(lasts)) == repr(warmup(500))


@pytest.mark.parametrize("amount", [steps(500), steps(100.1), tokens(1e9), epochs(1 / 3)])
def test_an_amount_is_written_as_it_is_made(amount):
    assert eval(repr(amount)) == amount
    assert repr(tokens(np.float32(8))) == "tokens(8)"


@pytest.mark.parametrize("lasts", [0.25, np.float32(0.25), np.float64(0.25)])
def test_a_float_below_1_is_a_share(lasts):
    assert repr(amount_or_share(lasts)) == "0.25"


@pytest.mark.parametrize("lasts", [1.0, 500.0, -0.1, math.nan, math.inf])
def test_another_float_is_refused_with_the_cure(lasts):
    with pytest.raises(ValueError, match=r"share of the horizon.*write steps as a whole number"):
        warmup(lasts)


@pytest.mark.parametrize("lasts", [True, "500", [5], 1j])
def test_what_is_no_duration_is_refused(lasts):
    with pytest.raises(TypeError, match="a phase lasts a whole number of steps, a share"):
        phase(Constant(), lasts)
    with pytest.raises(TypeError, match="a phase lasts"):
        warmup(None)


@pytest.mark.parametrize("count", [-1, math.nan, math.inf])
def test_an_amount_is_finite_and_not_negative(count):
    with pytest.raises(ValueError, match="tokens must be at least 0 and finite"):
        tokens(count)
    with pytest.raises(ValueError, match="steps must be at least 0"):
        warmup(-1)


@pytest.mark.parametrize(("total", "error"), [(1e4, TypeError), (0, ValueError), (0.5, TypeError)])
def test_a_horizon_is_a_number_of_steps_or_a_positive_amount(total, error):
    with pytest.raises(error, match="total must be"):
        warmup(5).over(total)
    with pytest.raises(ValueError, match="total must be positive"):
        warmup(5).over(tokens(0))


def test_the_open_ended_phase_gets_what_the_horizon_leaves():
    assert [one.amount for one in lengths([100, None, 0.2, 50], steps(1000))] == [100, 750, 200, 50]


def test_phases_longer_than_the_horizon_are_refused():
    with pytest.raises(ValueError, match="the phases last 1200 steps and the horizon 1000"):
        (warmup(1000) >> Constant() >> cooldown(0.2)).over(1000)


def test_a_horizon_that_no_phase_fills_is_refused():
    with pytest.raises(ValueError, match="leave out the length of the phase that shall fill it"):
        (warmup(100) >> phase(Linear(), 800)).over(1000).init()
    # Rounding is not a gap, and what is in other units cannot be told.
    (warmup(0.1) >> phase(Linear(), 0.2) >> cooldown(0.7)).over(1000).init()
    (warmup(epochs(1)) >> phase(Linear(), 0.5)).over(1000).init()


def test_an_end_in_another_unit_than_the_horizon_is_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"last 500 steps .* give phases after .* in tokens"):
        (warmup(5) >> Constant() >> cooldown(500)).over(tokens(1e6))
    (warmup(5) >> Constant() >> cooldown(0.1)).over(tokens(1e6))


def test_phases_without_any_length_are_refused():
    with pytest.raises(ValueError, match="all phases have length 0"):
        (warmup(0) >> phase(Linear(), 0)).init()


@given(
    st.integers(1, 5000),
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 6),
    st.sampled_from((("tokens", tokens), ("samples", samples), ("seconds", seconds))),
)
def test_a_constant_consumption_per_step_equals_steps(per_step, up, middle, down, unit):
    name, amount = unit
    total = up + middle + down + 3

    def plan(count):
        return (
            warmup(count(up)) >> phase(rate, count(middle)) >> ALERT >> cooldown(down / total)
        ).over(count(total))

    losses = [3.0, 2.0, 2.0, 4.0, 1.0, 1.0] * 6
    signals = [Signal(loss, **{name: per_step}) for loss in losses]
    assert plan(lambda n: amount(n * per_step)).needs == ("loss", name)
    counted = scales(fed(plan(lambda n: amount(n * per_step)), signals))
    assert counted == pytest.approx(scales(fed(plan(steps), signals)), rel=1e-9, abs=1e-9)


def test_a_share_of_an_epoch_per_step_adds_up_despite_rounding():
    assert sum([0.1] * 10) < 1
    plan = warmup(epochs(1)) >> ALERT
    phases = [state.phase for state in fed(plan, [Signal(1.0, epochs=0.1)] * 12)]
    assert phases == [0] * 10 + [1] * 3


def test_what_a_step_consumes_beyond_a_phase_counts_for_the_next():
    plan = warmup(tokens(10), 0.0) >> phase(Linear(), tokens(10)) >> phase(Constant(), 1)
    assert scales(fed(plan, [Signal(tokens=4)] * 6)) == [0.0, 0.4, 0.8, 0.8, 0.4, 0.0, 0.0]
    # Tokens are not steps.
    unlike = warmup(tokens(10), 0.0) >> phase(Linear(), 2)
    assert scales(fed(unlike, [Signal(tokens=15)] * 3)) == [0.0, 1.0, 0.5, 0.0]
    # A step may pass a phase altogether.
    assert scales(fed(plan, [Signal(tokens=15)] * 2)) == [0.0, 0.5, 0.0]


def test_units_may_be_mixed_before_the_open_ended_phase():
    plan = (
        warmup(2, 0.0) >> phase(Linear(end_scale=0.5), epochs(1)) >> Constant() >> cooldown(0.2)
    ).over(tokens(100))
    assert plan.needs == ("epochs", "tokens")
    signals = [Signal(epochs=0.25, tokens=10)] * 11
    expected = [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.5, 0.5, 0.25, 0.0, 0.0]
    assert scales(fed(plan, signals)) == pytest.approx(expected)


@pytest.mark.parametrize("tokens_of_step", [-1.0, math.nan, math.inf])
def test_a_consumption_that_is_none_is_refused(tokens_of_step):
    plan = warmup(tokens(10))
    with pytest.raises(ValueError, match=r"a step cannot consume .* tokens"):
        plan.update(plan.init(), Signal(tokens=tokens_of_step))
