import math

import pytest

from lrpilot.schedules import Constant, OpenLoop, Plateau, pack, unpack
from lrpilot.schedules.greedy import ThresholdGreedy

GREEDY = ThresholdGreedy(window=2)
SOUND = pack(GREEDY.init())


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        [],
        None,
        pack(Plateau().init()),
        pack(OpenLoop(Constant(), total_steps=3).init()),
        SOUND | {"patience": 3},
        {name: value for name, value in SOUND.items() if name != "best"},
    ],
)
def test_a_state_of_something_else_is_refused_by_name(foreign):
    with pytest.raises(ValueError, match="not a state of ThresholdGreedy"):
        unpack(GREEDY, foreign)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", None),
        ("scale", math.nan),
        ("scale", math.inf),
        ("scale", "1.0"),
        ("scale", True),
        ("scale", [1.0]),
        ("best", math.nan),
        ("best", "low"),
        ("reason", 1),
        ("reason", None),
        ("window", 1.0),
        ("window", None),
        ("window", [1.0, math.inf]),
        ("window", [[1.0]]),
        ("good", {}),
    ],
)
def test_a_damaged_state_is_refused_by_field(name, value):
    with pytest.raises(ValueError, match=f"damaged: ThresholdGreedy.{name} is"):
        unpack(GREEDY, SOUND | {name: value})


def test_a_packed_state_shares_nothing_with_the_state():
    state = GREEDY.init()._replace(window=(1.0, 2.0))
    packed = pack(state)
    packed["window"].append(3.0)
    assert state.window == (1.0, 2.0)
    assert unpack(GREEDY, pack(state)) == state


@pytest.mark.parametrize(
    ("field", "value"), [("scale", -1.0), ("good", 1.5), ("left", True), ("window", [None])]
)
def test_a_value_that_no_state_has_is_damage(field, value):
    data = {**pack(ThresholdGreedy().init()), field: value}
    with pytest.raises(ValueError, match=rf"damaged: ThresholdGreedy\.{field} is"):
        unpack(ThresholdGreedy(), data)
