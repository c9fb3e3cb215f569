import pytest

from lrpilot.schedules import NAMED_SCHEDULES, named_schedule


@pytest.mark.parametrize("name", NAMED_SCHEDULES)
@pytest.mark.parametrize("total_steps", [1, 7, 1000])
def test_every_name_makes_a_schedule_that_starts_within_the_base_rate(name, total_steps):
    assert 0 < named_schedule(name, total_steps).init().scale <= 1


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="'cosin'; did you mean 'cosine'"):
        named_schedule("cosin", total_steps=10)


def test_a_name_like_no_other_is_answered_with_all():
    with pytest.raises(ValueError, match=r"'zzz' \(known: constant, .*greedy-threshold, .*\)"):
        named_schedule("zzz", total_steps=10)


def test_absolute_bounds_are_those_of_the_base_rate():
    greedy = named_schedule("transformers-greedy", 100, base_lr=0.1)
    assert (greedy.min_scale, greedy.max_scale) == pytest.approx((0.01, 10.0))
