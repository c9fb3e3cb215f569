"""The contracts of `contracts`, on every schedule."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import contracts
from contracts import (
    finite,
    greedies,
    grid,
    modes,
    noise_greedies,
    non_finite,
    plateaus,
    streams,
)
from lrpilot.schedules import NAMED_SCHEDULES, Guard, Learned, Plateau, named_schedule
from lrpilot.schedules.greedy import NoiseGreedy, ThresholdGreedy
from policies import random_policy

LOSS_DRIVEN = {
    "greedy": NoiseGreedy(),
    "greedy, eager": NoiseGreedy(window=1, evidence=1.0, threshold=0.0, max_scale=100.0),
    "greedy, untuned": NoiseGreedy(factor=0.5, window=5, max_scale=1000.0),
    "greedy, continued": NoiseGreedy(window=1, evidence=1.0, warmup=2, cooldown=3),
    "threshold": ThresholdGreedy(),
    "threshold, alert": ThresholdGreedy(factor=0.5, patience=0, window=1, threshold=0.0),
    "threshold, smoothed": ThresholdGreedy(factor=0.9, patience=1, window=4, threshold=1e-3),
    "threshold, continuing": ThresholdGreedy(
        factor=0.5, patience=0, window=1, warmup=3, cooldown=2
    ),
    "threshold, of scores": ThresholdGreedy(
        factor=0.5, patience=1, window=2, cooldown=1, mode="max"
    ),
    "threshold, bound": ThresholdGreedy(
        factor=0.3, patience=0, window=1, min_scale=1.0, max_scale=1.5
    ),
    "plateau": Plateau(),
    "plateau, alert": Plateau(factor=0.5, patience=0, threshold=0.0, min_scale=0.2),
    "plateau, cooling": Plateau(factor=0.5, patience=1, cooldown=3, window=3),
    "plateau, of scores": Plateau(factor=0.5, patience=0, mode="max"),
}
# They follow a plan as well, so that a loss that is not finite still moves them on.
LEARNED = {
    "learned": Learned(60, random_policy(8)),
    "learned, anchored": Learned(60, random_policy(kind="anchored", base="cosine")),
    "learned, clipped": Learned(60, random_policy(squash="clip", base="cosine", seed=1)),
    "learned, deep": Learned(1000, random_policy(8, 4, seed=2)),
    "learned, without horizon": Learned(None, random_policy(8)),
    "learned, guarded": Guard(Learned(60, random_policy(8))),
}
DRAWN = [
    pytest.param(greedies(), id="any threshold"),
    pytest.param(noise_greedies(), id="any greedy"),
    pytest.param(plateaus(), id="any plateau"),
]
FIXED = [pytest.param(st.just(value), id=name) for name, value in LOSS_DRIVEN.items()]
NAMED = [
    pytest.param(st.just(named_schedule(name, total_steps)), id=f"{name} over {total_steps}")
    for name in NAMED_SCHEDULES
    for total_steps in (1, 37)
]

POLICIES = [pytest.param(st.just(value), id=name) for name, value in LEARNED.items()]

on_every_schedule = pytest.mark.parametrize("schedules", [*NAMED, *FIXED, *POLICIES, *DRAWN])
on_loss_driven_schedules = pytest.mark.parametrize("schedules", [*FIXED, *DRAWN])


@on_every_schedule
@given(data=st.data(), losses=streams(finite | contracts.awkward | non_finite))
def test_scale_is_finite_and_within_bounds(schedules, data, losses):
    contracts.check_scale_stays_in_bounds(data.draw(schedules), losses)


@on_every_schedule
@given(data=st.data(), losses=streams(grid | finite | non_finite), cut=st.integers(0, 100))
def test_resuming_from_a_checkpoint_changes_nothing(schedules, data, losses, cut):
    contracts.check_resume_changes_nothing(data.draw(schedules), losses, cut)


@on_loss_driven_schedules
@given(
    data=st.data(),
    losses=streams(grid),
    bad=st.lists(st.tuples(st.integers(0, 200), non_finite), min_size=1, max_size=10),
)
def test_non_finite_losses_are_survived_and_forgotten(schedules, data, losses, bad):
    contracts.check_non_finite_losses_are_forgotten(data.draw(schedules), losses, bad)


@on_loss_driven_schedules
@given(data=st.data(), losses=streams(finite | contracts.awkward | grid))
def test_a_worse_loss_never_counts_as_better(schedules, data, losses):
    contracts.check_worse_is_never_better(data.draw(schedules), losses)


@on_every_schedule
@given(data=st.data(), losses=streams(grid), power=st.integers(-30, 30))
def test_a_power_of_two_times_the_loss_changes_nothing(schedules, data, losses, power):
    contracts.check_unit_of_loss_does_not_matter(data.draw(schedules), losses, 2.0**power)


@pytest.mark.parametrize("schedules", [greedies(st.just(1e-3)), plateaus(st.just(1e-3))])
@settings(max_examples=100)
@given(data=st.data(), losses=streams(st.integers(1, 500)), exponent=st.floats(-6, 6))
def test_any_multiple_of_the_loss_changes_nothing(schedules, data, losses, exponent):
    schedule = data.draw(schedules)
    signed = losses if schedule.mode == "min" else [-loss for loss in losses]
    contracts.assume_no_comparison_is_close(schedule, signed)
    contracts.check_unit_of_loss_does_not_matter(schedule, signed, 10**exponent)


@on_loss_driven_schedules
@given(data=st.data(), losses=streams(finite | contracts.awkward | grid | non_finite))
def test_scores_mirror_losses_exactly(schedules, data, losses):
    contracts.check_mirror_is_exact(data.draw(schedules), losses)


@on_every_schedule
@settings(max_examples=10)
@given(data=st.data(), losses=streams(grid))
def test_update_is_a_pure_function(schedules, data, losses):
    contracts.check_update_is_pure(data.draw(schedules), losses)


@on_every_schedule
@settings(max_examples=10)
@given(data=st.data())
def test_settings_are_values(schedules, data):
    contracts.check_settings_are_values(data.draw(schedules))


@on_loss_driven_schedules
@settings(max_examples=10)
@given(data=st.data())
def test_the_first_state_holds_no_settings(schedules, data):
    schedule = data.draw(schedules)
    assert schedule.init() == type(schedule)().init()


@given(schedule=greedies() | noise_greedies() | plateaus(), mode=modes)
def test_a_loss_driven_schedule_needs_the_loss_alone(schedule, mode):
    assert schedule.needs == ("loss",)


@pytest.mark.parametrize("name", NAMED_SCHEDULES)
def test_a_schedule_that_needs_no_loss_never_reads_it(name):
    schedule = named_schedule(name, total_steps=20)
    if not schedule.needs:
        falling = contracts.run(schedule, [1 / n for n in range(1, 40)])
        assert falling == contracts.run(schedule, range(1, 40))
