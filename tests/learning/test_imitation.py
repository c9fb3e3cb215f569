"""Imitation: what recorded runs saw and did is what a policy would have seen and done."""

import math

import numpy as np
import pytest

from bowls import Bowls
from lrpilot.bench import Outcome, Store
from lrpilot.bench.stages import Method
from lrpilot.learning import jittered as jittered_module
from lrpilot.learning import train as training_module
from lrpilot.learning.cma import Layers, act
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.imitation import (
    Recording,
    Shown,
    best,
    clone,
    decisions,
    imitated,
    recordings,
)
from lrpilot.learning.jittered import COPIES, Recorder, jittered
from lrpilot.learning.past import PastRuns
from lrpilot.learning.ppo import improve
from lrpilot.learning.train import Training, train
from lrpilot.schedules import load_policy
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import Action

ACTION = Action(size=0.5, limit=3.0)


class LongBowls(Bowls):
    total_steps = 80


@pytest.fixture
def bowls(monkeypatch):
    """Jitters, trains and validates on bowls, which takes no time."""
    for module in (training_module, jittered_module):
        monkeypatch.setattr(module, "STACKS", {"nmf": LongBowls, "net": LongBowls})
    monkeypatch.setattr(training_module, "EXERCISES", {})
    monkeypatch.setattr(
        "lrpilot.learning.validation.validation_draw",
        lambda kind, number: lambda rng, copies: LongBowls(np.random.default_rng(number), copies),
    )


@pytest.fixture
def store(bowls, tmp_path):
    path = tmp_path / "jittered.db"
    for stack in range(3):
        PastRuns(path).add(jittered("nmf", stack))
    return path


@pytest.mark.parametrize("kind", ["steps", "anchored"])
@pytest.mark.parametrize("base", ["warmup-linear", "cosine"])
def test_a_recording_shows_what_the_episode_saw_and_did(kind, base):
    action = Action(kind=kind, size=0.5, limit=3.0)
    recorder = Recorder(LongBowls(np.random.default_rng(0), 2))
    episodes, rng = Episodes(recorder, base, action), np.random.default_rng(1)
    seen, taken = [], []
    while not episodes.over:
        seen.append(episodes.observe())
        taken.append(rng.uniform(-1, 1, recorder.count))
        episodes.act(taken[-1])
    losses, scales = np.array(recorder.losses), np.array(recorder.scales)
    for at in range(recorder.count):
        run = Recording("a", 0.1, losses[:, at].tolist(), (0.1 * scales[:, at]).tolist(), 1.0)
        found = decisions(run, base, action)
        np.testing.assert_allclose(found.seen, [one[at] for one in seen], atol=1e-6)
        np.testing.assert_allclose(found.actions, [one[at] for one in taken], atol=1e-6)


def test_a_schedule_that_leaves_the_base_is_an_action_that_leaves_it():
    rates = [0.1] * 100
    found = decisions(Recording("a", 0.1, [1.0] * 100, rates, 1.0), "linear", ACTION)
    assert (found.actions > 0).all()  # a constant rate rises against a base that falls
    assert np.isfinite(found.seen).all()
    annealed = decisions(Recording("a", 0.1, [1.0] * 100, [0.0] * 100, 1.0), "linear", ACTION)
    assert annealed.actions[:2].tolist() == [-1, 0]  # at the limit from the first window on
    assert annealed.seen[1][NAMES.index("offset")] == -1


def test_the_best_runs_of_each_group_are_chosen_and_none_that_was_lost():
    finals = [float(at) for at in range(20)]
    runs = [Recording("many", 1.0, [], [], final) for final in finals]
    runs += [Recording("few", 1.0, [], [], 0.0)] * 4
    runs += [Recording("lost", 1.0, [], [], math.inf)] * 9
    assert [(run.group, run.final) for run in best(runs)] == [("many", at) for at in (0, 1, 2)]


