"""The decision log: what it keeps, what it says, and that replay decides as the schedule does."""

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts import greedies, grid, non_finite, plateaus, run, streams
from lrpilot.schedules import Constant, Cosine, OpenLoop, Plateau, Signal
from lrpilot.schedules.decisions import Decision, DecisionLog, notable
from lrpilot.schedules.explanation import describe, explain, replay

NAN = math.nan
HALVING = Plateau(factor=0.5, patience=1, min_scale=0.125)
mixed = streams(grid | non_finite)


class Step(NamedTuple):
    """A state that a test writes by hand."""

    scale: float = 1.0
    reason: str = "hold"
    phase: int = 0
    best: float = 0.0


class Around(NamedTuple):
    """A state around another."""

    scale: float
    reason: str
    inner: tuple
    limit: float = 8.0


class Inside(NamedTuple):
    """One of the phases of `Phased`."""

    inner: tuple


class Phased(NamedTuple):
    """A state of phases."""

    scale: float
    reason: str
    phase: int
    phases: tuple


def json_round_trip(log, **room):
    return DecisionLog.from_state(json.loads(json.dumps(log.state_dict(), allow_nan=False)), **room)


def told(log, states):
    """The log after hearing of each of ``states``, the first being the one before step 1."""
    for step, (before, after) in enumerate(pairwise(states), start=1):
        if notable(before, after):
            log.record(step, before, after)
    return log.up_to(len(states) - 1)


@given(plateaus() | greedies(), mixed)
def test_the_log_has_every_move_and_counts_every_ignored_loss(schedule, losses):
    log = replay(schedule, losses, last=10_000).log
    states = run(schedule, losses)
    moved = {}
    for step, (before, after) in enumerate(pairwise(states), start=1):
        if after.scale != before.scale:
            moved[step] = (after.reason, before.scale, after.scale)
    entries = [one for one in log.decisions if one.reason != "ignore"]
    assert sum(one.until - one.step + 1 for one in entries) == len(moved)
    for one in entries:
        first, last = moved[one.step], moved[one.until]
        assert (one.reason, one.old, one.new) == (first[0], first[1], last[2])
        assert {moved[step][0] for step in range(one.step, one.until + 1)} == {one.reason}
    assert log.up == sum(new > old for _, old, new in moved.values())
    assert log.down == sum(new < old for _, old, new in moved.values())
    ignored = [step for step, loss in enumerate(losses, start=1) if not math.isfinite(loss)]
    stretches = [one for one in log.decisions if one.reason == "ignore"]
    assert log.ignored == sum(dict(one.statistics)["losses"] for one in stretches) == len(ignored)
    assert [one.step for one in stretches][:1] == ignored[:1]
    assert [one.until for one in stretches][-1:] == ignored[-1:]
    assert log.steps == len(losses)


@given(plateaus(), mixed, st.integers(0, 60), st.integers(0, 3), st.integers(1, 3))
def test_a_log_that_went_through_a_checkpoint_goes_on_as_if_it_had_not(
    schedule, losses, cut, first, last
):
    states = run(schedule, losses)
    cut = min(cut, len(losses))
    log = told(DecisionLog(first, last), states[: cut + 1])
    log = json_round_trip(log, first=first, last=last)
    for step in range(cut + 1, len(states)):
        if notable(states[step - 1], states[step]):
            log.record(step, states[step - 1], states[step])
    whole = told(DecisionLog(first, last), states)
    assert repr(log.up_to(len(losses)).state_dict()) == repr(whole.state_dict())


def test_the_first_and_the_last_decisions_are_kept_and_the_others_counted():
    log = DecisionLog(first=2, last=3)
    for step in range(1, 21, 2):
        log.note(step, "manual", 1.0, 0.5)
    assert [one.step for one in log.decisions] == [1, 3, 15, 17, 19]
    assert log.dropped == 5
    assert log.down == 10
    assert len(json.dumps(log.state_dict())) < 400
    smaller = json_round_trip(log, first=2, last=1)
    assert [one.step for one in smaller.decisions] == [1, 3, 19]
    assert smaller.dropped == 7
    larger = json_round_trip(log, first=9, last=9)
    larger.note(21, "manual", 1.0, 0.5)
    assert [one.step for one in larger.decisions] == [1, 3, 15, 17, 19, 21]


