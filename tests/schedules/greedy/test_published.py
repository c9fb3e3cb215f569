import itertools
import json
import math
import random
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers.optimization import GreedyLR

import contracts
from contracts import finite, grid, modes, non_finite, run, scales, streams
from lrpilot.schedules import Signal, pack
from lrpilot.schedules.greedy.advanced import Advanced
from lrpilot.schedules.greedy.published import Algorithm1, Algorithm2, TransformersGreedy
from reference.published import ReferenceAdvanced, ReferenceAlgorithm1, ReferenceAlgorithm2

HUGE = (1e308, -1e308, sys.float_info.max, -sys.float_info.max)

rates = st.sampled_from((5e-5, 0.1, 1.0, 5.0)) | st.floats(1e-9, 100.0)
lows = st.sampled_from((1e-12, 1e-3, 0.05)) | st.floats(1e-12, 1.0)
highs = st.sampled_from((1.0, 10.0)) | st.floats(1.0, 1e4)
factors = st.sampled_from((0.5, 0.95)) | st.floats(0.05, 0.99)
counts = st.integers(0, 3)
windows = st.integers(0, 4)
few_or_none = st.none() | st.integers(1, 6)
comparisons = st.tuples(
    st.just("relative"), st.sampled_from((0.0, 1e-6, 0.01)) | st.floats(0.0, 0.9)
) | st.tuples(st.just("absolute"), st.sampled_from((0.0, 1e-6, 0.01, 1e308)) | st.floats(0.0, 10.0))
adversarial = streams(
    st.one_of(grid, finite, st.floats(1.0, 1.01), st.sampled_from((0.0, -0.0, 5e-324, *HUGE)))
)
"""Ties, plateaus, both signs, near misses, the least and the largest floats, sums that overflow."""


def descents(length: int) -> st.SearchStrategy[list[float]]:
    """A long noisy way down, for what happens only after tens of observations."""

    def walk(seed: int, drift: float, noise: float) -> list[float]:
        draw = random.Random(seed)
        return [5.0 - drift * step + draw.gauss(0.0, noise) for step in range(length)]

    return st.builds(walk, st.integers(0, 2**16), st.floats(-0.01, 0.1), st.floats(0.0, 1.0))


@st.composite
def released(draw, rule):
    threshold_mode, threshold = draw(comparisons)
    return rule(
        factor=draw(factors),
        patience=draw(counts),
        window=draw(windows),
        threshold=threshold,
        threshold_mode=threshold_mode,
        warmup=draw(counts),
        cooldown=draw(counts),
        min_scale=draw(lows),
        max_scale=draw(highs),
        eps=draw(st.sampled_from((0.0, 1e-8, 0.01))),
        reset_after=draw(few_or_none),
        start_scale=draw(rates),
        mode=draw(modes),
    )


algorithm1s = st.builds(Algorithm1, factor=factors, start_scale=rates, mode=modes)
algorithm2s = released(Algorithm2)
transformers = released(TransformersGreedy)
advanced = st.builds(
    Advanced,
    factor=factors,
    patience=st.integers(0, 20),
    window=st.integers(0, 12),
    spike=st.booleans(),
    adaptive=st.booleans(),
    min_scale=lows,
    max_scale=highs,
    start_scale=rates,
)
variants = st.one_of(algorithm1s, algorithm2s, advanced, transformers)


