import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim, zeros
from torch.optim import lr_scheduler as counterparts
from transformers import optimization as hf

from contracts import json_round_trip, run, scales
from lrpilot.schedules import (
    WSD,
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSqrt,
    Linear,
    OneCycle,
    OpenLoop,
    Polynomial,
    StepDecay,
)
from lrpilot.schedules.openloop import between

HORIZONS = (1, 7, 100, 1000)
BASE_LR = 0.1
every_horizon = pytest.mark.parametrize("T", HORIZONS)

shares = st.floats(0, 1)
open_shares = st.floats(1e-3, 1, exclude_max=True)
SHAPES = {
    "constant": st.builds(Constant),
    "linear": st.builds(Linear, end_scale=shares),
    "polynomial": st.builds(Polynomial, power=st.floats(0.1, 5), end_scale=shares),
    "cosine": st.builds(Cosine, end_scale=shares),
    "restarts": st.builds(CosineRestarts, cycles=st.integers(1, 30), end_scale=shares),
    "steps": st.builds(
        StepDecay,
        factor=open_shares,
        milestones=st.lists(shares, max_size=4).map(sorted).map(tuple),
    ),
    "exponential": st.builds(Exponential, end_scale=open_shares),
    "inverse sqrt": st.builds(InverseSqrt, timescale=open_shares),
    "one cycle": st.builds(OneCycle, peak=open_shares, start_scale=shares, end_scale=shares),
    "wsd": st.builds(
        WSD,
        warmup=st.floats(0, 0.5),
        decay=st.floats(0.01, 0.5),
        start_scale=shares,
        shape=st.builds(Linear, end_scale=shares),
    ),
}


def sqrt_decay(progress: float) -> float:
    return 1 - math.sqrt(progress)


def torch_scales(
    make: Callable[[optim.Optimizer], counterparts.LRScheduler], steps: int
) -> list[float]:
    """The counterpart's scales at step 0, 1, ..., ``steps``."""
    optimizer = optim.SGD([nn.Parameter(zeros(1))], lr=BASE_LR)
    counterpart = make(optimizer)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        counterpart.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return [rate / BASE_LR for rate in rates]


def our_scales(shape, T: int, steps: int) -> list[float]:
    return scales(run(OpenLoop(shape, T), [math.nan] * steps))


def assert_equal(ours: list[float], theirs: list[float], tolerance: float = 1e-12) -> None:
    """Absolute too: a cosine's last values are differences of nearly equal ones."""
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@every_horizon
def test_any_function_is_a_shape_as_in_lambda_lr(T):
    def shape(progress):
        return 1 / (1 + progress**2)

    theirs = torch_scales(lambda o: counterparts.LambdaLR(o, lambda t: shape(t / T)), T)
    assert_equal(our_scales(shape, T, T), theirs)


@every_horizon
@pytest.mark.parametrize("marks", [(0.5, 0.75), (0.3, 0.6, 0.9), (1.0,), ()])
def test_step_decay_equals_multi_step_lr(T, marks):
    steps = [math.ceil(mark * T - 1e-9) for mark in marks]
    theirs = torch_scales(lambda o: counterparts.MultiStepLR(o, steps, gamma=0.3), T)
    assert_equal(our_scales(StepDecay(factor=0.3, milestones=marks), T, T), theirs)


@every_horizon
@pytest.mark.parametrize("size", [1, 3, 10])
def test_step_decay_at_equal_distances_equals_step_lr(T, size):
    milestones = tuple(t / T for t in range(size, T + 1, size))
    theirs = torch_scales(lambda o: counterparts.StepLR(o, size, gamma=0.9), T)
    assert_equal(our_scales(StepDecay(factor=0.9, milestones=milestones), T, T), theirs)


@every_horizon
def test_exponential_equals_exponential_lr(T):
    theirs = torch_scales(lambda o: counterparts.ExponentialLR(o, 0.02 ** (1 / T)), T)
    assert_equal(our_scales(Exponential(end_scale=0.02), T, T), theirs)


@every_horizon
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
def test_polynomial_equals_polynomial_lr(T, power):
    theirs = torch_scales(lambda o: counterparts.PolynomialLR(o, T, power), T)
    assert_equal(our_scales(Polynomial(power=power), T, T), theirs)


@every_horizon
def test_polynomial_with_an_end_equals_that_of_transformers(T):
    theirs = torch_scales(
        lambda o: hf.get_polynomial_decay_schedule_with_warmup(o, 0, T, 0.02 * BASE_LR, 1.5), T + 3
    )
    assert_equal(our_scales(Polynomial(power=1.5, end_scale=0.02), T, T + 3), theirs)


@every_horizon
def test_linear_equals_that_of_transformers_without_warmup(T):
    theirs = torch_scales(lambda o: hf.get_linear_schedule_with_warmup(o, 0, T), T + 3)
    assert_equal(our_scales(Linear(), T, T + 3), theirs)


