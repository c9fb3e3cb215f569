"""Distilling: the rule that a policy comes to, and an honest account of what is lost."""

import json
import math

import numpy as np
import pytest
from typer.testing import CliRunner

from bowls import Untold
from lrpilot.bench.held_out import ratios
from lrpilot.cli import app
from lrpilot.learning import distil as module
from lrpilot.learning.distil import (
    coordinate,
    distil,
    evolve,
    kind_of,
    schedule_at,
    setting,
    validated,
)
from lrpilot.learning.fitting.candidates import SPACE, name_of
from lrpilot.learning.playing import under_schedules
from lrpilot.learning.validation import validate
from lrpilot.schedules import Signal, load_policy, named_schedule
from policies import random_policy


class Valleys(Untold):
    """Quadratics with a floor of noise: only a rate that falls to nothing gets below it."""

    total_steps = 80

    def __init__(self, rng, copies):
        self.x = np.tile(rng.uniform(1, 2, 4), copies)
        self.noise = np.tile(rng.normal(size=(self.total_steps, 4)), copies)
        self.count, self.steps = len(self.x), 0

    def step(self, scales):
        loss = self.x**2
        rate = np.minimum(0.3 * scales, 1.0)
        self.x = self.x - rate * (self.x + self.noise[self.steps])
        self.steps += 1
        return loss

    def measure(self):
        return self.x**2 + 0.1  # no ratio is so large that it would be clipped


@pytest.fixture
def valleys(monkeypatch):
    """Fits to and validates on valleys, which takes no time."""
    monkeypatch.setattr(module, "STACKS", {"nmf": Valleys, "net": Valleys})
    for where in (module.__name__, "lrpilot.learning.validation"):
        monkeypatch.setattr(
            f"{where}.validation_draw",
            lambda kind, number: (
                lambda rng, copies: Valleys(np.random.default_rng([number, 9]), copies)
            ),
        )


def fitted(generations=3, seed=0, policy=None):
    return distil(
        policy or random_policy(),
        kind="net",
        generations=generations,
        seed=seed,
        report=lambda one, seconds: None,
    )


def test_equal_seeds_and_generations_have_equal_answers(valleys):
    one, other, another = fitted(), fitted(), fitted(seed=1)
    assert one.schedule == other.schedule
    assert one.lines == other.lines
    assert one.schedule != another.schedule


def test_the_fit_finds_that_noise_asks_for_an_anneal(valleys):
    fit = evolve(random_policy(), "net", seed=0)
    gaps = [next(fit) for _ in range(25)]
    assert gaps[-1].gap < gaps[0].gap
    anneal = float(gaps[-1].schedule.partition("anneal=")[2])
    assert anneal > 0.4


def test_what_is_stated_of_the_policy_is_what_its_validation_says(valleys):
    policy = random_policy()
    found = fitted(policy=policy)
    base, ours, rule, shipped = found.lines
    assert ours.gain == pytest.approx(validate(policy, "net").gain)
    assert (base.gain, base.schedule) == (0.0, policy.base)
    assert (rule.schedule, shipped.schedule) == (found.schedule, "greedy-cooldown")
    assert found.loss == pytest.approx(rule.gain - ours.gain)
    assert found.interval[0] < found.loss < found.interval[1]


@pytest.mark.parametrize("policy", ["nmf", "net"])
def test_on_real_problems_the_policy_meets_the_same_ones_as_in_its_validation(policy, monkeypatch):
    for where in (module.__name__, "lrpilot.learning.validation"):
        monkeypatch.setattr(f"{where}.VALIDATION_STACKS", {policy: 2})
    loaded = load_policy(policy)
    finals = validated(loaded, policy, "greedy:anneal=0.5")
    base, ours, *_ = finals.values()
    gains = [ratios(a, b, 3.0).mean() for a, b in zip(ours, base, strict=True)]
    assert np.mean(gains) == pytest.approx(validate(loaded, policy).gain, abs=1e-6)


def test_a_rule_in_a_stack_decides_as_it_does_alone():
    schedule = named_schedule("greedy:window=3,anneal=0.3", Valleys.total_steps)
    runs = Valleys(np.random.default_rng(0), 2)
    finals = under_schedules(runs, [schedule] * runs.count).reshape(-1)
    alone, state = Valleys(np.random.default_rng(0), 1), schedule.init()
    for _ in range(alone.total_steps):
        losses = alone.step(np.full(4, state.scale))
        state = schedule.update(state, Signal(float(losses[0])))
    assert finals[0] == pytest.approx(math.log(alone.measure()[0]))
    np.testing.assert_array_equal(finals[:4], finals[4:])


def test_a_run_that_diverges_counts_as_the_worst_and_no_more():
    found = ratios(np.array([np.inf, np.inf, 0.0, 9.0]), np.array([0.0, np.inf, np.inf, 0.0]), 3.0)
    np.testing.assert_array_equal(found, [3.0, 0.0, -3.0, 3.0])


@pytest.mark.parametrize("name", SPACE)
def test_every_setting_has_its_whole_range_and_comes_back(name):
    assert setting(name, -1.0) == min(SPACE[name])
    assert setting(name, 2.0) == max(SPACE[name])
    for value in SPACE[name]:
        assert setting(name, coordinate(name, value)) == pytest.approx(value)


def test_every_point_is_a_schedule_that_can_be_made():
    for point in np.random.default_rng(0).uniform(-0.2, 1.2, (50, len(SPACE))):
        named_schedule(schedule_at(point), 200)
    assert name_of({"factor": 0.5, "anneal": 0.0}) == "greedy:factor=0.5"


def test_a_policy_that_does_not_say_what_it_is_for_is_asked():
    with pytest.raises(ValueError, match="give --kind, one of nmf, net"):
        kind_of(random_policy(), None)
    with pytest.raises(ValueError, match="did you mean 'net'"):
        kind_of(random_policy(), "nets")
    assert kind_of(load_policy("nmf"), None) == "nmf"


def test_the_command_prints_the_name_to_use_and_what_is_lost(valleys):
    command = ["distil", "nmf", "--generations", "2"]
    found = CliRunner().invoke(app, [*command, "--json"])
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    assert answer["generations"] == 2
    assert "generation 2" in found.stderr
    text = CliRunner().invoke(app, command).stdout
    assert answer["schedule"] in text.splitlines()
    assert "what the policy leaves" in text


def test_a_policy_that_is_not_there_is_one_line():
    found = CliRunner().invoke(app, ["distil", "nmff"])
    assert (found.exit_code, "did you mean 'nmf'" in found.stderr) == (2, True)