def test_a_full_log_of_a_long_run_is_a_few_kilobytes():
    log = replay(Plateau(factor=0.999, patience=1), [1.0] * 5_000).log
    assert len(log.decisions) == 100
    assert len(json.dumps(log.state_dict())) < 8_000


def test_moves_on_consecutive_steps_share_an_entry():
    log = replay(Plateau(factor=0.5, patience=0, min_scale=0.01), [1.0, 1.0, 1.0, 1.0, 0.5]).log
    (entry,) = log.decisions
    assert (entry.step, entry.until, entry.old, entry.new) == (2, 4, 1.0, 0.125)
    assert log.down == 3
    assert describe(entry).endswith("1 time in a row; 3 such moves, one a step (reference 1)")
    states = [Step(), Step(2.0, "raise"), Step(4.0, "warmup"), Step(8.0, "warmup")]
    assert [one[:2] for one in told(DecisionLog(), states).decisions] == [
        (1, "raise"),
        (2, "warmup"),
    ]


def test_an_event_that_leaves_the_rate_is_no_move():
    log = DecisionLog()
    log.note(3, "resumed", 0.5, 0.5)
    log.note(4, "manual", 0.5, 1.0)
    assert (log.up, log.down, log.scale, log.steps) == (1, 0, 1.0, 4)


def test_ignored_losses_between_two_decisions_are_one_entry_even_if_good_ones_lie_between():
    losses = [2.0, NAN, 1.9, math.inf, -math.inf, 1.9, 1.9, NAN, NAN]
    first, lower, last = replay(HALVING, losses).log.decisions
    assert first == Decision(2, "ignore", 1.0, 1.0, (("losses", 3), ("until", 5)))
    assert (lower.step, lower.reason) == (7, "lower")
    assert last == Decision(8, "ignore", 0.5, 0.5, (("losses", 2), ("until", 9)))


def test_an_event_while_losses_are_ignored_stands_between_them():
    log = DecisionLog()
    good, ignored = Step(), Step(reason="ignore")
    log.record(5, good, ignored)
    log.note(8, "rollback", 1.0, 0.5, to=4, loss=NAN)
    log.record(11, ignored._replace(scale=0.5), Step(scale=0.5))
    assert [one[:2] for one in log.decisions] == [(5, "ignore"), (8, "rollback"), (8, "ignore")]
    assert [one.until for one in log.decisions] == [7, 8, 10]
    assert log.ignored == 6
    assert log.decisions[1].statistics == (("to", 4),)


def test_a_plan_is_not_a_decision():
    log = replay(OpenLoop(Cosine(), total_steps=50), [1.0] * 60).log
    assert log.decisions == []
    assert (log.steps, log.scale) == (60, 0.0)
    assert explain(log, base_lr=0.1).splitlines() == [
        "no decisions",
        "",
        "moves: 0 up, 0 down; ignored losses: 0; steps: 60; now 0",
    ]


def test_a_new_phase_is_logged_even_if_neither_scale_nor_reason_changed():
    log = told(DecisionLog(), [Step(), Step(phase=1), Step(phase=1)])
    assert log.decisions == [Decision(1, "phase", 1.0, 1.0, (("phase", 1),))]
    assert describe(log.decisions[0]) == "phase 2 began"
    inside = [Around(1.0, "plan", Step()), Around(1.0, "plan", Step(phase=1))]
    assert [one.reason for one in told(DecisionLog(), inside).decisions] == ["phase"]


