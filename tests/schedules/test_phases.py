import json
import math
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import rshift
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

import contracts
from contracts import finite, grid, json_round_trip, non_finite, run, scales, streams
from lrpilot.schedules import (
    WSD,
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    OpenLoop,
    Plateau,
    Signal,
    pack,
    unpack,
)
from lrpilot.schedules.durations import epochs, seconds, tokens
from lrpilot.schedules.phases import Phases, capped, cooldown, phase, warmup

ALERT = Plateau(factor=0.5, patience=0, threshold=0.0)


class ClimberState(NamedTuple):
    scale: float = 1.0
    reason: str = "start"
    losses: tuple[float, ...] = ()


@dataclass(frozen=True)
class Climber:
    """Doubles at each finite loss, and remembers what it saw."""

    factor: float = 2.0
    needs: tuple[str, ...] = ("loss",)

    def init(self) -> ClimberState:
        return ClimberState()

    def update(self, state: ClimberState, signal: Signal) -> ClimberState:
        if not math.isfinite(signal.loss):
            return state._replace(reason="ignore")
        return ClimberState(state.scale * self.factor, "raise", (*state.losses, signal.loss))


def rate(progress: float) -> float:
    return 1 - 0.75 * progress**2


def sqrt_decay(progress: float) -> float:
    return 1 - math.sqrt(progress)


def zigzag(step: int) -> float:
    return 0.25 + step % 5 / 8


shapes = st.sampled_from((Linear(end_scale=0.25), Cosine(end_scale=0.5), rate, Constant()))
lasting = st.integers(1, 6)
contents = st.one_of(
    shapes,
    st.just(ALERT),
    st.just(Climber(factor=1.25)),
    st.just(OpenLoop(Cosine(end_scale=0.1), 4)),
    st.just(warmup(2) >> ALERT >> cooldown(3)),
)
closed = st.one_of(
    st.builds(warmup, st.integers(0, 6), shape=st.sampled_from((None, sqrt_decay))),
    st.builds(cooldown, lasting, shapes, st.sampled_from((0.0, 0.25))),
    st.builds(phase, contents, lasting),
)


@st.composite
def plans(draw) -> Phases:
    """Any phases, open-ended somewhere or nowhere, over a horizon or without, capped or not."""
    before, after = draw(st.lists(closed, max_size=3)), draw(st.lists(closed, max_size=2))
    lasts = sum(one.lasts.count for part in (*before, *after) for one in part.phases)
    middle = [phase(draw(contents))]
    plan = reduce(rshift, [*before, *middle, *after]).over(int(lasts) + draw(lasting))
    return plan.capped(zigzag) if draw(st.booleans()) else plan


@given(plans(), streams(grid | finite | non_finite), st.integers(0, 100))
def test_resuming_from_a_checkpoint_changes_nothing(plan, losses, cut):
    contracts.check_resume_changes_nothing(plan, losses, cut)


@given(plans(), streams(grid | non_finite))
def test_scale_is_finite_and_never_above_the_cap(plan, losses):
    for step, scale in enumerate(scales(run(plan, losses))):
        assert 0 <= scale < math.inf
        if plan.cap is not None:
            assert scale <= plan.cap(step)


@given(plans(), streams(grid))
def test_update_is_pure_and_settings_are_values(plan, losses):
    contracts.check_update_is_pure(plan, losses)
    contracts.check_settings_are_values(plan)


@given(closed, st.one_of(contents, closed), st.one_of(shapes, closed))
def test_the_order_of_composition_does_not_matter(one, two, three):
    if isinstance(two, Phases) or isinstance(three, Phases):
        assert (one >> two) >> three == one >> (two >> three)
        assert (one >> three) >> two == one >> (three >> two)
    assert repr((two >> one) >> one) == repr(two >> (one >> one))