def test_a_network_is_cloned():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(400, len(NAMES)))
    actions = np.clip(0.5 * seen[:, 3] - 0.2, -1, 1)
    for hidden in [(), (8,)]:
        layers = clone(Shown(seen, actions), hidden, seed=0)
        assert len(layers.weights[0]) == len(NAMES)
        x = seen
        for weight, bias in zip(layers.weights[:-1], layers.biases[:-1], strict=True):
            x = np.tanh(x @ weight + bias)
        out = (x @ layers.weights[-1] + layers.biases[-1])[:, 0]
        assert np.square(out - actions).mean() < 0.1 * actions.var()


def test_jittered_runs_are_equal_for_equal_seeds_and_stored_once(bowls, tmp_path):
    runs = list(jittered("nmf", 0))
    assert [run.series for run in runs] == [run.series for run in jittered("nmf", 0)]
    assert [run.series for run in runs] != [run.series for run in jittered("nmf", 1)]
    kept = PastRuns(tmp_path / "runs.db")
    assert sum(kept.add(runs)) == len(runs) == 4 * COPIES
    assert sum(kept.add(jittered("nmf", 0))) == 0
    found = recordings(tmp_path / "runs.db")
    assert len({one.group for one in found}) == 4
    assert found[0].final == pytest.approx(runs[0].series["evaluations"][-1][1])


def test_trials_of_a_store_are_recordings(tmp_path):
    path = tmp_path / "runs.db"
    with Store(path) as kept:
        for lr in (0.1, 0.2):
            trial = Method("rosenbrock", "adamw", "cosine", 60).trial(lr, 0)
            kept.add(trial, Outcome(validation_loss=lr, losses=[1.0] * 60, rates=[lr] * 60))
            blind = Method("rosenbrock", "adamw", "linear", 60).trial(lr, 0)
            kept.add(blind, Outcome(validation_loss=lr), keep_curves=False)
    found = recordings(path)
    assert [(one.lr, one.final) for one in found] == [(0.1, 0.1), (0.2, 0.2)]
    with pytest.raises(ValueError, match="has nothing to imitate"):
        imitated(path, base="linear", action=ACTION, hidden=(), seed=0)


def test_what_is_imitated_raises_a_rate_that_is_too_low(store):
    layers = imitated(store, base="cosine", action=ACTION, hidden=(), seed=0)
    seen = Episodes(LongBowls(np.random.default_rng(9), 1), "cosine", ACTION).observe()
    assert (act(layers, seen) > 0.3).all()


def test_training_begins_from_what_is_imitated(store, tmp_path):
    gains = {}
    for name, imitate in (("base", None), ("imitated", store)):
        path = tmp_path / f"{name}.safetensors"
        settings = Training(
            kind="nmf", method="ppo", seconds=0.01, every=1, hidden=(4,), imitate=imitate
        )
        gains[name] = train(settings, path, lambda one: None).gain
    assert gains["imitated"] < gains["base"] - 0.05
    assert load_policy(tmp_path / "imitated.safetensors").about["imitated"] == "jittered.db"


def test_ppo_begins_at_the_network_that_it_is_given(tmp_path):
    """An update moves no weight by more than its 64 steps of 0.001."""
    rng = np.random.default_rng(0)
    begin = Layers(
        tuple(rng.normal(size=shape) for shape in [(len(NAMES), 4), (4, 1)]),
        tuple(rng.normal(size=size) for size in (4, 1)),
    )
    found = []
    improve(
        LongBowls,
        **{"base": "cosine", "action": ACTION, "hidden": (4,), "seed": 0, "log_dir": None},
        checkpoint=tmp_path / "ppo.zip",
        report=lambda update: bool(found.append(update.policy)),
        begin=begin,
    )
    for ours, theirs in ((found[0].weights, begin.weights), (found[0].biases, begin.biases)):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=0.15)


def test_only_ppo_can_begin_from_something(tmp_path):
    with pytest.raises(ValueError, match="give --method ppo with --imitate"):
        Training(kind="net", imitate=tmp_path / "runs.db")