def test_statistics_are_the_numbers_that_decided():
    (lower,) = replay(HALVING, [3.0, 2.0, 2.5, 2.5]).log.decisions
    assert lower.statistics == (("best", 2.0), ("bad", 2))
    before, after = Step(best=3.0), Step(0.5, "raise", best=2.0)
    (raised,) = told(DecisionLog(), [before, after]).decisions
    assert raised.statistics == (("reference", 3.0), ("best", 2.0))


def test_statistics_of_inner_states_have_dots_and_windows_and_other_phases_are_left_out():
    before = HALVING.init()._replace(best=3.0, bad=1, window=(3.0,))
    after = HALVING.update(before, Signal(4.0))
    around = [Around(1.0, "hold", before), Around(0.5, "lower", after, limit=9.0)]
    (decision,) = told(DecisionLog(), around).decisions
    assert dict(decision.statistics) == {
        "inner.scale": 0.5,
        "inner.best": 3.0,
        "inner.bad": 2,
        "limit": 9.0,
    }
    assert describe(decision).endswith("2 times in a row (reference 3)")
    phased = [
        Phased(1.0, "hold", 1, (Inside(Step(best=9.0)), Inside(before))),
        Phased(0.5, "lower", 1, (Inside(Step(best=9.0)), Inside(after))),
    ]
    (decision,) = told(DecisionLog(), phased).decisions
    assert dict(decision.statistics)["phases.inner.best"] == 3.0
    assert describe(decision).endswith("2 times in a row (reference 3)")


def test_statistics_have_six_digits():
    before, after = Step(), Step(0.5, "lower", best=1.23456789, phase=0)
    (decision,) = told(DecisionLog(), [before, after]).decisions
    assert dict(decision.statistics)["best"] == 1.23457


def test_a_rule_that_tests_the_trend_is_told_as_such():
    statistics = (("phases.level", 2.0), ("phases.inner.z", -6.25), ("phases.inner.memory.good", 2))
    words = describe(Decision(80, "raise", 1.0, 2.0, statistics))
    assert words == "raised: the loss fell beyond doubt 2 times in a row (z -6.25)"
    words = describe(Decision(80, "lower", 1.0, 0.5, (("z", 5.0), ("memory.bad", 1))))
    assert words == "lowered: the loss rose beyond doubt (z 5)"
    assert describe(Decision(80, "revert", 1.0, 0.5)).startswith("taken back: ")
    elsewhere = (("inner.bad", 3), ("other.z", 5.0))
    words = describe(Decision(80, "lower", 1.0, 0.5, elsewhere))
    assert words == "lowered: the loss was not better than the reference 3 times in a row"


def test_an_event_without_finite_scales_is_refused():
    with pytest.raises(ValueError, match="old and new must be finite scales"):
        DecisionLog().note(3, "manual", 1.0, math.inf)


GOOD = replay(HALVING, [3.0, NAN, 3.0, 3.0]).log.state_dict()
ENTRY = [4, "lower", 1.0, 0.5, 0, 2]


@pytest.mark.parametrize(
    "damage",
    [
        {"up": -1},
        {"down": True},
        {"steps": 1.5},
        {"counted": -3},
        {"scale": NAN},
        {"last": 7},
        {"first": ["lower"]},
        {"first": [[True, *ENTRY[1:]]]},
        {"first": [[-1, *ENTRY[1:]]]},
        {"first": [[4, 5, *ENTRY[2:]]]},
        {"first": [[*ENTRY, 1]]},
        {"first": [[*ENTRY, 99, 1.0]]},
        {"first": [[*ENTRY, -1, 1.0]]},
        {"first": [[*ENTRY, True, 1.0]]},
        {"first": [[*ENTRY, "best", 1.0]]},
        {"names": None},
        {"names": [*GOOD["names"], 1]},
        {"first": [[4, "lower", 1.0, NAN]]},
        {"first": [[4, "lower", 1.0, None]]},
        {"first": [[4, "ignore", 1.0, 1.0, GOOD["names"].index("losses"), 2]]},
        {"more": 1},
    ],
)
def test_a_damaged_log_is_refused(damage):
    assert DecisionLog.from_state(GOOD).state_dict() == GOOD
    with pytest.raises(ValueError, match="the decision log is damaged"):
        DecisionLog.from_state({**GOOD, **damage})


