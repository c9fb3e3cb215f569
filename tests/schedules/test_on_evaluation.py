import math

import pytest

from lrpilot.schedules import OpenLoop, Plateau, RandomRates, Signal
from lrpilot.schedules.on_evaluation import OnEvaluation


def test_only_evaluations_count():
    rule, fed = OnEvaluation(Plateau(patience=1)), Plateau(patience=1)
    state, alone = rule.init(), fed.init()
    for step in range(40):
        evaluation = 1.0 + step if step % 4 == 0 else math.nan
        state = rule.update(state, Signal(loss=-step, evaluation=evaluation))
        if step % 4 == 0:
            alone = fed.update(alone, Signal(evaluation))
        assert state == alone
    assert state.scale < 1


def test_a_shape_is_no_schedule():
    with pytest.raises(TypeError, match="must be a schedule"):
        OnEvaluation(lambda progress: 1.0)


def test_random_rates_are_drawn_once_and_held():
    shape = RandomRates(segments=5, lowest=0.1, seed=3)
    scales = [OpenLoop(shape, 50).scale_at(step) for step in range(50)]
    assert [len(set(scales[k : k + 10])) for k in range(0, 50, 10)] == [1] * 5
    assert len(set(scales)) == 5
    assert all(0.1 <= scale <= 1 for scale in scales)
    assert shape == RandomRates(segments=5, lowest=0.1, seed=3)
    assert RandomRates(seed=4)(0.5) != RandomRates(seed=5)(0.5)
