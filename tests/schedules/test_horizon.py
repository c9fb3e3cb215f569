import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import json_round_trip, run, scales
from lrpilot.schedules import (
    WSD,
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    OpenLoop,
    Plateau,
    Signal,
)
from lrpilot.schedules.durations import epochs, steps, tokens
from lrpilot.schedules.horizon import cool_down, extend
from lrpilot.schedules.phases import cooldown, phase, warmup

ALERT = Plateau(factor=0.5, patience=0, threshold=0.0)
PLAN = (warmup(0.1, 0.0) >> Constant() >> cooldown(0.2)).over(100)
GREEDY_PLAN = (warmup(0.1) >> ALERT >> cooldown(0.2)).over(100)
# The rate falls to a half at step 21 of the open-ended phase.
LOSSES = (
    [1.0] * 10 + [2.0 - n / 100 for n in range(20)] + [9.0] + [1.0 - n / 100 for n in range(200)]
)

every_how = pytest.mark.parametrize("how", ["stretch", "keep", "recool"])
shares = st.floats(0.05, 0.3)


def test_keep_gives_the_added_time_to_the_open_ended_phase():
    plan, state = extend(PLAN, run(PLAN, range(50))[-1], 200, "keep")
    assert plan == (warmup(steps(10), 0.0) >> Constant() >> cooldown(steps(20))).over(200)
    assert run(plan, range(160), state) == run(plan, range(210))[50:]


def test_keep_lets_a_cooldown_under_way_end_as_planned_and_hold():
    states = run(PLAN, range(120))
    plan, state = extend(PLAN, states[90], 200, "keep")
    assert scales(run(plan, range(30), state)) == scales(states[90:])


def test_recool_returns_to_the_open_ended_phase_and_cools_down_anew():
    states = run(PLAN, range(90))
    plan, state = extend(PLAN, states[-1], 200, "recool")
    rates = scales(run(plan, range(110), state))
    assert states[-1].scale == 0.5
    assert rates[:91] == [1.0] * 91
    assert rates[90:] == pytest.approx([1 - n / 20 for n in range(21)])


@pytest.mark.parametrize("at", [85, 100, 120])
def test_recool_takes_up_the_rule_as_the_cooldown_found_it(at):
    states = run(GREEDY_PLAN, LOSSES[:at])
    plan, state = extend(GREEDY_PLAN, states[-1], 300, "recool")
    found = plan.update(states[79], Signal(LOSSES[79]))
    assert (state.scale, state.reason) == (0.5, "hold")
    assert state.phases[1].inner == found.phases[1].inner
    # It compares with the losses before the cooldown: this one is worse.
    assert plan.update(state, Signal(1.0)).scale == 0.25


@given(st.integers(0, 79), st.integers(100, 300))
def test_recool_before_the_cooldown_is_keep(at, total):
    state = run(GREEDY_PLAN, LOSSES[:at])[-1]
    kept = extend(GREEDY_PLAN, state, total, "keep")
    assert extend(GREEDY_PLAN, state, total, "recool") == kept
    assert kept[1] == state


@given(st.data(), shares, shares, shares, st.integers(10, 200), st.integers(10, 200))
def test_stretch_is_as_if_the_new_horizon_had_been_there_from_the_start(
    data, up, middle, down, before, after
):
    parts = (
        warmup(up)
        >> phase(Cosine(end_scale=0.5), middle)
        >> InverseSqrt(timescale=1.0)
        >> cooldown(down)
    )
    at = data.draw(st.integers(0, min(before, after)))
    plan, state = extend(
        parts.over(before), run(parts.over(before), range(at))[-1], after, "stretch"
    )
    assert plan == parts.over(after)
    ours = run(plan, range(30), state)
    theirs = run(plan, range(at + 30))[at:]
    assert scales(ours) == pytest.approx(scales(theirs), rel=1e-9, abs=1e-9)
    assert [one.phase for one in ours] == [one.phase for one in theirs]


@given(st.sampled_from(("stretch", "keep", "recool")), st.integers(0, 100), st.integers(0, 150))
def test_resuming_after_an_extension_changes_nothing(how, at, cut):
    plan, state = extend(GREEDY_PLAN, run(GREEDY_PLAN, LOSSES[:at])[-1], 150, how)
    whole = run(plan, LOSSES[at:], state)
    cut = min(cut, len(whole) - 1)
    if how == "stretch":
        written = (warmup(0.1) >> ALERT >> cooldown(0.2)).over(150)
    else:
        written = (warmup(10) >> ALERT >> cooldown(20)).over(150)
    assert written == plan
    tail = run(written, LOSSES[at + cut :], json_round_trip(written, whole[cut]))
    assert repr(tail) == repr(whole[cut:])


def test_stretch_returns_to_the_rule_that_a_cooldown_had_left():
    states = run(GREEDY_PLAN, LOSSES[:90])
    plan, state = extend(GREEDY_PLAN, states[-1], 200, "stretch")
    assert (state.phase, state.scale) == (1, 0.5)
    assert state.phases[1].inner == states[90].phases[1].inner
    assert state.phases[2] == plan.init().phases[2]


