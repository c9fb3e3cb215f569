import re
from itertools import islice

from lrpilot.learning.fitting.candidates import SPACE, candidates, code_of, settings_of
from lrpilot.schedules import Greedy, cooldown, named_schedule


def test_candidates_are_the_same_whenever_they_are_drawn_and_none_comes_twice():
    drawn = list(islice(candidates(), 200))
    assert drawn == list(islice(candidates(), 200))
    assert len(set(drawn)) == 200


def test_the_line_of_code_makes_the_schedule():
    names = {"Greedy": Greedy, "cooldown": cooldown, "total_steps": 1000}
    for name in islice(candidates(), 50):
        code = re.sub(r"total_steps", "1000", code_of(name))
        assert eval(code, names) == named_schedule(name, 1000)


def test_settings_are_read_back_from_a_name():
    for name in islice(candidates(), 2, 50):
        found = settings_of(name)
        assert set(found) == set(SPACE)
        assert all(found[key] in values for key, values in SPACE.items())