@pytest.mark.parametrize("state", [None, [], {}, {name: GOOD[name] for name in list(GOOD)[1:]}])
def test_what_is_no_log_is_refused(state):
    with pytest.raises(ValueError, match="the decision log is damaged: expected the fields"):
        DecisionLog.from_state(state)


@given(plateaus() | greedies(), mixed)
def test_replay_decides_what_the_schedule_decides(schedule, losses):
    found = replay(schedule, losses, base_lr=0.25)
    scales = [state.scale for state in run(schedule, losses)]
    assert found.scales == scales
    assert found.rates == [0.25 * scale for scale in scales[:-1]]
    assert found.log.scale == scales[-1]
    signals = replay(schedule, [Signal(loss) for loss in losses])
    assert signals.scales == scales


def test_explain_says_step_rate_factor_and_reason_and_marks_the_bound():
    found = replay(HALVING, [3.0, NAN, *[3.0] * 8, 3.0])
    assert explain(found.log, base_lr=0.1, schedule=HALVING).splitlines() == [
        "step  rate             factor  what happened",
        "   2  0.1                      ignored 1 loss that was not finite, the last at step 2",
        "   4  0.1 -> 0.05      x 0.5   lowered: the loss was not better than the reference "
        "2 times in a row (reference 3)",
        "   6  0.05 -> 0.025    x 0.5   lowered: the loss was not better than the reference "
        "2 times in a row (reference 3)",
        "   8  0.025 -> 0.0125  x 0.5   lowered: the loss was not better than the reference "
        "2 times in a row (reference 3); this is the lower bound",
        "",
        "moves: 0 up, 3 down; ignored losses: 1; steps: 11; now 0.0125",
        "at the lower bound (0.0125): 3 of 11 steps",
    ]
    scales = explain(found.log).splitlines()
    assert scales[0].split() == ["step", "scale", "factor", "what", "happened"]
    assert scales[2].split()[1:4] == ["1", "->", "0.5"]


def test_explain_counts_time_at_a_bound_from_the_stretches_it_knows():
    log = DecisionLog(first=1, last=1)
    log.note(10, "manual", 1.0, 0.125)
    log.note(20, "manual", 0.125, 0.5)
    log.note(30, "manual", 0.5, 0.125)
    text = explain(log.up_to(50), schedule=HALVING)
    assert "...                         1 decision not kept" in text
    # Steps 10 to 20 lie before a decision that was dropped.
    assert "at the lower bound (0.125): 20 of 30 steps" in text
    log.scale = 0.25  # a plan has moved it since
    assert "bound (" not in explain(log, schedule=HALVING)


def test_time_at_a_bound_counts_ignored_losses_but_not_the_moves_towards_it():
    schedule = Plateau(factor=0.5, patience=0, min_scale=0.125)
    text = explain(replay(schedule, [1.0] * 9 + [NAN] * 3).log, schedule=schedule)
    # Two steps before the first move, two of moves, eight at the bound.
    assert "at the lower bound (0.125): 8 of 10 steps" in text


def test_bounds_are_those_of_the_schedule_inside_and_a_plan_has_none():
    @dataclass(frozen=True)
    class Wrapper:
        parts: tuple

        def init(self):
            return self.parts[-1].init()

    log, constant = replay(HALVING, [1.0] * 9).log, OpenLoop(Constant(), total_steps=5)
    assert "this is the lower bound" in explain(log, schedule=Wrapper((constant, HALVING)))
    assert "bound" not in explain(log, schedule=Wrapper((constant,)))


@pytest.mark.parametrize(
    ("reason", "words"),
    [("manual", "set by hand"), ("extend", "the horizon was changed"), ("novel", "novel")],
)
def test_events_have_words_and_unknown_reasons_their_code(reason, words):
    assert describe(Decision(1, reason, 1.0, 1.0)) == words
