"""The environments keep Gymnasium's and stable-baselines3's contracts, and the reward's promise."""

import math

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_for_sb3

from bowls import Untold
from lrpilot.learning.distributions import (
    ACTION_OF,
    BASE_OF,
    TRAINING_CELLS,
    VALIDATION_CELLS,
    net_stack,
    nmf_stack,
    tuned_lr,
    validation_draw,
)
from lrpilot.learning.environments import NetScheduleEnv, NMFScheduleEnv
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.net_cells import LARGE, network, random_cell, small_cell
from lrpilot.learning.paired import Paired
from lrpilot.learning.tuned import tune
from lrpilot.learning.vectorised import ScheduleVecEnv
from lrpilot.schedules.learned.policy import Action

ENVIRONMENTS = [NMFScheduleEnv, NetScheduleEnv]
every_environment = pytest.mark.parametrize("make", ENVIRONMENTS)


@every_environment
@pytest.mark.filterwarnings("ignore:.*Box observation space:UserWarning")
def test_it_passes_the_checks_of_gymnasium_and_stable_baselines3(make):
    check_env(make(), skip_render_check=True)
    check_for_sb3(make())


@every_environment
def test_one_seed_makes_one_episode(make):
    def play(seed):
        env = make()
        seen = [env.reset(seed=seed)[0]]
        rewards, over = [], False
        while not over and len(rewards) < 5:
            found, reward, over, _, _ = env.step(np.array([0.4], dtype=np.float32))
            seen.append(found)
            rewards.append(reward)
        return np.stack(seen), rewards

    (one, first), (same, again), (other, _) = play(3), play(3), play(4)
    np.testing.assert_array_equal(one, same)
    assert first == again
    assert not np.array_equal(one[1], other[1])
    assert not one[0].any(), "before the first step nothing has been seen"


@every_environment
def test_doing_nothing_is_the_base_schedule_and_earns_nothing(make):
    env = make()
    env.reset(seed=1)
    rewards, over = [], False
    while not over:
        _, reward, over, truncated, _ = env.step(np.zeros(1, dtype=np.float32))
        rewards.append(reward)
        assert not truncated
    assert 10 <= len(rewards) <= 80
    np.testing.assert_allclose(rewards, 0, atol=1e-5)


def test_the_rewards_of_a_run_add_up_to_how_much_less_is_left():
    paired = Paired(nmf_stack, np.random.default_rng(5), BASE_OF["nmf"], ACTION_OF["nmf"])
    half = paired.problems

    def ahead():
        left = np.log(paired.runs.measure())
        return left[half:] - left[:half]

    gained_before = ahead()  # 0: before the first decision both are on the base
    rng, total, over = np.random.default_rng(0), np.zeros(paired.problems), False
    while not over:
        found = paired.step(rng.uniform(-1, 1, paired.problems))
        total, over = total + found.rewards, found.over
    gained = ahead()
    np.testing.assert_allclose(total, gained - gained_before, rtol=1e-4, atol=1e-4)


class Exploding(Untold):
    """Runs whose loss is no number once the scale of a step is above 10."""

    total_steps, count = 60, 4

    def __init__(self):
        self.at, self.gone = 0, np.zeros(4, dtype=bool)

    def step(self, scales):
        self.at += 1
        self.gone |= scales > 10
        return np.where(self.gone, np.nan, 1 / self.at)

    def measure(self):
        return np.where(self.gone, np.nan, 1.0 / max(self.at, 1))


def test_a_run_that_diverges_is_punished_once_and_for_what_is_left():
    action = Action(kind="steps", size=2.0, limit=5.0)
    paired = Paired(lambda rng, copies: Exploding(), np.random.default_rng(0), "linear", action)
    rewards, over = [], False
    while not over:
        found = paired.step(np.array([1.0, 0.0]))
        rewards.append(found.rewards)
        over = found.over
    rewards = np.array(rewards)
    lost = int(np.argmax(rewards[:, 0] < 0))
    assert -3 < rewards[lost, 0] < -2
    assert not rewards[lost + 1 :, 0].any()
    assert not rewards[:, 1].any()
    assert len(rewards) > lost + 1  # the other run went on


class Losing(Untold):
    """Runs whose loss falls, and comes back half way through."""

    retreats = True
    total_steps, count = 100, 4

    def __init__(self):
        self.scales, self.back = [], []

    def step(self, scales):
        self.scales.append(scales)
        at = len(self.scales)
        return np.full(4, 2 / at if at < 50 else 1.5)

    def put_back(self, which):
        self.back.append(which.tolist())

    def measure(self):
        return np.ones(4)


def test_a_run_that_loses_ground_retreats_under_the_policy_and_under_its_base():
    action = Action(kind="steps", size=0.5, limit=5.0)
    runs, rewards = Losing(), []
    paired = Paired(lambda rng, copies: runs, np.random.default_rng(0), "linear", action)
    while not (found := paired.step(np.zeros(2))).over:
        rewards += found.rewards.tolist()
    assert runs.back == [[True] * 4]
    factors = np.array(runs.scales) / (1 - np.arange(100) / 100)[:, None]
    np.testing.assert_allclose(factors[[0, 49, -1]], np.array([[1.0], [1.0], [0.1]]).repeat(4, 1))
    assert not any(rewards)