def in_tokens(plan, n, state=None):
    states = [plan.init() if state is None else state]
    for _ in range(n):
        falling = Signal(-states[-1].step, tokens=10, epochs=0.1)
        states.append(plan.update(states[-1], falling))
    return states


def test_stretch_leaves_a_warmup_in_another_unit_where_it_was():
    parts = warmup(5) >> ALERT >> cooldown(0.5)
    short, long = parts.over(tokens(200)), parts.over(tokens(400))
    for at in (3, 8, 15):
        plan, state = extend(short, in_tokens(short, at)[-1], tokens(400), "stretch")
        assert plan == long
        assert scales(in_tokens(plan, 25, state)) == scales(in_tokens(long, at + 25)[at:])


def test_stretch_refuses_what_cannot_be_known():
    parts = warmup(0.1) >> phase(Constant(), epochs(1)) >> ALERT
    plan = parts.over(tokens(400))
    state = in_tokens(plan, 20)[-1]
    with pytest.raises(ValueError, match=r'another unit than the horizon.*use how="keep"'):
        extend(plan, state, tokens(800), "stretch")
    assert extend(plan, state, tokens(800), "keep")[1] == state


def test_a_horizon_may_be_set_while_training():
    plan = warmup(5) >> ALERT >> cooldown(10)
    state = run(plan, LOSSES[:30])[-1]
    known, same = extend(plan, state, 50, "keep")
    assert known == plan.over(50)
    assert same == state
    assert [one.phase for one in run(known, LOSSES[30:50], same)] == [1] * 10 + [2] * 11


@every_how
def test_a_horizon_that_has_passed_is_refused(how):
    with pytest.raises(ValueError, match="50 steps have elapsed, more than the new horizon of 49"):
        extend(PLAN, run(PLAN, range(50))[-1], 49, how)
    open_loop = OpenLoop(Cosine(), 100)
    with pytest.raises(ValueError, match="50 steps have elapsed"):
        extend(open_loop, run(open_loop, range(50))[-1], 49, how)


@every_how
def test_a_horizon_in_another_unit_is_refused(how):
    with pytest.raises(ValueError, match="counts steps so far; give the new one in steps"):
        extend(PLAN, PLAN.init(), tokens(1000), how)


@every_how
def test_a_schedule_without_a_horizon_cannot_be_extended(how):
    with pytest.raises(ValueError, match="Plateau has no horizon to extend; phases have one"):
        extend(ALERT, ALERT.init(), 100, how)


def test_an_unknown_way_to_extend_is_refused():
    with pytest.raises(ValueError, match="how must be"):
        extend(PLAN, PLAN.init(), 200, "double")


@pytest.mark.parametrize("how", ["keep", "recool"])
def test_what_no_phase_can_take_up_is_refused(how):
    plan = (warmup(0.1) >> phase(Cosine(), 0.9)).over(100)
    with pytest.raises(ValueError, match="no phase is open-ended, so none can take the added time"):
        extend(plan, plan.init(), 200, how)
    with pytest.raises(ValueError, match="what follows the open-ended phase lasts 20 steps, and"):
        extend(PLAN, run(PLAN, range(75))[-1], 90, how)


@pytest.mark.parametrize("shape", [Cosine(), WSD()])
def test_an_open_loop_schedule_stretches(shape):
    short, long = OpenLoop(shape, 50), OpenLoop(shape, 80)
    plan, state = extend(short, run(short, range(30))[-1], 80, "stretch")
    assert plan == long
    assert state == run(long, range(30))[-1]


@pytest.mark.parametrize(("how", "at", "expected"), [("keep", 90, 0.5), ("recool", 90, 1.0)])
def test_an_open_loop_wsd_becomes_phases(how, at, expected):
    wsd = OpenLoop(WSD(warmup=0.1, decay=0.2), 100)
    state = run(wsd, range(at))[-1]
    plan, extended = extend(wsd, state, 200, how)
    assert plan == (warmup(10) >> Constant() >> cooldown(20)).over(200)
    assert extended.scale == pytest.approx(expected)
    assert extended.step == at
    with pytest.raises(ValueError, match=r"Cosine\(.*\) is one curve over its horizon"):
        extend(OpenLoop(Cosine(), 100), OpenLoop(Cosine(), 100).init(), 200, how)


@given(st.integers(0, 60), st.integers(1, 20), st.integers(0, 30))
def test_a_branched_cooldown_is_the_schedule_then_a_cooldown_and_resumes(at, lasts, cut):
    state = run(ALERT, LOSSES[:at])[-1]
    plan, cooling = cool_down(ALERT, state, lasts)
    written = ALERT >> cooldown(lasts)
    assert plan == written
    whole = run(plan, range(30), cooling)
    expected = [state.scale * max(1 - n / lasts, 0) for n in range(31)]
    assert scales(whole) == pytest.approx(expected)
    tail = run(written, range(cut, 30), json_round_trip(written, whole[cut]))
    assert repr(tail) == repr(whole[cut:])