def original(rule: TransformersGreedy) -> GreedyLR:
    """transformers' own class with the same settings, over SGD with one group."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rule.start_scale)
    return GreedyLR(
        optimizer,
        mode=rule.mode,
        factor=rule.factor,
        patience=rule.patience,
        threshold=rule.threshold,
        threshold_mode={"relative": "rel", "absolute": "abs"}[rule.threshold_mode],
        cooldown=rule.cooldown,
        warmup=rule.warmup,
        min_lr=rule.min_scale,
        max_lr=rule.max_scale,
        eps=rule.eps,
        smooth=rule.window > 0,
        window_size=rule.window,
        reset_start=10**9 if rule.reset_after is None else rule.reset_after,
    )


def rates_of_original(rule: TransformersGreedy, losses: list[float]) -> list[float]:
    scheduler = original(rule)
    seen = []
    for loss in losses:
        scheduler.step(loss)
        seen.append(scheduler.optimizer.param_groups[0]["lr"])
    return seen


def rates_of_ours(rule, losses: list[float]) -> list[float]:
    return scales(run(rule, losses))[1:]


@settings(max_examples=500)
@given(rule=transformers, losses=adversarial)
@example(  # the sum of a window overflows downwards: a record that nothing beats until a reset
    rule=TransformersGreedy(factor=0.5, patience=0, window=2, reset_after=2, min_scale=0.25),
    losses=[-1e308] * 3 + [1.0] * 8 + [0.5, 0.25],
)
@example(  # and upwards, where every loss is worse
    rule=TransformersGreedy(factor=0.5, patience=0, window=2, reset_after=3, min_scale=0.25),
    losses=[1e308] * 3 + [1.0] * 8 + [0.5, 0.25],
)
@example(  # moves by exactly eps are not made: up from 0.25, nor down from 0.5
    rule=TransformersGreedy(factor=0.5, patience=0, start_scale=0.25, eps=0.25),
    losses=[1.0, 0.9, 0.8],
)
@example(
    rule=TransformersGreedy(factor=0.5, patience=0, start_scale=0.5, eps=0.25),
    losses=[1.0] * 4,
)
def test_transformers_greedy_has_the_rates_of_transformers_to_the_last_bit(rule, losses):
    assert rates_of_ours(rule, losses) == rates_of_original(rule, losses)


@settings(max_examples=60)
@given(
    rule=transformers,
    window=st.sampled_from((0, 50)),
    losses=descents(400),
)
def test_transformers_greedy_agrees_on_long_descents(rule, window, losses):
    rule = replace(rule, window=window)
    assert rates_of_ours(rule, losses) == rates_of_original(rule, losses)


@pytest.mark.parametrize("start", [5e-5, 0.1, 5.0])
def test_transformers_greedy_has_the_defaults_of_transformers(start):
    draw = random.Random(1)
    losses = [10.0 - step / 100 + draw.gauss(0, 0.003) for step in range(600)]
    losses += [5.0] * 12_000  # to the floor, and through the reset there
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start)
    scheduler = GreedyLR(optimizer)
    state = (ours := TransformersGreedy(start_scale=start)).init()
    moved = set()
    for loss in losses:
        scheduler.step(loss)
        state = ours.update(state, Signal(loss))
        moved.add(state.reason)
        assert state.scale == optimizer.param_groups[0]["lr"]
    assert moved >= {"raise", "lower", "reset"}


@settings(max_examples=200)
@given(rule=transformers, losses=adversarial, cut=st.integers(0, 100))
def test_transformers_greedy_can_take_over_from_a_checkpoint(rule, losses, cut):
    """What transformers decides after ``cut`` losses, ours decides from a state through JSON."""
    head = run(rule, losses[:cut])
    tail = run(rule, losses[cut:], contracts.json_round_trip(rule, head[-1]))
    assert scales(tail)[1:] == rates_of_original(rule, losses)[cut:]


@settings(max_examples=300)
@given(rule=algorithm1s, losses=adversarial)
def test_algorithm_1_is_the_papers(rule, losses):
    reference = ReferenceAlgorithm1(rule.start_scale, rule.factor, rule.mode)
    assert rates_of_ours(rule, losses) == [reference.step(loss) for loss in losses]


@pytest.mark.parametrize(("losses", "limit"), [(range(9999, 0, -1), "max"), (range(9999), "min")])
def test_algorithm_1_stays_within_the_normal_floats(losses, limit):
    last = run(Algorithm1(factor=0.5), losses)[-1]
    assert last.scale == getattr(sys.float_info, limit)


def reference_of(rule: Algorithm2) -> ReferenceAlgorithm2:
    return ReferenceAlgorithm2(
        lr=rule.start_scale,
        mode=rule.mode,
        factor=rule.factor,
        patience=rule.patience,
        threshold=rule.threshold,
        threshold_mode=rule.threshold_mode[:3],
        cooldown=rule.cooldown,
        warmup=rule.warmup,
        min_lr=rule.min_scale,
        max_lr=rule.max_scale,
        eps=rule.eps,
        smooth=rule.window > 0,
        window_size=rule.window,
        reset_start=-1 if rule.reset_after is None else rule.reset_after,
    )


@settings(max_examples=500)
@given(rule=algorithm2s, losses=adversarial)
@example(
    rule=Algorithm2(factor=0.5, patience=0, window=2, reset_after=4, min_scale=1e-6),
    losses=[-1e308] * 3 + [1.0] * 8,
)
def test_algorithm_2_is_the_papers_and_the_forks(rule, losses):
    reference = reference_of(rule)
    assert rates_of_ours(rule, losses) == [reference.step(loss) for loss in losses]


@pytest.mark.parametrize("threshold_mode", ["relative", "absolute"])
@settings(max_examples=10)
@given(losses=descents(1200))
def test_algorithm_2_agrees_with_its_defaults_on_long_descents(threshold_mode, losses):
    rule = Algorithm2(start_scale=0.1, threshold_mode=threshold_mode)
    reference = reference_of(rule)
    assert rates_of_ours(rule, losses) == [reference.step(loss) for loss in losses]


def test_algorithm_2_forgets_its_best_at_step_501_and_every_500_steps():
    states = run(Algorithm2(), [1.0] * 1600)
    known = [state.best is not None for state in states[1:]]
    assert [step for step, best in enumerate(known, start=1) if not best] == [501, 1001, 1501]


def reference_of_advanced(rule: Advanced) -> ReferenceAdvanced:
    return ReferenceAdvanced(
        lr=rule.start_scale,
        F=rule.factor,
        patience=rule.patience,
        min_lr=rule.min_scale,
        max_lr=rule.max_scale,
        window=rule.window,
        spike=rule.spike,
        adaptive=rule.adaptive,
    )


@settings(max_examples=400)
@given(rule=advanced, losses=adversarial | descents(120))
def test_advanced_is_the_studys(rule, losses):
    reference = reference_of_advanced(rule)
    assert rates_of_ours(rule, losses) == [reference.step(loss) for loss in losses]


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("patience", [1, 10, 20])
@settings(max_examples=10)
@given(losses=descents(600))
def test_advanced_agrees_with_its_defaults_on_long_descents(adaptive, patience, losses):
    rule = Advanced(start_scale=0.01, patience=patience, adaptive=adaptive)
    reference = reference_of_advanced(rule)
    assert rates_of_ours(rule, losses) == [reference.step(loss) for loss in losses]


@given(rule=variants, losses=streams(grid | finite | non_finite), cut=st.integers(0, 100))
@example(rule=Algorithm2(window=2), losses=[-1e308] * 4 + [1e308] * 4, cut=3)
@example(rule=Advanced(window=2), losses=[1e308] * 4 + [-1e308] * 12, cut=9)
def test_resuming_from_a_checkpoint_changes_nothing(rule, losses, cut):
    contracts.check_resume_changes_nothing(rule, losses, cut)


@settings(max_examples=100)
@given(
    rule=variants,
    losses=adversarial,
    bad=st.lists(st.tuples(st.integers(0, 200), non_finite), min_size=1, max_size=10),
)
def test_non_finite_losses_are_survived_and_forgotten(rule, losses, bad):
    contracts.check_non_finite_losses_are_forgotten(rule, losses, bad)


@settings(max_examples=200)
@given(rule=variants, losses=adversarial)
def test_the_rate_is_finite_and_positive(rule, losses):
    assert all(0 < scale < math.inf for scale in scales(run(rule, losses)))


@given(rule=variants, losses=adversarial)
def test_update_is_a_pure_function(rule, losses):
    contracts.check_update_is_pure(rule, losses)


@given(rule=variants)
def test_settings_are_values(rule):
    contracts.check_settings_are_values(rule)


@given(rule=variants)
def test_the_first_state_holds_no_setting_but_the_start(rule):
    assert rule.init() == type(rule)(start_scale=rule.start_scale).init()
    assert rule.init().scale == rule.start_scale
    assert rule.needs == ("loss",)


@given(rule=variants, losses=adversarial)
def test_only_a_raise_a_cut_or_a_reset_changes_the_rate(rule, losses):
    for before, after in itertools.pairwise(run(rule, losses)):
        if after.reason not in ("raise", "lower", "reset"):
            assert after.scale == before.scale
            assert after.reason in ("hold", "calibrate")


def test_whole_numbers_as_settings_leave_a_float_rate():
    for kind in (Algorithm2, Advanced, TransformersGreedy):
        rule = kind(patience=0, factor=0.1, min_scale=1, max_scale=2, start_scale=1)
        for losses in ([9, 8, 7, 6], [1, 1, 1, 1]):
            assert all(type(scale) is float for scale in scales(run(rule, losses)))


def test_every_state_that_overflow_leaves_is_strict_json():
    for rule in (Algorithm2(window=2), Advanced(window=2), TransformersGreedy(window=2)):
        for sign in (1, -1):
            for state in run(rule, [sign * 1e308] * 3):
                json.dumps(pack(state), allow_nan=False)


WRONG = [
    ({"factor": 1.0}, ValueError, "factor must lie strictly between 0 and 1, got 1.0"),
    ({"factor": "0.5"}, TypeError, "factor must be a number"),
    ({"start_scale": 0.0}, ValueError, "start_scale must be positive and finite, got 0.0"),
    ({"start_scale": math.inf}, ValueError, "start_scale must be positive and finite, got inf"),
    ({"patience": -1}, ValueError, "patience must be at least 0, got -1; 0 acts on the first"),
    ({"patience": 1.5}, TypeError, "patience must be a whole number, got 1.5"),
    ({"window": -1}, ValueError, "window must be at least 0, got -1; 0 does not smooth"),
    ({"min_scale": 0.0}, ValueError, "min_scale must be positive and finite, got 0.0"),
    ({"max_scale": math.nan}, ValueError, "max_scale must be positive and finite, got nan"),
    ({"min_scale": 2.0}, ValueError, r"min_scale \(2\) is above max_scale \(1\); lower min_scale"),
    ({"spike": 1}, TypeError, "spike must be True or False, got 1"),
    ({"adaptive": None}, TypeError, "adaptive must be True or False, got None"),
    ({"threshold_mode": "rel"}, ValueError, 'must be "relative" or "absolute", got \'rel\''),
    ({"threshold_mode": "relative", "threshold": 1.0}, ValueError, r"threshold must lie in \[0, 1"),
    ({"threshold_mode": "absolute", "threshold": -1.0}, ValueError, "finite and at least 0, got"),
    ({"warmup": -1}, ValueError, "warmup must be at least 0, got -1; 0 turns it off"),
    ({"cooldown": -1}, ValueError, "cooldown must be at least 0, got -1; 0 turns it off"),
    ({"eps": -1e-8}, ValueError, "eps must be finite and at least 0, got -1e-08"),
    ({"reset_after": 0}, ValueError, "reset_after must be at least 1, got 0; None turns it off"),
    ({"mode": "sideways"}, ValueError, 'mode must be "min" or "max"'),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_a_wrong_setting_is_named_with_its_rule_its_value_and_the_cure(wrong, error, message):
    kinds = [
        kind
        for kind in (Algorithm1, Algorithm2, Advanced, TransformersGreedy)
        if set(wrong) <= set(kind.__dataclass_fields__)
    ]
    assert kinds
    for kind in kinds:
        with pytest.raises(error, match=message):
            kind(**wrong)


FAULTS = {
    "a start below the floor can only rise": (
        {"start_scale": 5e-5}, [10.0] * 50, 5e-5 / 0.95
    ),
    "the first observation raises": ({"factor": 0.5}, [123.0], 0.2),
    "the best is not seen in cooldown": (
        {"factor": 0.5, "cooldown": 3, "min_scale": 1e-6}, [5.0, 10.0, 1.0, 1.0, 1.0, 4.0], 0.2
    ),
    "a worse negative loss raises": (
        {"threshold_mode": "relative", "threshold": 0.01, "factor": 0.5, "max_scale": 100.0},
        [-100 * 0.991**step for step in range(10)], 100.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_published_faults_are_reproduced(fault):
    changed, losses, rate = FAULTS[fault]
    rule = TransformersGreedy(**({"patience": 0, "start_scale": 0.1} | changed))
    assert run(rule, losses)[-1].scale == pytest.approx(rate, rel=1e-12)