@every_horizon
@pytest.mark.parametrize("end_scale", [0.0, 0.1])
def test_cosine_equals_cosine_annealing_lr(T, end_scale):
    theirs = torch_scales(lambda o: counterparts.CosineAnnealingLR(o, T, end_scale * BASE_LR), T)
    assert_equal(our_scales(Cosine(end_scale=end_scale), T, T), theirs)


@every_horizon
def test_cosine_equals_that_of_transformers_without_warmup(T):
    theirs = torch_scales(lambda o: hf.get_cosine_schedule_with_warmup(o, 0, T), T)
    assert_equal(our_scales(Cosine(), T, T), theirs)


@pytest.mark.parametrize(("T", "cycles"), [(1, 1), (7, 7), (7, 1), (100, 4), (1000, 8)])
def test_restarts_equal_cosine_annealing_warm_restarts_up_to_the_last_end(T, cycles):
    theirs = torch_scales(
        lambda o: counterparts.CosineAnnealingWarmRestarts(o, T // cycles, 1, 0.1 * BASE_LR), T
    )
    ours = our_scales(CosineRestarts(cycles=cycles, end_scale=0.1), T, T)
    assert_equal(ours[:T], theirs[:T])
    assert theirs[T] == pytest.approx(1.0)  # torch starts one more cycle
    assert ours[T] == pytest.approx(0.1)


@pytest.mark.parametrize(("T", "cycles"), [(1, 1), (7, 7), (100, 4), (1000, 8), (64, 3)])
def test_restarts_equal_those_of_transformers_without_warmup(T, cycles):
    theirs = torch_scales(
        lambda o: hf.get_cosine_with_hard_restarts_schedule_with_warmup(o, 0, T, cycles), T + 3
    )
    assert_equal(our_scales(CosineRestarts(cycles=cycles), T, T + 3), theirs)


@pytest.mark.parametrize("cycles", [3, 6, 7, 10, 11, 13, 49])
@pytest.mark.parametrize("length", [1, 3, 7, 10, 29, 100])
def test_every_cycle_of_an_awkward_number_is_the_same_cosine(cycles, length):
    T = cycles * length
    ours = our_scales(CosineRestarts(cycles=cycles), T, T)
    one = our_scales(Cosine(), length, length - 1)
    assert_equal(ours, [*one * cycles, 0.0], tolerance=1e-10)


@every_horizon
@pytest.mark.parametrize("timescale", [0.1, 0.37, 1.0])
def test_inverse_sqrt_equals_that_of_transformers_without_warmup(T, timescale):
    theirs = torch_scales(lambda o: hf.get_inverse_sqrt_schedule(o, 0, timescale * T), T)
    assert_equal(our_scales(InverseSqrt(timescale=timescale), T, T), theirs)
    assert InverseSqrt(timescale=timescale)(timescale) == pytest.approx(1 / math.sqrt(2))


@pytest.mark.parametrize("T", [10, 100, 1000])
@pytest.mark.parametrize("peak", [0.3, 0.5])
def test_one_cycle_equals_that_of_torch_with_one_more_step(T, peak):
    start, end = 1 / 20, 1 / 20e3

    def one_cycle(optimizer):
        # Torch puts its peak at pct_start of T + 1 steps, less one; ours is at a share of T.
        return counterparts.OneCycleLR(
            optimizer,
            BASE_LR,
            total_steps=T + 1,
            pct_start=(peak * T + 1) / (T + 1),
            cycle_momentum=False,
            div_factor=20,
            final_div_factor=1e3,
        )

    shape = OneCycle(peak=peak, start_scale=start, end_scale=end)
    assert_equal(our_scales(shape, T, T), torch_scales(one_cycle, T))


@pytest.mark.parametrize("decay_type", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize(
    ("T", "warmup", "decay"), [(1, 0, 1), (7, 2, 3), (100, 5, 20), (1000, 50, 333)]
)
def test_wsd_from_zero_equals_that_of_transformers(T, warmup, decay, decay_type):
    shape = {"linear": Linear(), "cosine": Cosine(), "1-sqrt": sqrt_decay}[decay_type]
    theirs = torch_scales(
        lambda o: hf.get_wsd_schedule(
            o, warmup, decay, num_training_steps=T, decay_type=decay_type
        ),
        T + 3,
    )
    ours = our_scales(
        WSD(warmup=warmup / T, decay=decay / T, start_scale=0.0, shape=shape), T, T + 3
    )
    assert_equal(ours, theirs)


@given(T=st.integers(1, 300), data=st.data())
def test_a_steep_decay_starts_from_exactly_1_and_never_rises(T, data):
    decay = data.draw(st.integers(1, T))
    scale = our_scales(WSD(warmup=0.0, decay=decay / T, shape=sqrt_decay), T, T)
    assert scale[: T - decay + 1] == [1.0] * (T - decay + 1)
    assert scale == sorted(scale, reverse=True)


def test_the_first_step_of_wsd_learns_something():
    assert OpenLoop(WSD(warmup=0.1), 100).init().scale == pytest.approx(0.01)
    assert OpenLoop(WSD(warmup=0.1, start_scale=0.0), 100).init().scale == 0
    assert OpenLoop(WSD(warmup=0.0), 100).init().scale == 1


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data(), T=st.integers(1, 50))
def test_past_the_horizon_the_last_value_holds(name, data, T):
    shape = data.draw(SHAPES[name])
    after = our_scales(shape, T, T + 5)[T:]
    assert after == [shape(1.0)] * 6


@pytest.mark.parametrize("name", SHAPES)
@given(data=st.data(), progress=shares)
def test_a_shape_stays_between_its_ends_and_1(name, data, progress):
    shape = data.draw(SHAPES[name])
    ends = [getattr(shape, end) for end in ("start_scale", "end_scale") if hasattr(shape, end)]
    ends += [shape.shape.end_scale] if isinstance(shape, WSD) else [shape(1.0)]
    assert min(ends) <= shape(progress) <= 1


@pytest.mark.parametrize(
    ("shape", "first", "last"),
    [
        (Constant(), 1.0, 1.0),
        (Linear(end_scale=0.1), 1.0, 0.1),
        (Cosine(end_scale=0.1), 1.0, 0.1),
        (Polynomial(end_scale=0.1), 1.0, 0.1),
        (CosineRestarts(end_scale=0.1), 1.0, 0.1),
        (Exponential(end_scale=0.1), 1.0, 0.1),
        (StepDecay(factor=0.1, milestones=(0.5,)), 1.0, 0.1),
        (OneCycle(start_scale=1e-20, end_scale=1e-30), 1e-20, 1e-30),
        (WSD(warmup=0.1, start_scale=1e-20), 1e-20, 0.0),
    ],
)
def test_a_shape_meets_its_ends_exactly(shape, first, last):
    assert (shape(0.0), shape(1.0)) == (first, last)


@settings(max_examples=300)
@given(low=shares, share=shares | st.just(1.0))
def test_between_never_leaves_its_two_ends(low, share):
    assert low <= between(low, 1.0, share) <= 1.0


def test_a_shape_may_return_any_number():
    schedule = OpenLoop(lambda progress: np.interp(progress, [0, 1], [1, 0]), total_steps=4)
    assert type(schedule.init().scale) is float
    assert type(OpenLoop(lambda progress: 1, total_steps=4).init().scale) is float


def test_the_horizon_may_change_on_resume():
    state = run(OpenLoop(Linear(), 10), [math.nan] * 5)[-1]
    longer = OpenLoop(Linear(), 20)
    resumed = run(longer, [math.nan], json_round_trip(longer, state))
    assert scales(resumed) == [0.5, 0.7]


@pytest.mark.parametrize(
    ("shape", "setting", "value"),
    [
        (Linear, "end_scale", -0.1),
        (Cosine, "end_scale", 1.5),
        (Cosine, "end_scale", math.nan),
        (Polynomial, "power", 0.0),
        (Polynomial, "power", math.inf),
        (Polynomial, "end_scale", 2.0),
        (CosineRestarts, "cycles", 0),
        (CosineRestarts, "end_scale", -1.0),
        (StepDecay, "factor", 1.0),
        (StepDecay, "milestones", (0.5, 0.25)),
        (Exponential, "end_scale", 0.0),
        (InverseSqrt, "timescale", 0.0),
        (InverseSqrt, "timescale", 1.5),
        (OneCycle, "peak", 0.0),
        (OneCycle, "peak", 1.0),
        (OneCycle, "start_scale", -0.5),
        (OneCycle, "end_scale", 1.5),
        (WSD, "warmup", -0.5),
        (WSD, "warmup", 0.9),
        (WSD, "decay", 0.0),
        (WSD, "start_scale", 2.0),
    ],
)
def test_a_bad_setting_is_refused_by_name_and_value(shape, setting, value):
    with pytest.raises(ValueError, match=setting) as refusal:
        shape(**{setting: value})
    assert (f"{value:g}" if isinstance(value, float) else str(value)) in str(refusal.value)


def test_a_milestone_outside_the_horizon_is_refused():
    with pytest.raises(ValueError, match=r"milestone .* got 30"):
        StepDecay(milestones=(0.5, 30))


@pytest.mark.parametrize(("total_steps", "error"), [(0, ValueError), (10.0, TypeError)])
def test_the_horizon_is_a_positive_whole_number(total_steps, error):
    with pytest.raises(error, match=f"total_steps .*{total_steps}"):
        OpenLoop(Constant(), total_steps)
