"""Training within a budget: it learns, goes on where it was killed, and repeats itself."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from bowls import Bowls
from lrpilot.learning import train as training_module
from lrpilot.learning.cma import Plan, as_policy, evolve, layers_of, parameters_of
from lrpilot.learning.distributions import ACTION_OF, BASE_OF
from lrpilot.learning.train import Training, train
from lrpilot.schedules import Learned, load_policy
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import Action

PLAN = Plan(base="linear", action=Action(size=0.8, limit=4.0), population=8, stacks=1, seed=3)


def generations(count, past=()):
    found = evolve(Bowls, PLAN, past)
    return [next(found) for _ in range(count)]


def test_evolution_finds_that_a_rate_is_too_low():
    mean = generations(25)[-1].mean
    layers = layers_of(mean, PLAN)
    seen = np.zeros(len(NAMES))
    seen[3:6] = 3.0  # the loss falls, beyond doubt
    assert np.tanh(seen @ layers.weights[0] + layers.biases[0]) > 0.3


def test_evolution_goes_on_from_its_scores_as_if_never_interrupted():
    whole = generations(6)
    resumed = generations(6, past=[generation.scores for generation in whole[:3]])
    np.testing.assert_array_equal(resumed[-1].mean, whole[-1].mean)
    assert resumed[-1].scores == whole[-1].scores


@pytest.mark.parametrize("hidden", [(), (4,), (3, 2)])
def test_layers_hold_every_parameter_once(hidden):
    flat = np.arange(float(parameters_of(hidden)))
    layers = layers_of(flat, replace(PLAN, hidden=hidden))
    parts = [x.ravel() for pair in zip(*layers, strict=True) for x in pair]
    np.testing.assert_array_equal(np.concatenate(parts), flat)


def test_a_policy_does_not_read_what_it_is_not_to_see():
    plan = replace(PLAN, unseen=("level", "noise"))
    policy = as_policy("blind", np.ones(parameters_of(())), plan, {})
    weights = dict(zip(NAMES, policy.weights[0][:, 0], strict=True))
    assert {name for name, weight in weights.items() if not weight} == {"level", "noise"}
    with pytest.raises(ValueError, match="did you mean 'noise'"):
        replace(PLAN, unseen=("noises",))


@pytest.fixture
def bowls(monkeypatch):
    """Trains on bowls, and validates on them, which takes no time."""
    monkeypatch.setattr(training_module, "STACKS", {"nmf": Bowls, "net": Bowls})
    monkeypatch.setattr(training_module, "WIDE_STACKS", {"nmf": Bowls, "net": Bowls})
    monkeypatch.setattr(training_module, "EXERCISES", {})
    monkeypatch.setattr(
        "lrpilot.learning.validation.validation_draw",
        lambda kind, number: lambda rng, copies: Bowls(np.random.default_rng(number), copies),
    )


def run(path, rounds, **settings):
    """Train for so many rounds in all."""
    found = []

    def report(one):
        found.append(one)
        if one.number >= rounds:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        train(Training(kind="nmf", seconds=60, every=2, **settings), path, report)
    return found


@pytest.mark.parametrize("method", ["cma", "ppo"])
def test_an_interrupted_training_goes_on(bowls, tmp_path, method):
    path = tmp_path / "policy.safetensors"
    first = run(path, 4, method=method)
    then = run(path, 8, method=method)
    assert [one.number for one in first] == [1, 2, 3, 4]
    assert [one.number for one in then] == [5, 6, 7, 8]
    assert then[-1].seconds > first[-1].seconds
    assert min(one.found.gain for one in (*first, *then) if one.found) == then[-1].best


def test_a_policy_of_evolution_is_equal_bit_for_bit_whether_interrupted_or_not(bowls, tmp_path):
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    run(whole, 8)
    run(parts, 3)
    with parts.with_suffix(".progress.jsonl").open("a") as file:
        file.write('{"round": 4, "seco')  # as kill -9 leaves it
    run(parts, 8)
    assert load_policy(whole).fingerprint == load_policy(parts).fingerprint


@pytest.mark.parametrize("method", ["cma", "ppo"])
def test_what_is_trained_beats_the_untrained_policy(bowls, tmp_path, method):
    path = tmp_path / "policy.safetensors"
    rounds = run(path, 12, method=method, hidden=(4,) if method == "ppo" else ())
    assert rounds[-1].best < -0.05
    policy = load_policy(path)
    assert policy.base == BASE_OF["nmf"]
    assert policy.action == ACTION_OF["nmf"]
    assert policy.about["method"] == method
    assert Learned(100, path).init().offset == policy.moved(0.0, policy.act((0.0,) * len(NAMES)))


@pytest.mark.parametrize("method", ["cma", "ppo"])
def test_what_the_runs_do_not_show_gets_no_weight(bowls, tmp_path, monkeypatch, method):
    monkeypatch.setattr(training_module, "UNSEEN_OF", {"nmf": ("alignment",)})
    path = tmp_path / "policy.safetensors"
    run(path, 2, method=method, hidden=(3,))
    weights = load_policy(path).weights[0]
    assert not weights[NAMES.index("alignment")].any()
    assert weights[NAMES.index("trend")].any()


def test_it_stops_early_when_validation_shows_nothing_new(bowls, tmp_path, monkeypatch):
    found = iter([-0.1, *[-0.05] * 20])
    monkeypatch.setattr(
        training_module,
        "validate",
        lambda policy, kind: training_module.Validated(next(found), 0, 0),
    )
    settings = Training(kind="nmf", seconds=60, every=1, patience=3)
    ended = train(settings, tmp_path / "p.safetensors", lambda one: None)
    assert (ended.rounds, ended.gain) == (4, -0.1)
    assert "no better policy" in ended.stopped


def test_if_nothing_better_is_found_the_untrained_policy_is_kept(bowls, tmp_path, monkeypatch):
    worse = training_module.Validated(0.3, 0, 0)
    monkeypatch.setattr(training_module, "validate", lambda policy, kind: worse)
    path = tmp_path / "p.safetensors"
    settings = Training(kind="nmf", seconds=60, every=1, patience=3)
    ended = train(settings, path, lambda one: None)
    assert (ended.rounds, ended.gain) == (3, 0)
    assert not load_policy(path).weights[0].any()


def test_another_training_is_not_written_over(bowls, tmp_path):
    path = tmp_path / "p.safetensors"
    run(path, 2)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another training"):
        train(Training(kind="nmf", seed=1), path, lambda one: None)
    assert path.read_bytes() == before
    run(path, 2, seed=0)
    train(Training(kind="nmf", seed=1, seconds=0.01), path, lambda one: None, fresh=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kind": "nets"}, "did you mean 'net'"),
        ({"kind": "net", "method": "sac"}, "unknown method"),
        ({"kind": "net", "seconds": 0}, "must be positive"),
        ({"kind": "net", "hidden": (0,)}, "at least 1 unit"),
    ],
)
def test_wrong_settings_are_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Training(**settings)


def test_a_policy_must_be_a_safetensors_file(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        train(Training(kind="nmf"), tmp_path / "policy.pt", lambda one: None)


def test_kill_9_loses_no_more_than_a_round(tmp_path):
    """On real problems, through the command line."""
    path = tmp_path / "policy.safetensors"
    command = [sys.executable, "-m", "lrpilot", "train", "nmf"]
    command += ["--method", "cma", "--budget", "400s"]  # without lessons before the first round
    process = subprocess.Popen([*command, "--out", str(path)], stderr=subprocess.PIPE)
    journal = path.with_suffix(".progress.jsonl")
    until = time.monotonic() + 300  # a busy machine is slow
    while time.monotonic() < until and not (
        journal.is_file() and journal.read_text().count("\n") > 2
    ):
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    done = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert len(done) >= 2
    command[-1] = "1s"
    subprocess.run([*command, "--out", str(path)], check=True, capture_output=True)
    lines = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    assert lines[: len(done)] == done
    assert len(lines) > len(done)
    assert load_policy(path).about["trained"] == "nmf"
