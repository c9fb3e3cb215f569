import math

import pytest

from lrpilot.schedules import NAMED_SCHEDULES, Greedy, cooldown, load_policy, named_schedule


@pytest.mark.parametrize("name", NAMED_SCHEDULES)
@pytest.mark.parametrize("total_steps", [1, 7, 1000])
def test_every_name_makes_a_schedule_that_starts_within_the_base_rate(name, total_steps):
    # A policy decides before the first step; that of factorisations may raise, within the bound.
    most = math.exp(load_policy("nmf").action.size) if name == "learned:nmf" else 1
    assert 0 < named_schedule(name, total_steps).init().scale <= most


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="'cosin'; did you mean 'cosine'"):
        named_schedule("cosin", total_steps=10)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError, match=r"'zzz' \(known: constant, .*greedy-threshold, .*\)"):
        named_schedule("zzz", total_steps=10)


def test_absolute_bounds_are_those_of_the_base_rate():
    greedy = named_schedule("transformers-greedy", 100, base_lr=0.1)
    assert (greedy.min_scale, greedy.max_scale) == pytest.approx((0.01, 10.0))


def test_settings_of_greedy_follow_its_name():
    found = named_schedule("greedy:factor=0.5, window=5,max_scale=100", 100)
    assert found == Greedy(factor=0.5, window=5, max_scale=100.0)


def test_a_greedy_that_anneals_ends_in_a_cooldown():
    found = named_schedule("greedy:patience=1,anneal=0.3", 200)
    assert found == (Greedy(patience=1) >> cooldown(0.3)).over(200)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("greedy:facter=0.5", "'facter'; did you mean 'factor'"),
        ("greedy:factor", "name=value, such as factor=0.5; got 'factor'"),
        ("greedy:", "name=value"),
        ("greedy:window=5.5", "window must be a whole number, got '5.5'"),
        ("greedy:factor=2", "factor must lie strictly between 0 and 1"),
        ("greedy:anneal=1.5", "1.5"),
        ("cosine:factor=0.5", "unknown schedule|schedule"),
    ],
)
def test_a_setting_that_is_none_is_answered_with_the_rule(name, told):
    with pytest.raises((ValueError, TypeError), match=told):
        named_schedule(name, 100)