def by_hand(pieces: list[tuple[bool, object, int]], step: int) -> float:
    """The formula, piece by piece; an envelope leaves the level, others pass on their end."""
    level, left = 1.0, step
    for is_envelope, shape, lasts in pieces[:-1]:
        if left < lasts:
            return level * shape(left / lasts)
        left -= lasts
        level *= 1 if is_envelope else shape(1)
    _, shape, lasts = pieces[-1]
    return level * shape(min(left / lasts, 1))


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("warmup"), st.sampled_from((0.0, 0.5)), lasting),
            st.tuples(st.just("cooldown"), st.sampled_from((0.0, 0.5)), lasting),
            st.tuples(st.just("shape"), shapes, lasting),
            st.tuples(st.just("open loop"), shapes, lasting),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_open_loop_phases_are_the_piecewise_formula(drawn):
    parts, pieces = [], []
    for kind, what, lasts in drawn:
        if kind == "warmup":
            parts.append(warmup(lasts, what))
            pieces.append((True, lambda u, start=what: start + (1 - start) * u, lasts))
        elif kind == "cooldown":
            parts.append(cooldown(lasts, sqrt_decay, what))
            pieces.append((True, lambda u, e=what: e + (1 - e) * (1 - math.sqrt(u)), lasts))
        elif kind == "shape":
            parts.append(phase(what, lasts))
            pieces.append((False, what, lasts))
        else:
            parts.append(phase(OpenLoop(what, lasts), lasts))
            pieces.append((False, what, lasts))
    states = run(reduce(rshift, parts), range(40))
    assert {state.reason for state in states} == {"plan"}
    expected = [by_hand(pieces, step) for step in range(41)]
    assert scales(states) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(st.integers(7, 300), st.floats(0, 0.4), st.floats(0.1, 0.5))
def test_phases_in_shares_are_the_wsd_shape(total, up, down):
    plan = (warmup(up) >> Constant() >> cooldown(down, Cosine())).over(total)
    shape = OpenLoop(WSD(warmup=up, decay=down, shape=Cosine()), total)
    ours, theirs = (scales(run(one, range(total + 3))) for one in (plan, shape))
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("total", [100, 1000])
def test_the_rate_is_continuous_at_every_boundary(total):
    plan = (
        warmup(0.1, start_scale=0.0)
        >> phase(Cosine(end_scale=0.5), 0.3)
        >> OpenLoop(Linear(end_scale=0.5), total)
        >> phase(InverseSqrt(timescale=1.0), 0.2)
        >> cooldown(0.1, Cosine())
    ).over(total)
    rates = scales(run(plan, range(total)))
    steepest = max(abs(after - before) for before, after in pairwise(rates))
    assert steepest <= 10.1 / total
    assert rates[-1] == 0


def test_each_loss_driven_phase_sees_its_own_steps_alone_and_starts_fresh():
    plan = warmup(2) >> phase(Climber(), 3) >> phase(Climber(factor=0.5), 2) >> cooldown(2)
    states = run(plan, range(9))
    assert scales(states)[2:] == [1.0, 2.0, 4.0, 8.0, 4.0, 2.0, 1.0, 0.0, 0.0, 0.0][:8]
    assert [one.inner and one.inner.losses for one in states[-1].phases] == [
        None,
        (2.0, 3.0, 4.0),
        (5.0, 6.0),
        None,
    ]
    reasons = ["plan"] * 2 + ["start", "raise", "raise"] + ["start", "raise"] + ["plan"] * 3
    assert [state.reason for state in states] == reasons


def test_a_warmup_and_a_cooldown_give_the_level_back():
    plan = (
        phase(Linear(end_scale=0.5), 2)
        >> cooldown(2)
        >> warmup(2, start_scale=0.0)
        >> phase(Constant(), 2)
    )
    expected = [1.0, 0.75, 0.5, 0.25, 0.0, 0.25, 0.5, 0.5, 0.5]
    assert scales(run(plan, range(8))) == expected


def test_a_warmup_is_a_decay_run_backwards_and_never_changes_the_level():
    plan = warmup(4, 0.0, sqrt_decay) >> phase(Constant(), 1)
    expected = [1 - math.sqrt(1 - n / 4) for n in range(4)]
    assert scales(run(plan, range(5))) == pytest.approx([*expected, 1.0, 1.0])
    assert scales(run(warmup(2, 0.0, lambda u: 0.5) >> Constant(), range(2))) == [0.5, 0.5, 1.0]