def test_the_vectorised_form_draws_the_next_stack_when_one_is_over():
    env = ScheduleVecEnv(nmf_stack, BASE_OF["nmf"], ACTION_OF["nmf"], seed=0)
    first = env.reset()
    returns = np.zeros(env.num_envs)
    for _ in range(100):
        seen, rewards, done, infos = env.step(np.full((env.num_envs, 1), 0.3))
        returns += rewards
        if done.any():
            break
    assert done.all()
    assert first.shape == seen.shape == (16, 16)
    np.testing.assert_allclose([info["episode"]["r"] for info in infos], returns, rtol=1e-4)
    assert all(info["TimeLimit.truncated"] is False for info in infos)
    assert not np.array_equal(infos[0]["terminal_observation"], seen[0])
    np.testing.assert_array_equal(seen[:, 0] < 0.1, True)  # at the beginning again


def test_several_stacks_are_those_that_one_after_the_other_would_be():
    """Each ends by itself, and its rewards and ends are its own."""
    rng = np.random.default_rng(5)
    base, action = BASE_OF["nmf"], ACTION_OF["nmf"]
    alone = [Paired(small_stack, own, base, action) for own in rng.spawn(2)]
    env = ScheduleVecEnv(small_stack, base, action, seed=5, stacks=2)
    count = env.num_envs // 2
    ends = []
    for _ in range(60):
        seen, rewards, done, infos = env.step(np.full((env.num_envs, 1), 0.3))
        for number, one in enumerate(alone):
            if number in ends:
                continue
            mine = slice(number * count, (number + 1) * count)
            found = one.step(np.full(count, 0.3))
            np.testing.assert_array_equal(rewards[mine], found.rewards.astype(np.float32))
            assert done[mine].all() == found.over
            last = infos[number * count].get("terminal_observation", seen[mine][0])
            np.testing.assert_array_equal(last, found.seen[0].astype(np.float32))
            ends += [number] if found.over else []
        if len(ends) == 2:
            break
    assert sorted(ends) == [0, 1]
    assert env.num_envs == 6


def small_stack(rng, copies):
    return nmf_stack(rng, copies, problems=3)


def test_rewards_add_up_to_the_same_however_seldom_is_measured():
    totals = []
    for every in (1, 7):
        rng = np.random.default_rng(2)
        paired = Paired(small_stack, rng, BASE_OF["nmf"], ACTION_OF["nmf"], every=every)
        total, given, over = np.zeros(3), 0, False
        while not over:
            found = paired.step(np.full(3, 0.5))
            total, over = total + found.rewards, found.over
            given += bool(found.rewards.any())
        totals.append((total, given))
    np.testing.assert_allclose(totals[0][0], totals[1][0], rtol=1e-9, atol=1e-12)
    assert totals[1][1] < totals[0][1] / 3


def test_a_factorisation_never_ends_above_its_start_whatever_the_actions():
    """0 of 256 runs without gradient noise, under actions drawn at random."""
    rng, ended = np.random.default_rng(11), []
    while len(ended) < 16:
        runs = nmf_stack(rng, 1)
        if runs.solver.settings.noise:
            continue
        episodes = Episodes(runs, BASE_OF["nmf"], ACTION_OF["nmf"])
        start = runs.measure()
        while not episodes.over:
            episodes.act(rng.choice([-1.0, 1.0], p=[0.2, 0.8], size=runs.count))
        ended.append(runs.measure() < start)
    assert np.array(ended).all()


def test_rates_of_networks_spread_over_two_decades_around_the_tuned_one():
    runs = net_stack(np.random.default_rng(0), 2)
    lrs = runs.base_lrs.numpy()
    np.testing.assert_array_equal(lrs[:8], lrs[8:])
    assert 10 ** (1 / 2) < lrs.max() / lrs.min() < 100


def test_validation_is_the_same_at_every_call_and_on_other_cells():
    for kind in ("nmf", "net"):
        runs = [validation_draw(kind, 0)(np.random.default_rng(seed), 1) for seed in (1, 2)]
        ones = np.ones(runs[0].count)
        np.testing.assert_array_equal(runs[0].step(ones), runs[1].step(ones))
    assert not set(TRAINING_CELLS) & set(VALIDATION_CELLS)


@pytest.mark.parametrize("number", range(LARGE, LARGE + 12))
def test_from_some_number_on_cells_are_larger(number):
    small, large = small_cell(number), random_cell(number)
    assert 2 <= large.total_steps / small.total_steps <= 6
    passes = [one.batch * one.total_steps / one.examples for one in (small, large)]
    assert passes[1] == pytest.approx(passes[0] / 2, rel=0.02)
    sizes = [sum(x.numel() for x in network(one).parameters()) for one in (small, large)]
    assert 2 < sizes[1] / sizes[0] < 20
    assert random_cell(LARGE - 1) == small_cell(LARGE - 1)


def test_the_tuned_rate_of_a_cell_is_the_best_of_its_grid():
    cell = random_cell(6)
    found = tune(cell)
    assert math.isclose(tuned_lr(cell), found.lr, rel_tol=1e-3)
