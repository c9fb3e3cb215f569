"""The twin over arrays makes the decisions of the rule over floats; in NumPy, bit for bit."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from contracts import finite, noise_greedies, non_finite, run, streams
from lrpilot.schedules.greedy import NoiseGreedy
from lrpilot.schedules.greedy.arrays import REASONS, WIDTH, packed, unpacked, update

SETTINGS = [
    NoiseGreedy(),
    NoiseGreedy(factor=0.5, window=5, max_scale=1000.0),
    NoiseGreedy(window=1, evidence=2.0, patience=1, threshold=0.0, mode="max"),
    NoiseGreedy(window=2, evidence=1.0, warmup=2, cooldown=3, min_scale=0.01),
    NoiseGreedy(factor=0.9, window=3, evidence=2.0, threshold=0.01, max_scale=1.5),
]


def eventful(seed: int, steps: int) -> list[float]:
    """Losses that fall, rest, rise, jump and diverge by turns; one in fifty is not finite."""
    rng = np.random.default_rng(seed)
    level, drift, spread, losses = 0.0, 0.0, 1.0, []
    while len(losses) < steps:
        if rng.random() < 0.002:
            losses += [float(level) + 1e4] * 2
        if rng.random() < 0.02:
            drift, spread = rng.normal() * rng.choice((0.0, 0.01, 0.3)), rng.choice((0.0, 0.1, 2.0))
            level += rng.choice((0.0, 0.0, 30.0))
        level += drift
        odd = rng.choice((math.nan, math.inf, -math.inf, 1e149, 1e200))
        losses.append(float(odd if rng.random() < 0.02 else level + spread * rng.normal()))
    return losses[:steps]


def twin_states(rule, losses, array, xp) -> list[tuple[float, ...]]:
    state, states = array(packed(rule.init())), []
    with np.errstate(all="ignore"):  # branches not taken may divide by zero
        for loss in losses:
            state = update(rule, state, array(loss), xp)
            states.append(tuple(state.tolist()))
    return states


@pytest.mark.parametrize("rule", SETTINGS, ids=range(len(SETTINGS)))
def test_twins_agree_on_twenty_thousand_eventful_losses(rule):
    """Of each of five settings; twenty runs at once, each as if it were alone."""
    losses = np.array([eventful(seed, 1000) for seed in range(20)])
    hosts = [run(rule, series)[1:] for series in losses.tolist()]
    state = np.tile(packed(rule.init()), (20, 1))
    for step, at_once in enumerate(losses.T):
        with np.errstate(all="ignore"):  # branches not taken may divide by zero
            state = update(rule, state, at_once, np)
        assert [tuple(row) for row in state.tolist()] == [packed(host[step]) for host in hosts]


def test_those_losses_show_every_reason():
    reasons = {
        state.reason
        for rule in SETTINGS
        for seed in range(20)
        for state in run(rule, eventful(seed, 1000))[1:]
    }
    assert reasons == {*REASONS} - {"start"}


def float64(value) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize("rule", SETTINGS, ids=range(len(SETTINGS)))
def test_the_twin_in_torch_agrees_too(rule):
    losses = eventful(9, 300)
    expected = [packed(state) for state in run(rule, losses)[1:]]
    found = twin_states(rule, losses, float64, torch)
    # Torch rounds some functions otherwise than the C library, by processor; decisions are equal.
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-9, nan_ok=True)
    assert [state[:2] for state in found] == [state[:2] for state in expected]


@settings(max_examples=40)
@given(noise_greedies(), streams(finite | non_finite))
def test_twins_agree_under_any_settings(rule, losses):
    states = run(rule, losses)[1:]
    assert twin_states(rule, losses, np.float64, np) == [packed(state) for state in states]


@pytest.mark.parametrize("rule", SETTINGS, ids=range(len(SETTINGS)))
def test_a_packed_state_unpacks_into_the_same_and_goes_on(rule):
    for state in run(rule, eventful(1, 500))[::50]:
        assert len(packed(state)) == WIDTH
        assert repr(unpacked(packed(state))) == repr(state)
