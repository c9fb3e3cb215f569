"""What a policy does to the rate, with policies that nobody has trained."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import contracts
from contracts import non_finite, run, scales
from lrpilot.schedules import (
    Constant,
    Guard,
    Learned,
    OpenLoop,
    Policy,
    Signal,
    cool_down,
    cooldown,
    extend,
    pack,
    phase,
    preview,
    unpack,
    warmup,
)
from lrpilot.schedules.explanation import explain, replay
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import BASES
from policies import random_policy, still_policy

STEPS = Learned(200, random_policy(8))
FALLING = [2 + 1 / (1 + step / 20) + 0.05 * math.sin(37 * step) for step in range(150)]
LOST = [*FALLING, *[9.0] * 50]

positive = st.floats(0.01, 100.0)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("total_steps", [1, 37, 1000])
@given(losses=contracts.streams())
def test_a_policy_that_does_nothing_leaves_its_base_schedule_exactly(base, total_steps, losses):
    """Or until it retreats, if it does."""
    policy, planned = still_policy(4, base=base), OpenLoop(BASES[base], total_steps)
    assert scales(run(Learned(total_steps, policy), losses)) == scales(run(planned, losses))
    states = run(Learned(total_steps, policy, retreats=True), losses)
    kept = list(itertools.takewhile(lambda state: state.reason != "retreat", states))
    assert scales(kept) == scales(run(planned, losses))[: len(kept)]


@pytest.mark.parametrize("kind", ["steps", "anchored"])
@given(losses=contracts.streams(positive), seed=st.integers(0, 20))
def test_the_scale_stays_within_the_limit_of_its_base(kind, losses, seed):
    learned = Learned(40, random_policy(seed=seed, kind=kind))
    for state in run(learned, losses):
        base = learned.base_at(state.step)
        assert base / 10 * (1 - 1e-12) <= state.scale <= base * 10 * (1 + 1e-12)


def test_it_decides_often_at_first_and_some_sixty_times_in_all():
    states = run(Learned(1000, random_policy()), np.linspace(2, 1, 1000))
    at = [b.step for a, b in itertools.pairwise(states) if b.decisions > a.decisions]
    assert at[:4] == [5, 10, 15, 20]
    assert max(b - a for a, b in itertools.pairwise(at)) == 25
    assert 50 <= len(at) <= 70


def test_between_decisions_the_scale_follows_the_base():
    for before, after in zip(run(STEPS, FALLING), run(STEPS, FALLING)[1:], strict=False):
        if before.decisions == after.decisions:
            assert after.scale == STEPS.base_at(after.step) * math.exp(before.offset)
            assert after.reason == "plan"


@given(
    losses=contracts.streams(positive | non_finite | st.sampled_from([1e200, -1e300])),
    cut=st.integers(0, 100),
)
def test_a_loss_that_is_not_finite_moves_the_plan_on_and_ends_a_window_at_most(losses, cut):
    before = run(STEPS, losses[:cut])[-1]
    for loss in (math.nan, math.inf, -math.inf, 1e141):
        after = STEPS.update(before, Signal(loss))
        scale = STEPS.base_at(before.step + 1) * math.exp(before.offset)
        if before.losses and after.step >= before.until:
            assert after.decisions == before.decisions + 1, "a window ends all the same"
            continue
        assert after == before._replace(scale=scale, reason="ignore", step=before.step + 1)


def test_a_window_without_a_loss_ends_with_the_first_one():
    state = run(STEPS, [2.0] * 4 + [math.nan] * 30)[-1]
    assert (state.decisions, state.reason) == (1, "ignore")
    state = STEPS.update(state, Signal(1.9))
    assert (state.decisions, state.seen.last) == (2, 1.9)


@given(losses=contracts.streams(positive), cut=st.integers(20, 100))
def test_a_loss_that_explodes_counts_as_a_bad_one(losses, cut):
    """However large it is, and bad enough for the policy to be given up if it goes on."""
    before = run(STEPS, losses[:cut])[-1]
    assume(before.decisions)
    once, twice = (STEPS.update(before, Signal(loss)) for loss in (1e30, 1e60))
    assert once == twice
    for _ in range(200):
        once = STEPS.update(once, Signal(1e30))
    assert not once.trusted


def test_it_retreats_once_where_half_of_what_was_gained_is_lost_again():
    """The rate falls to a tenth, and the policy is shown the run as it stood best."""
    still = Learned(400, still_policy(), retreats=True)
    states = run(still, [*FALLING, *[2.7] * 50])
    retreats = [state for state in states if state.reason == "retreat"]
    assert [state.offset for state in retreats] == [-math.log(10)]
    seen = retreats[0].seen
    assert seen.best == seen.last == seen.fast == seen.slow == seen.before
    assert retreats[0].step > 150
    assert states[-1].offset == -math.log(10), "the loss that stays is not held against it again"
    assert states[-1].seen.best > 2.5, "what is lost is lost"
    assert states[-1].trusted


@given(losses=contracts.streams(), seed=st.integers(0, 20))
def test_it_never_retreats_twice_in_a_row_nor_beyond_its_limit(losses, seed):
    learned = Learned(40, random_policy(seed=seed), retreats=True)
    states = run(learned, losses)
    decided = [b for a, b in itertools.pairwise(states) if b.decisions > a.decisions]
    for before, after in itertools.pairwise(decided):
        assert (before.reason, after.reason) != ("retreat", "retreat")
    assert all(abs(state.offset) <= learned.limit for state in states)


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
def test_noise_makes_no_retreat(noise):
    """Of level and of falling losses, over a thousand steps: ten runs each."""
    rng, learned = np.random.default_rng(0), Learned(1000, still_policy(), retreats=True)
    for level in (np.ones(1000), 1 / (1 + np.arange(1000) / 50)):
        for _ in range(10):
            reasons = {one.reason for one in run(learned, level + noise * rng.normal(size=1000))}
            assert reasons == {"plan"}


def test_it_falls_back_to_the_base_when_the_losses_are_back_above_their_start():
    policy = random_policy()
    raising = Policy(name="high", weights=policy.weights, biases=([50.0],), action=policy.action)
    states = run(Learned(200, raising), LOST)
    given_up = next(at for at, state in enumerate(states) if not state.trusted)
    assert states[given_up].reason == "fallback"
    assert not any(
        state.trusted or state.reason in ("raise", "lower") for state in states[given_up:]
    )
    offsets = [state.offset for state in states[given_up - 1 :]]
    for before, after in itertools.pairwise(offsets):
        assert after in (before, before / 2)
    assert abs(offsets[-1]) < abs(offsets[0])


def test_the_rate_is_not_raised_by_falling_back():
    policy = random_policy()
    lowering = Policy(name="low", weights=policy.weights, biases=([-50.0],), action=policy.action)
    states = run(Learned(200, lowering), LOST)
    assert not states[-1].trusted
    assert states[-1].offset == min(state.offset for state in states)
    reasons = [state.reason for state in states]
    assert reasons.count("fallback") == 1, "that it is not asked any more is said once"


def test_a_state_of_a_policy_with_a_wider_limit_is_held_within_the_limit():
    between_decisions = STEPS.init()._replace(offset=800.0, until=9)
    for state in (between_decisions, between_decisions._replace(until=1)):
        after = STEPS.update(state, Signal(1.0))
        assert after.scale == STEPS.base_at(1) * math.exp(math.log(10))
    for state in (STEPS.init()._replace(offset=-800.0), between_decisions):
        _, moved = extend(STEPS, state, 500, "stretch")
        assert 0.01 / 10 <= moved.scale * (1 + 1e-12) <= 0.1 * (1 + 1e-9)


def test_without_a_horizon_the_base_is_constant_after_its_warmup():
    learned = Learned(None, still_policy(base="warmup-linear"))
    found = scales(run(learned, [1.0] * 5000))
    assert found[:100] == sorted(found[:100])
    assert set(found[100:]) == {1.0}


@pytest.mark.parametrize("schedule", [STEPS, Guard(STEPS), Learned(None, random_policy())])
def test_a_damaged_state_is_refused(schedule):
    whole = json.loads(json.dumps(pack(run(schedule, FALLING)[-1])))
    assert unpack(schedule, whole) == run(schedule, FALLING)[-1]
    inside = whole.get("inner", whole)
    for name in inside:
        for wrong in ("x", None, [], math.nan, {}):
            if name == "reason" and wrong == "x":
                continue
            damaged = inside | {name: wrong}
            damaged = whole | {"inner": damaged} if "inner" in whole else damaged
            with pytest.raises(ValueError, match=r"damaged|not a state"):
                unpack(schedule, damaged)
    lacking = {name: value for name, value in inside.items() if name != "seen"}
    with pytest.raises(ValueError, match="not a state"):
        unpack(schedule, whole | {"inner": lacking} if "inner" in whole else lacking)


@pytest.mark.parametrize("at", [0, 30, 150])
@pytest.mark.parametrize("total", [150, 300, 5000])
def test_it_stretches_over_another_horizon_and_keeps_what_it_saw(at, total):
    state = run(STEPS, FALLING[:at])[-1]
    longer, moved = extend(STEPS, state, total, "stretch")
    assert longer == Learned(total, STEPS.policy)
    assert moved.scale == pytest.approx(longer.base_at(at) * math.exp(state.offset), rel=1e-12)
    assert moved.seen == state.seen
    assert moved.step < moved.until <= state.until
    assert moved.offset == state.offset
    guarded, held = extend(Guard(STEPS), run(Guard(STEPS), FALLING[:at])[-1], total, "stretch")
    assert (guarded.schedule, held.inner) == (longer, moved)
    again = run(longer, FALLING[at:], unpack(longer, pack(moved)))[-1]
    assert again.step == len(FALLING)


def test_what_cannot_take_up_another_horizon_says_what_can():
    for how in ("keep", "recool"):
        with pytest.raises(ValueError, match='use "stretch", or leave its horizon open'):
            extend(STEPS, STEPS.init(), 500, how)
    with pytest.raises(ValueError, match="more than the new horizon of 10"):
        extend(STEPS, run(STEPS, FALLING)[-1], 10, "stretch")
    unbounded = Learned(None, STEPS.policy)
    with pytest.raises(ValueError, match="Learned has no horizon to extend"):
        extend(unbounded, unbounded.init(), 500, "stretch")


def test_it_cools_down_on_demand():
    state = run(STEPS, FALLING[:100])[-1]
    plan, cooling = cool_down(STEPS, state, lasts=4)
    found = [one.scale / state.scale for one in run(plan, [1.0] * 4, cooling)]
    assert found == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_phases_hold_one_without_a_horizon():
    learned = Learned(None, random_policy())
    plan = (warmup(10) >> learned >> cooldown(0.2)).over(100)
    states = run(plan, FALLING[:100])
    assert states[10].phases[1].inner == learned.init()
    assert states[79].phases[1].inner.decisions > 5
    assert states[100].scale == 0
    with pytest.raises(ValueError, match=r"phase 2 of 3, Learned\(.*\), decides from the loss"):
        preview(plan, 100)
    with pytest.raises(ValueError, match="decides from the loss"):
        preview(STEPS, 100)
    longer, moved = extend(plan, states[50], 200, "keep")
    assert run(longer, FALLING[:150], moved)[-1].scale == 0


@pytest.mark.parametrize("around", [lambda s: s, Guard, lambda s: phase(s, 200) >> Constant()])
def test_the_log_says_what_the_policy_saw_and_did(around):
    schedule = around(STEPS)
    shown = explain(replay(schedule, LOST).log)
    moves = [line for line in shown.splitlines() if "by the policy against its base" in line]
    assert len(moves) >= 2
    for name in ("action", "offset", "last", "fast", "slow", "best", "noise"):
        assert all(f"{name} " in line for line in moves)
    assert "back to the base schedule: under the policy the loss came back above its start" in shown


def test_decisions_are_logged_with_the_action_and_the_losses():
    log = replay(STEPS, FALLING).log
    states = run(STEPS, FALLING)
    for decision in log.decisions:
        state, facts = states[decision.step], dict(decision.statistics)
        assert decision.reason in ("raise", "lower")
        moved = state.offset - states[decision.step - 1].offset
        assert (moved > 0) == (decision.reason == "raise")
        assert facts["action"] == pytest.approx(state.action, rel=1e-5)
        assert facts["seen.fast"] == pytest.approx(state.seen.fast, rel=1e-5)
        assert facts["offset"] == pytest.approx(state.offset, rel=1e-5)


def reading(name: str) -> Learned:
    """Like `STEPS`, but for one feature that has a weight."""
    policy = random_policy()
    weights = np.array(policy.weights[0])
    weights[NAMES.index(name)] = 1
    return Learned(200, Policy(name="reading", weights=(weights,), biases=policy.biases))


def test_a_policy_asks_for_what_it_reads_of_gradients_and_weights():
    assert STEPS.needs == ("loss",)
    assert reading("alignment").needs == ("loss", "alignment")
    assert reading("persistence").needs == reading("certainty").needs == ("loss", "persistence")
    for name in ("movement", "travel", "evenness"):
        assert reading(name).needs == ("loss", name)


@pytest.mark.parametrize("name", ["alignment", "persistence"])
def test_what_is_no_number_in_its_range_is_not_taken_in(name):
    learned = reading(name)
    before = run(learned, [2.0] * 5)[-1]
    for told, counts in [(0.5, 1), (math.nan, 0), (math.inf, 0), (-1.0, 1)]:
        signal = Signal(2.0)._replace(**{name: told})
        taken = learned.update(before, signal).aligned
        taken = learned.update(before, signal).persisted if name == "persistence" else taken
        assert taken.count == counts
        assert taken.total == (told if counts else 0)
        assert STEPS.update(STEPS.init(), signal) == STEPS.update(STEPS.init(), Signal(2.0))


@pytest.mark.parametrize("name", ["movement", "travel", "evenness"])
def test_the_step_that_ends_a_window_tells_how_far_the_weights_have_come(name):
    learned = reading(name)
    before = run(learned, [2.0] * 3)[-1]
    for told, seen in [(0.5, 0.5), (math.nan, 0), (math.inf, 0), (-1.0, 0), (0.0, 0)]:
        for loss in (2.0, math.nan):
            signal = Signal(loss)._replace(**{name: told})
            after = learned.update(before, signal)
            assert after.decisions == 1
            assert getattr(after.seen, name) == seen
    signal = Signal(2.0)._replace(**{name: 0.5})
    assert STEPS.update(before, signal) == STEPS.update(before, Signal(2.0))


def test_it_decides_before_the_first_step():
    policy = random_policy()
    state = Learned(200, policy).init()
    assert state.action == policy.act((0.0,) * len(NAMES))
    assert state.offset == policy.moved(0.0, state.action) != 0
    assert state.scale == pytest.approx(STEPS.base_at(0) * math.exp(state.offset))
    assert (state.decisions, state.reason) == (0, "plan")


def test_a_recovery_does_not_hide_a_retreat_within():
    """On which weights are put back."""
    still = Learned(400, still_policy(), retreats=True)
    losses = [*FALLING, *[2.7] * 50]
    states = run(still, losses)
    at = [state.reason for state in states].index("retreat")
    guard = Guard(still)
    braked = guard.init()._replace(inner=states[at - 1], brake=0.25, healthy=guard.recovery - 1)
    after = guard.update(braked, Signal(losses[at - 1]))
    assert (after.brake, after.inner.reason, after.reason) == (0.5, "retreat", "retreat")
