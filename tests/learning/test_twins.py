"""`Episodes`, in which policies are trained, and `Learned`, in which they are used, agree."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import run
from lrpilot.learning.episodes import Episodes
from lrpilot.schedules import Learned, Policy, Signal
from lrpilot.schedules.learned.features import MEASURED, NAMES
from policies import random_policy, still_policy


class Recorded:
    """Runs whose losses (steps, runs) are known beforehand, whatever the rates."""

    def __init__(self, losses, told=None, retreats=True):
        self.retreats = retreats
        self.losses, self.given = np.asarray(losses, dtype=float), told
        self.total_steps, self.count = self.losses.shape
        self.scales, self.put_back_at = [], []

    def step(self, scales):
        self.scales.append(np.broadcast_to(scales, self.count))
        return self.losses[len(self.scales) - 1]

    def told(self):
        return None if self.given is None else self.given[:2, len(self.scales) - 1]

    def travelled(self):
        return None if self.given is None else self.given[2:, len(self.scales) - 1]

    def turn(self):
        pass

    def put_back(self, which):
        self.put_back_at.append((len(self.scales), which))

    def measure(self):
        return self.losses[-1]


def courses(total_steps: int, seed: int) -> np.ndarray:
    """Falling, falling and lost again, level, noise, rising, negative, and constant: (steps, 7)."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, total_steps)
    means = [
        *(1 / (1 + 9 * at), np.where(at < 0.6, 1 - at, 7.0), 0 * at + 3, 0 * at + 1),
        *(1 + at, -5 - at),
    ]
    noise = rng.normal(size=(6, total_steps)) * [[0.02], [0.05], [0.001], [0.5], [0.1], [0.1]]
    return np.vstack([np.array(means) + noise, np.full(total_steps, 2.0)]).T


def check_twins(policy: Policy, losses: np.ndarray, told=None, *, retreats=True) -> list[list[str]]:
    """Both decide the same at each step; the reasons of each run."""
    runs = Recorded(losses, told, retreats)
    episodes = Episodes(runs, policy.base, policy.action)
    decided = {}
    while not episodes.over:
        at = episodes.step
        decided[at] = episodes.act(
            np.array([policy.act(tuple(seen)) for seen in episodes.observe()])
        )
    learned = Learned(runs.total_steps, policy, retreats=retreats)
    reasons = []
    for at in range(runs.count):
        states = [learned.init()]
        for step, loss in enumerate(losses[:, at]):
            signal = Signal(loss)
            if told is not None:
                signal = signal._replace(**dict(zip(MEASURED, told[:, step, at], strict=True)))
            states.append(learned.update(states[-1], signal))
        scales = [state.scale for state in states[:-1]]
        assert scales == pytest.approx([scales[at] for scales in runs.scales], rel=1e-6)
        pairs = itertools.pairwise(states[:-1])
        at_steps = [after.step for before, after in pairs if after.decisions > before.decisions]
        assert at_steps == [step for step in decided if 0 < step < runs.total_steps]
        for step in (0, *at_steps):
            assert states[step].offset == pytest.approx(decided[step][at], abs=1e-6)
        reasons.append([state.reason for state in states])
        put_back = [state.step for state in states if state.reason == "retreat"]
        assert put_back == [step for step, which in runs.put_back_at if which[at]]
    return reasons


@pytest.mark.parametrize("kind", ["steps", "anchored"])
@pytest.mark.parametrize("squash", ["tanh", "clip"])
@pytest.mark.parametrize("total_steps", [1, 2, 60, 333, 1001])
def test_both_decide_the_same_offsets(kind, squash, total_steps):
    policy = random_policy(6, kind=kind, squash=squash, seed=total_steps)
    reasons = check_twins(policy, courses(total_steps, seed=1))
    if total_steps >= 60:
        assert {"raise", "lower", "retreat", "fallback"} <= set(itertools.chain(*reasons))
        assert "fallback" in reasons[1]


@settings(max_examples=20)
@given(
    losses=st.lists(st.integers(-200, 200).map(lambda n: n / 8), min_size=30, max_size=90),
    seed=st.integers(0, 50),
)
def test_both_decide_the_same_on_any_losses(losses, seed):
    check_twins(random_policy(seed=seed), np.array([losses, losses[::-1]]).T)


@pytest.mark.parametrize("odd", [1e30, 1e139, math.inf, math.nan])
def test_both_take_odd_losses_alike(odd):
    """Single ones, a few in a row, and at the end of a window; none hides what comes after it."""
    losses = courses(200, seed=3)
    for at in (5, 30, 31, 60, 61, 62, 63, 120):
        losses[at, 1:] = odd
    reasons = check_twins(random_policy(6, seed=61), losses)
    assert {"raise", "lower"} & set(itertools.chain(*[one[130:] for one in reasons]))


@pytest.mark.parametrize("name", NAMES[NAMES.index("alignment") :])
def test_both_read_what_gradients_and_weights_tell_alike(name):
    policy = random_policy(6)
    first, *rest = policy.weights
    first = np.array(first)
    first[NAMES.index(name)] = 3.0
    settings = {"biases": policy.biases, "action": policy.action}
    reading = Policy(name="reading", weights=(first, *rest), **settings)
    told = np.random.default_rng(0).uniform(-1, 1, size=(5, 200, 7))
    told[2:] = np.exp(4 * told[2:])
    told[:, :, 3] = np.nan
    told[1:, 90:, 2] = np.nan
    told[2:, 50:60, 1] = np.inf
    losses = courses(200, seed=2)
    check_twins(reading, losses, told)
    blind = run(Learned(200, policy), losses[:, 0])
    assert blind == run(Learned(200, reading), losses[:, 0]), "untold is 0"
    seeing = last_of(Learned(200, reading), [(0.1, 0.3, 0.1, 2.0, 0.6), (0.1, 0.5, 0.2, 3.0, 0.7)])
    assert seeing != last_of(Learned(200, reading), [(math.nan,) * 5] * 2)


def last_of(learned: Learned, told):
    state = learned.init()
    for numbers in told * 5:
        signal = Signal(1.0)._replace(**dict(zip(MEASURED, numbers, strict=True)))
        state = learned.update(state, signal)
    return state.offset


@pytest.mark.parametrize("lost_from", range(80, 100))
def test_both_retreat_alike_where_the_run_ends(lost_from):
    """Whether the last window has its full length or not."""
    for total_steps in (100, 101, 104):
        losses = 2 / (1 + np.arange(total_steps))
        losses[lost_from:] = 1.5
        check_twins(still_policy(), losses[:, None])


@pytest.mark.parametrize("seed", range(4))
def test_runs_that_nothing_puts_back_never_retreat(seed):
    reasons = check_twins(random_policy(6, seed=seed), courses(200, seed), retreats=False)
    assert "retreat" not in itertools.chain(*reasons)
    assert "fallback" in reasons[1]