@pytest.mark.parametrize("at", [0, 5, 10, 40, 79])
def test_a_planned_cooldown_may_begin_at_any_time(at):
    state = run(GREEDY_PLAN, LOSSES[:at])[-1]
    plan, cooling = cool_down(GREEDY_PLAN, state)
    assert plan == warmup(10) >> ALERT >> cooldown(20)
    assert (cooling.step, cooling.phases[-1].began) == (at, at)
    expected = [state.scale * max(1 - n / 20, 0) for n in range(26)]
    assert scales(run(plan, range(25), cooling)) == pytest.approx(expected)


def test_a_cooldown_may_be_other_than_planned():
    planned = warmup(5) >> ALERT >> cooldown(40, Cosine(), 0.1)
    state = run(planned, range(20))[-1]
    assert cool_down(planned, state)[0] == planned
    changed, _ = cool_down(planned, state, 8)
    assert changed == warmup(5) >> ALERT >> cooldown(8, Cosine(), 0.1)
    changed, _ = cool_down(planned, state, shape=Linear(), end_scale=0.0)
    assert changed == warmup(5) >> ALERT >> cooldown(40)
    share, _ = cool_down(GREEDY_PLAN, run(GREEDY_PLAN, LOSSES[:40])[-1], 0.1)
    assert share == warmup(10) >> ALERT >> cooldown(10)


def test_a_cooldown_is_added_where_none_is_planned():
    plan = (warmup(0.1) >> Cosine()).over(100).capped(lambda step: 0.9)
    state = run(plan, range(55))[-1]
    cooled, cooling = cool_down(plan, state, 10, shape=Cosine(), end_scale=0.5)
    assert cooled == (warmup(10) >> phase(Cosine(), 90) >> cooldown(10, Cosine(), 0.5)).capped(
        plan.cap
    )
    assert cooling.scale == state.scale
    json_round_trip(cooled, cooling)
    assert run(cooled, range(10), cooling)[-1].scale == pytest.approx(state.scale / 2)


def test_a_cooldown_branched_over_tokens_may_count_steps():
    plan = (warmup(tokens(50)) >> ALERT >> cooldown(0.5)).over(tokens(400))
    state = in_tokens(plan, 10)[-1]
    cooled, cooling = cool_down(plan, state, steps(4))
    assert cooled == warmup(tokens(50)) >> ALERT >> cooldown(4)
    assert scales(in_tokens(cooled, 4, cooling)) == [1.0, 0.75, 0.5, 0.25, 0.0]
    # From here on the horizon would be one of steps.
    assert extend(cooled, cooling, 20, "keep") == (cooled.over(20), cooling)
    with pytest.raises(ValueError, match="extend the state it was branched from"):
        extend(cooled, cooling, 100, "recool")
    planned, cooling = cool_down(plan, state)
    assert planned == warmup(tokens(50)) >> ALERT >> cooldown(tokens(200))
    assert in_tokens(planned, 10, cooling)[-1].scale == 0.5


@pytest.mark.parametrize("at", [5, 40])
def test_a_branched_cooldown_may_be_taken_back(at):
    plan = warmup(10) >> ALERT >> cooldown(20)
    state = run(plan, LOSSES[:at])[-1]
    cooled, cooling = cool_down(plan, state)
    after = run(cooled, range(7), cooling)[-1]
    returned, back = extend(cooled, after, 200, "recool")
    assert returned == plan.over(200)
    assert (back.phase, back.scale) == (state.phase, state.scale)
    assert back.phases == state.phases


def test_stretch_takes_a_branched_cooldown_back_too():
    plan = warmup(10) >> ALERT >> cooldown(20)
    cooled, cooling = cool_down(plan, run(plan, range(5))[-1])
    _, back = extend(cooled, run(cooled, range(10), cooling)[-1], 100, "stretch")
    assert (back.step, back.phase, back.scale) == (15, 1, 1.0)


def test_a_cooldown_under_way_cannot_begin():
    with pytest.raises(ValueError, match="the cooldown has begun already"):
        cool_down(PLAN, run(PLAN, range(85))[-1], 10)


def test_a_cooldown_needs_a_length():
    with pytest.raises(ValueError, match="no cooldown is planned; say how long it lasts"):
        cool_down(ALERT, ALERT.init())
    with pytest.raises(ValueError, match=r"share 0\.2 of a horizon that nobody has set"):
        cool_down(ALERT, ALERT.init(), 0.2)
    with pytest.raises(ValueError, match="must last longer than 0"):
        cool_down(ALERT, ALERT.init(), 0)


def test_extending_and_cooling_down_leave_the_checkpoint_as_it_was():
    state = run(GREEDY_PLAN, LOSSES[:90])[-1]
    before = repr(state)
    for how in ("stretch", "keep", "recool"):
        extend(GREEDY_PLAN, state, 300, how)
    assert repr(state) == before
    assert math.isfinite(state.scale)
