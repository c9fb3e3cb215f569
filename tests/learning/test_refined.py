"""What Defazio et al. (2023) prove and show of refined schedules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.learning.refined import Refined, medians, refined, refined_from
from lrpilot.schedules import Linear, OpenLoop, Signal

norm_lists = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=60)
kinds = st.sampled_from(["sgd", "adam"])


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("count", [2, 7, 100])
def test_constant_norms_give_linear_decay(kind, count):
    shape = refined([0.37] * count, kind=kind)
    assert shape.scales == tuple((count - at) / count for at in range(count))
    for step in range(count + 1):
        assert shape(step / count) == pytest.approx(Linear()(step / count), abs=1e-12)
    assert shape(1.0) == 0.0


@given(norm_lists, kinds, st.floats(1e-6, 1e6))
def test_the_unit_of_the_norms_does_not_matter(norms, kind, unit):
    scaled = refined([norm * unit for norm in norms], kind=kind)
    assert scaled.scales == pytest.approx(refined(norms, kind=kind).scales)


@given(norm_lists, kinds)
def test_the_largest_scale_is_1_and_none_is_outside(norms, kind):
    scales = refined(norms, kind=kind).scales
    assert max(scales) == 1.0
    assert all(0 <= scale <= 1 for scale in scales)


@given(norm_lists, kinds)
def test_it_is_the_formula(norms, kind):
    w = [1 / norm**2 if kind == "sgd" else 1 / norm for norm in norms]
    rates = [w[t] * math.fsum(w[t:]) for t in range(len(w))]
    expected = [rate / max(rates) for rate in rates]
    assert refined(norms, kind=kind, window=1).scales == pytest.approx(expected)


def test_norms_that_fall_warm_up_and_norms_that_rise_decay_faster_than_linearly():
    count = 50
    falling = refined([1 + 9 * math.exp(-at / 5) for at in range(count)], window=1).scales
    assert falling[0] < 0.1
    assert 5 < falling.index(1.0) < 25
    rising = refined([1 + at / count for at in range(count)], window=1).scales
    assert rising[0] == 1.0
    assert all(rising[at] < 1 - at / count for at in range(1, count))


def test_a_spike_in_the_norms_is_filtered():
    norms = [1.0] * 100
    norms[40] = 1000.0
    assert refined(norms).scales == refined([1.0] * 100).scales
    assert refined(norms, window=1).scales[40] < 1e-4


def test_medians_at_the_ends_are_of_what_there_is():
    assert medians([3.0, 1.0, 2.0], 5) == [2.0, 2.0, 2.0]


def test_it_is_a_schedule_over_any_horizon():
    schedule = OpenLoop(Refined((1.0, 0.5)), 4)
    state, scales = schedule.init(), []
    for _ in range(5):
        scales.append(state.scale)
        state = schedule.update(state, Signal())
    assert scales == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_from_a_log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss,train/grad_norm\n1,4,2.0\n2,3,\n3,2,2.0\n")
    assert refined_from(path, 100) == OpenLoop(Refined((1.0, 0.5)), 100)
    with pytest.raises(ValueError, match="'norm'"):
        refined_from(path, 100, column="norm")
    path.write_text("step,loss\n1,4\n")
    with pytest.raises(ValueError, match=r"no column grad_norm .*it has: step, loss"):
        refined_from(path, 100)


@pytest.mark.parametrize(
    ("norms", "settings", "told"),
    [
        ([1.0], {}, "two or more, got 1"),
        ([1.0, 0.0], {}, "norm 1 is 0.0"),
        ([1.0, math.nan], {}, "norm 1 is nan"),
        ([1.0, 1.0], {"window": 2}, "window must be odd"),
        ([1.0, 1.0], {"kind": "adan"}, "did you mean 'adam'"),
    ],
)
def test_what_has_no_refinement_is_told(norms, settings, told):
    with pytest.raises(ValueError, match=told):
        refined(norms, **settings)
