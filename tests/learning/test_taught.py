"""Lessons: a student learns what a teacher knows from what runs show, and the same every time."""

import numpy as np
import pytest

from bowls import Bowls
from lrpilot.learning import taught as taught_module
from lrpilot.learning import train as training_module
from lrpilot.learning.distributions import BASE_OF, nmf_exercise
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.playing import under_offsets
from lrpilot.learning.student import Shown, Student
from lrpilot.learning.taught import Exercise, taught
from lrpilot.learning.train import Training, train
from lrpilot.schedules import Policy, load_policy
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import Action

RIGHT = np.log(30)  # a bowl's rate is 30 times too low
SETTINGS = {"base": "linear", "action": Action(size=0.5, limit=4.0), "hidden": (8,), "seed": 1}


def exercise(rng):
    runs = Bowls(rng, 1)
    right = np.full(runs.count, RIGHT)
    return Exercise(runs, right, right)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(taught_module, "FINAL", 200)


def offsets(layers, action):
    """Where runs end up under a student, each (runs,)."""
    policy = Policy(name="x", squash="clip", base="linear", action=action, **layers._asdict())
    episodes = Episodes(Bowls(np.random.default_rng(5), 1), policy.base, policy.action)
    while not episodes.over:
        episodes.act(np.array([policy.act(tuple(seen)) for seen in episodes.observe()]))
    return episodes.offsets


@pytest.mark.parametrize(
    "action", [SETTINGS["action"], Action(kind="anchored", size=4.0, limit=4.0)], ids=str
)
def test_a_student_goes_where_the_teacher_says(action):
    layers = taught(exercise, lessons=3, **(SETTINGS | {"action": action}))
    np.testing.assert_allclose(offsets(layers, action), RIGHT, atol=0.4)


@pytest.mark.parametrize(("low", "high", "ends"), [(1.0, np.inf, 1.0), (-np.inf, -1.0, -1.0)])
def test_of_many_right_offsets_the_nearest_is_taught(low, high, ends):
    def easy(rng):
        runs = Bowls(rng, 1)
        return Exercise(runs, np.full(runs.count, low), np.full(runs.count, high))

    layers = taught(easy, lessons=3, **SETTINGS)
    found = offsets(layers, SETTINGS["action"])
    assert (low - 0.4 < found).all()
    assert (found < high + 0.4).all()
    np.testing.assert_allclose(found, ends, atol=1)


@pytest.mark.parametrize("seed", range(3))
def test_the_teacher_of_factorisations_is_right(seed):
    """Rates that are off end well with the offsets it names, and hardly better with others."""

    def ended(beside):
        runs, low, high = nmf_exercise(np.random.default_rng(seed))
        offsets = np.zeros(runs.count)
        if beside is not None:
            offsets = offsets.clip(low, high) + beside
        return under_offsets(runs, BASE_OF["nmf"], np.tile(offsets, (runs.total_steps, 1))).mean()

    told = ended(0.0)
    assert told < ended(None) - 0.05, "than the rates that are off"
    assert told < min(ended(-2.0), ended(2.0)) + 0.02


def test_lessons_are_the_same_every_time_and_are_reported():
    told = []
    first = taught(exercise, lessons=2, report=told.append, **SETTINGS)
    second = taught(exercise, lessons=2, **SETTINGS)
    assert told == [1, 2]
    for ours, theirs in zip(first.weights, second.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_unseen_gets_no_weight():
    layers = taught(exercise, lessons=1, unseen=["offset", "level"], **SETTINGS)
    weights = dict(zip(NAMES, layers.weights[0], strict=True))
    assert not weights["offset"].any()
    assert not weights["level"].any()
    assert weights["progress"].all()


def test_what_is_unseen_moves_no_action():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(400, len(NAMES)))
    student = Student((4,), 0, ["level"])
    student.fit(Shown(seen, seen[:, NAMES.index("level")]), updates=50, rate=0.03)
    acted = student.act(seen)
    seen[:, NAMES.index("level")] += 5
    np.testing.assert_array_equal(student.act(seen), acted)


def test_a_student_learns_a_line():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(400, len(NAMES)))
    student = Student((), 0)
    student.fit(Shown(seen, 0.3 * seen[:, 2]), updates=600, rate=0.03, batch=64)
    np.testing.assert_allclose(student.act(seen), 0.3 * seen[:, 2], atol=0.02)


def test_training_begins_with_lessons_and_tells_of_them(monkeypatch, tmp_path):
    monkeypatch.setattr(training_module, "EXERCISES", {"net": exercise})
    monkeypatch.setattr(training_module, "LESSONS", 3)
    monkeypatch.setattr(training_module, "WIDE_STACKS", {"net": Bowls})
    monkeypatch.setattr(
        "lrpilot.learning.validation.validation_draw",
        lambda kind, number: lambda rng, copies: Bowls(np.random.default_rng(number), copies),
    )
    told, path = [], tmp_path / "net.safetensors"

    def report(one):
        told.append(one)
        if one.number == 1:
            raise KeyboardInterrupt

    settings = Training(kind="net", method="ppo", hidden=(8,), seconds=600, every=1)
    with pytest.raises(KeyboardInterrupt):
        train(settings, path, report)
    assert [one.lesson for one in told] == [1, 2, 3, 0]
    assert told[-1].best < -0.5, "far ahead of the base after one update"
    assert load_policy(path).about["lessons"] == "3"
    again = []
    train(Training(kind="net", method="ppo", hidden=(8,), seconds=1, every=1), path, again.append)
    assert not any(one.lesson for one in again), "what was learned is in the learner's file"
