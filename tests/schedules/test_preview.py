import math

import pytest

from contracts import run, scales
from lrpilot.schedules import NAMED_SCHEDULES, Constant, Cosine, OpenLoop, Plateau, named_schedule
from lrpilot.schedules.durations import epochs, tokens
from lrpilot.schedules.phases import cooldown, phase, warmup
from lrpilot.schedules.preview import lr_at, preview


@pytest.mark.parametrize("name", NAMED_SCHEDULES)
def test_a_preview_is_what_training_will_see(name):
    schedule = named_schedule(name, total_steps=20)
    if not schedule.needs:
        rates = preview(schedule, 25)
        assert rates == scales(run(schedule, [1.0] * 24))
        assert [lr_at(schedule, t, 0.5) for t in (0, 7, 24)] == [0.5 * rates[t] for t in (0, 7, 24)]


def test_a_preview_counts_what_a_step_consumes():
    plan = (warmup(tokens(20), 0.0) >> Constant() >> cooldown(0.4)).over(tokens(50))
    assert preview(plan, 7, tokens=10) == [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    assert lr_at(plan, 4, base_lr=0.1, tokens=10) == 0.05


def test_a_unit_that_is_counted_must_be_given():
    plan = warmup(tokens(20)) >> phase(Cosine(), epochs(3))
    with pytest.raises(ValueError, match="counts tokens; say how much a step consumes"):
        preview(plan, 5, epochs=0.1)
    with pytest.raises(ValueError, match="counts epochs"):
        lr_at(plan, 5, 0.1, tokens=4)


def test_the_part_that_the_loss_decides_is_named():
    with pytest.raises(ValueError, match=r"^phase 2 of 3, Plateau\(.*\), decides from the loss"):
        preview(warmup(5) >> Plateau() >> cooldown(5), 20)
    with pytest.raises(ValueError, match=r"^Plateau\(.*\) decides from the loss"):
        lr_at(Plateau(), 20, 0.1)


def test_a_count_of_steps_is_checked():
    cosine = OpenLoop(Cosine(), 10)
    with pytest.raises(ValueError, match="n must be at least 1"):
        preview(cosine, 0)
    with pytest.raises(ValueError, match="t must be at least 0"):
        lr_at(cosine, -1, 0.1)
    with pytest.raises(TypeError, match="base_lr must be a number"):
        lr_at(cosine, 0, "0.1")


def test_a_shape_in_place_of_a_schedule_is_refused_with_the_cure():
    with pytest.raises(TypeError, match=r"such as OpenLoop\(Cosine\(\).*got Cosine"):
        preview(Cosine(), 3)


@pytest.mark.parametrize("base_lr", [-1.0, math.nan, math.inf])
def test_an_impossible_base_rate_is_refused(base_lr):
    with pytest.raises(ValueError, match="base_lr must be finite and not negative"):
        lr_at(OpenLoop(Cosine(), 4), 1, base_lr)