def test_an_open_ended_curve_runs_over_what_the_horizon_leaves():
    plan = (warmup(2, 0.0) >> Linear(end_scale=0.5) >> cooldown(2)).over(8)
    expected = [0.0, 0.5, 1.0, 0.875, 0.75, 0.625, 0.5, 0.25, 0.0]
    assert scales(run(plan, range(8))) == expected


def test_a_loss_driven_last_phase_sees_no_loss_beyond_the_horizon():
    plan = (warmup(1) >> Climber()).over(3)
    states = run(plan, [1.0] * 5)
    assert scales(states) == [0.01, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert states[-1].reason == "plan"


def test_a_phase_that_a_shorter_horizon_has_passed_is_left_on_resume():
    longer, shorter = ((ALERT >> cooldown(0.5)).over(total) for total in (100, 20))
    state = json_round_trip(shorter, run(longer, range(12))[-1])
    assert shorter.update(state, Signal(1.0)).phase == 1


def test_without_a_horizon_an_open_ended_phase_lasts():
    plan = warmup(2) >> Constant() >> cooldown(2)
    assert scales(run(plan, range(100)))[2:] == [1.0] * 99


@pytest.mark.parametrize("nothing", [0, 0.0, tokens(0)])
def test_a_phase_of_length_0_is_left_out(nothing):
    plan = (warmup(nothing) >> phase(Linear(), nothing) >> ALERT >> cooldown(nothing)).over(5)
    losses = [1.0, 2.0, 3.0, 2.0]
    assert scales(run(plan, losses)) == scales(run(ALERT, losses))


def test_an_open_ended_phase_to_which_nothing_is_left_changes_nothing():
    plan = (warmup(2, start_scale=0.0) >> Linear() >> cooldown(2)).over(4)
    assert scales(run(plan, range(4))) == [0.0, 0.5, 1.0, 0.5, 0.0]


def test_needs_are_those_of_the_schedules_and_the_units():
    assert (warmup(5) >> Constant() >> cooldown(0.5)).over(100).needs == ()
    assert (warmup(seconds(5)) >> ALERT).over(epochs(1)).needs == ("loss", "epochs", "seconds")
    inner = phase(warmup(tokens(5)) >> Constant(), 10)
    assert (inner >> ALERT).needs == ("loss", "tokens")


def test_a_loss_driven_rule_does_not_climb_above_the_cap_unseen():
    plan = capped(Climber(), lambda step: 3.0 if step < 4 else 100.0)
    states = run(plan, range(6))
    assert scales(states) == [1.0, 2.0, 3.0, 3.0, 6.0, 12.0, 24.0]
    assert [state.reason for state in states][1:5] == ["raise", "cap", "cap", "raise"]


def test_a_cap_holds_for_a_rule_at_any_level():
    plan = (phase(Linear(end_scale=0.25), 1) >> Climber()).capped(lambda step: 1.5)
    assert scales(run(plan, range(6))) == [1.0, 0.25, 0.5, 1.0, 1.5, 1.5, 1.5]


def test_a_cap_of_0_stops_the_training_and_leaves_the_rule_where_it_was():
    plan = capped(Climber(), lambda step: 0.0 if step == 2 else 100.0)
    assert scales(run(plan, range(4))) == [1.0, 2.0, 0.0, 8.0, 16.0]
    ending = (phase(Climber(), 2) >> cooldown(2)).capped(plan.cap)
    assert scales(run(ending, range(3))) == [1.0, 2.0, 0.0, 2.0]


def test_a_cooldown_starts_at_the_scale_that_the_cap_left():
    plan = (warmup(2, 0.0) >> phase(Constant(), 2) >> cooldown(2)).capped(lambda step: 0.5)
    assert scales(run(plan, range(6))) == [0.0, 0.5, 0.5, 0.5, 0.5, 0.25, 0.0]


def test_a_cap_counts_optimizer_steps_across_phases_and_resumes():
    plan = (warmup(2) >> Climber()).capped(lambda step: 1 + step / 10)
    head = run(plan, range(7))
    tail = run(plan, range(3), json_round_trip(plan, head[-1]))
    assert tail[-1].scale == 2.0


@pytest.mark.parametrize("limit", [-0.1, math.nan, math.inf])
def test_a_cap_that_is_no_scale_is_refused_with_its_step(limit):
    plan = capped(Constant(), lambda step: 1.0 if step < 2 else limit)
    with pytest.raises(ValueError, match="the cap at step 2 must be at least 0 and finite"):
        run(plan, range(2))
    with pytest.raises(TypeError, match="the cap at step 0 must be a number"):
        capped(Constant(), lambda step: "high").init()


def test_a_horizon_and_a_cap_belong_to_the_whole():
    whole = (warmup(5) >> ALERT >> cooldown(0.1)).over(100)
    assert warmup(5) >> ALERT >> cooldown(0.1).over(100) == whole
    assert warmup(5).over(100) >> ALERT >> cooldown(0.1) == whole
    capped_whole = (warmup(5) >> ALERT).capped(zigzag)
    assert warmup(5) >> phase(ALERT).capped(zigzag) == capped_whole
    assert warmup(5).capped(zigzag) >> ALERT == capped_whole
    with pytest.raises(ValueError, match=r"both sides of >> have a total.*\.over"):
        warmup(5).over(100) >> cooldown(0.1).over(100)
    with pytest.raises(ValueError, match=r"both sides of >> have a cap.*\.capped"):
        warmup(5).capped(zigzag) >> cooldown(5).capped(zigzag)
    with pytest.raises(ValueError, match="there is a cap already"):
        warmup(5).capped(zigzag).capped(zigzag)


def test_two_open_ended_phases_are_refused():
    with pytest.raises(ValueError, match="two phases are open-ended"):
        warmup(5) >> ALERT >> Constant()


@pytest.mark.parametrize(
    "plan", [warmup(5) >> ALERT >> cooldown(0.2), warmup(5) >> Cosine(), phase(rate)]
)
def test_what_needs_a_horizon_says_how_to_set_it(plan):
    with pytest.raises(ValueError, match=r"\.over\(total_steps\)"):
        plan.init()
    plan.over(10).init()


@pytest.mark.parametrize("content", [ALERT.__class__, 5, None, "cosine"])
def test_what_is_no_schedule_and_no_shape_is_refused(content):
    with pytest.raises(TypeError, match="a phase follows a schedule such as"):
        warmup(5) >> content


def test_a_shape_that_yields_no_scale_is_refused():
    with pytest.raises(ValueError, match=r"a shape gives scales from 0 on, got -0\.5 from"):
        run(phase(lambda u: 1 - 2 * u, 4), range(4))
    with pytest.raises(ValueError, match="got nan"):
        cooldown(4, lambda u: math.nan).init()


def test_the_state_of_other_phases_is_refused():
    plan = warmup(5) >> ALERT >> cooldown(5)
    with pytest.raises(ValueError, match=r"not a state of the same schedule: Phases\.phases has 2"):
        unpack(plan, pack((ALERT >> cooldown(5)).init()))
    with pytest.raises(ValueError, match=r"damaged: Phases\.phases\[1\]\.inner is"):
        unpack(warmup(5) >> Constant() >> cooldown(5), pack(plan.init()))
    with pytest.raises(ValueError, match=r"not a state of Phases\.phases\[1\]\.inner"):
        unpack(warmup(5) >> Climber() >> cooldown(5), pack(plan.init()))


def test_a_plan_is_written_as_its_settings_alone():
    plan = warmup(5) >> ALERT
    assert {word for word in ("needs", "spans", "consumes") if word in repr(plan)} == set()


def test_a_state_is_plain_data_without_settings():
    plan = (warmup(500) >> ALERT >> cooldown(0.2)).over(10_000)
    assert json.loads(json.dumps(pack(plan.init()))) == {
        "scale": 0.01,
        "reason": "plan",
        "step": 0,
        "elapsed": 0.0,
        "phase": 0,
        "phases": [
            {"level": 1.0, "began": 0.0, "spent": 0.0, "inner": None},
            {"level": 1.0, "began": -1.0, "spent": 0.0, "inner": pack(ALERT.init())},
            {"level": 1.0, "began": -1.0, "spent": 0.0, "inner": None},
        ],
    }


def test_a_cap_that_is_no_function_is_refused_with_the_cure():
    with pytest.raises(TypeError, match=r"got 0.3; .* write lambda step: 0.3"):
        warmup(5).capped(0.3)
