"""What holds for every schedule: how to draw one, feed it, and the promises to hold it to."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from lrpilot.schedules import (
    Guard,
    Learned,
    OpenLoop,
    Phases,
    Plateau,
    Schedule,
    Signal,
    State,
    pack,
    unpack,
)
from lrpilot.schedules.greedy import Greedy, NoiseGreedy, ThresholdGreedy

LARGEST = 1.7e308
SMALLEST = 5e-324

finite = st.floats(allow_nan=False, allow_infinity=False)
awkward = st.sampled_from((0.0, -0.0, 1e308, -1e308, LARGEST, -LARGEST, SMALLEST, -SMALLEST, 1.0))
non_finite = st.sampled_from((math.nan, math.inf, -math.inf))
# A grid on which windowed means and margins are exact, with many ties.
grid = st.integers(-400, 400).map(lambda n: n / 8)

thresholds = st.sampled_from((0.0, 1e-3, 0.25))
counts = st.integers(0, 3)
modes = st.sampled_from(("min", "max"))


def streams(losses: st.SearchStrategy[float] = finite | awkward) -> st.SearchStrategy[list[float]]:
    """Losses with plateaus in them, long enough to fill a window and move a few times."""
    runs = st.lists(st.tuples(losses, st.integers(1, 8)), max_size=20)
    return runs.map(lambda drawn: [loss for loss, times in drawn for _ in range(times)])


def greedies(
    threshold: st.SearchStrategy[float] = thresholds,
) -> st.SearchStrategy[ThresholdGreedy]:
    return st.builds(
        ThresholdGreedy,
        factor=st.floats(0.05, 0.99),
        patience=counts,
        window=st.integers(1, 5),
        threshold=threshold,
        warmup=counts,
        cooldown=counts,
        min_scale=st.floats(1e-6, 1.0),
        max_scale=st.floats(1.0, 1e6),
        mode=modes,
    )


def noise_greedies() -> st.SearchStrategy[NoiseGreedy]:
    """Small windows and weak evidence, so that short streams move the rate."""
    return st.builds(
        NoiseGreedy,
        factor=st.floats(0.05, 0.99),
        patience=st.integers(0, 1),
        window=st.integers(1, 2),
        evidence=st.floats(1.0, 4.0),
        threshold=thresholds,
        warmup=counts,
        cooldown=counts,
        min_scale=st.floats(1e-6, 1.0),
        max_scale=st.floats(1.0, 1e6),
        mode=modes,
    )


def plateaus(threshold: st.SearchStrategy[float] = thresholds) -> st.SearchStrategy[Plateau]:
    return st.builds(
        Plateau,
        factor=st.floats(0.05, 0.99),
        patience=counts,
        threshold=threshold,
        cooldown=counts,
        min_scale=st.floats(1e-6, 1.0),
        window=st.integers(1, 5),
        mode=modes,
    )


def run(
    schedule: Schedule[Any], losses: Iterable[float], state: State | None = None
) -> list[State]:
    """The state after each loss, the one before the first included."""
    states = [schedule.init() if state is None else state]
    for loss in losses:
        states.append(schedule.update(states[-1], Signal(loss)))
    return states


def scales(states: Iterable[State]) -> list[float]:
    return [state.scale for state in states]


def json_round_trip(schedule: Schedule[Any], state: State) -> State:
    return unpack(schedule, json.loads(json.dumps(pack(state), allow_nan=False)))


def bounds(schedule: Schedule[Any]) -> tuple[float, float]:
    match schedule:
        case Greedy() | NoiseGreedy() | ThresholdGreedy():
            return schedule.min_scale, schedule.max_scale
        case Plateau():
            return schedule.min_scale, 1.0
        case Learned():
            return 0.0, math.exp(schedule.limit)
        case Guard():
            return bounds(schedule.schedule)
        case Phases():
            return 0.0, max(bounds(one.content)[1] for one in schedule.phases)
        case _:
            return 0.0, 1.0


def horizon(schedule: Schedule[Any]) -> float | None:
    """In optimizer steps."""
    match schedule:
        case OpenLoop() | Learned():
            return schedule.total_steps
        case Guard():
            return horizon(schedule.schedule)
        case Phases():
            return schedule.total and schedule.total.count
        case _:
            return None


def mirrored(schedule: Schedule[Any]) -> Schedule[Any]:
    return replace(schedule, mode="max" if schedule.mode == "min" else "min")


def check_scale_stays_in_bounds(schedule: Schedule[Any], losses: list[float]) -> None:
    low, high = bounds(schedule)
    for step, state in enumerate(run(schedule, losses)):
        assert math.isfinite(state.scale)
        assert low <= state.scale <= high
        # Only an anneal may reach 0, and only once its horizon has passed.
        annealed = horizon(schedule) is not None and step >= horizon(schedule)
        assert state.scale > 0 or annealed


def check_resume_changes_nothing(schedule: Schedule[Any], losses: list[float], cut: int) -> None:
    whole = run(schedule, losses)
    head = run(schedule, losses[:cut])
    tail = run(schedule, losses[cut:], json_round_trip(schedule, head[-1]))
    # repr, because it tells -0.0 from 0.0 and 1 from 1.0.
    assert repr(whole) == repr(head + tail[1:])
    assert {type(state) for state in tail} == {type(whole[0])}


def check_non_finite_losses_are_forgotten(
    schedule: Schedule[Any], losses: list[float], bad: list[tuple[int, float]]
) -> None:
    stream: list[float] = list(losses)
    for at, value in bad:
        stream.insert(at % (len(stream) + 1), value)
    states = run(schedule, stream)
    for state in states:
        json.dumps(pack(state), allow_nan=False)
    for before, after, loss in zip(states, states[1:], stream, strict=False):
        if not math.isfinite(loss):
            assert after == before._replace(reason="ignore")
    kept = [state for loss, state in zip(stream, states[1:], strict=True) if math.isfinite(loss)]
    assert kept == run(schedule, losses)[1:]


def check_worse_is_never_better(schedule: Schedule[Any], losses: list[float]) -> None:
    worsening = sorted(losses, reverse=schedule.mode == "max")
    rates = scales(run(schedule, worsening))
    assert rates == sorted(rates, reverse=True)


def check_unit_of_loss_does_not_matter(
    schedule: Schedule[Any], losses: list[float], unit: float
) -> None:
    ours = [(state.scale, state.reason) for state in run(schedule, losses)]
    theirs = [(state.scale, state.reason) for state in run(schedule, [unit * x for x in losses])]
    assert ours == theirs


def assume_no_comparison_is_close(schedule: Schedule[Any], losses: list[float]) -> None:
    """Discard streams on which a rounding error of 1e-9 would decide."""
    for nudge in (1 - 1e-6, 1 + 1e-6):
        nudged = replace(schedule, threshold=schedule.threshold * nudge)
        assume(scales(run(nudged, losses)) == scales(run(schedule, losses)))


def check_mirror_is_exact(schedule: Schedule[Any], losses: list[float]) -> None:
    mirror = run(mirrored(schedule), [-loss for loss in losses])
    assert repr(mirror) == repr(run(schedule, losses))


def check_update_is_pure(schedule: Schedule[Any], losses: list[float]) -> None:
    settings = pickle.dumps(schedule)
    for state, loss in zip(run(schedule, losses), losses, strict=False):
        before = pickle.dumps(state)
        first = schedule.update(state, Signal(loss))
        second = schedule.update(state, Signal(loss))
        assert repr(first) == repr(second)
        assert pickle.dumps(state) == before
    assert pickle.dumps(schedule) == settings


def check_settings_are_values(schedule: Schedule[Any]) -> None:
    for twin in (copy.deepcopy(schedule), pickle.loads(pickle.dumps(schedule)), replace(schedule)):
        assert twin == schedule
        assert hash(twin) == hash(schedule)
    assert schedule != object()
