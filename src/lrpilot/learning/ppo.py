"""PPO of stable-baselines3: policies by their gradients, on the natively batched environments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn

from lrpilot.learning.cma import Layers
from lrpilot.learning.paired import Draw
from lrpilot.learning.student import as_layers
from lrpilot.learning.vectorised import ScheduleVecEnv
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import Action, Policy

DECISIONS = 64  # of each run between two updates: about one episode
EVERY = 6  # decisions from one measurement to the next
STACKS = 8  # of problems at once: an update that sees one setting alone forgets the others
DISCOUNT = 0.999  # per decision; at 0.99 the rate falls too early, at 1 hardly ever


class Update(NamedTuple):
    """An update of the policy. decisions: taken so far, over all runs."""

    number: int
    decisions: int
    policy: Policy


def improve(
    draw: Draw,
    *,
    base: str,
    action: Action,
    hidden: tuple[int, ...],
    seed: int,
    unseen: Sequence[str] = (),
    checkpoint: Path,
    log_dir: Path | None,
    report: Callable[[Update], bool],
    begin: Layers | None = None,
) -> None:
    """Update until ``report`` returns False.

    checkpoint: where the learner's state is written after every update, and read from if it is
        there. It is for this program on this machine alone: unlike a policy it may hold code.
    begin: the network to begin from; None acts 0, as the base schedule does.
    unseen: features that are not shown, and get no weight.
    """
    settings: dict[str, Any] = {"stacks": STACKS, "every": EVERY, "unseen": unseen}
    if checkpoint.is_file():
        learner = PPO.load(checkpoint, device="cpu")
        # Other problems than those it began with.
        seed += _rollouts(learner)
        learner.set_env(ScheduleVecEnv(draw, base, action, seed, **settings))
    else:
        env = ScheduleVecEnv(draw, base, action, seed, **settings)
        learner = PPO(
            "MlpPolicy",
            env,
            n_steps=DECISIONS,
            batch_size=max(DECISIONS * env.num_envs // 8, 2),
            n_epochs=8,
            gamma=DISCOUNT,
            gae_lambda=0.97,
            learning_rate=5e-4,
            seed=seed,
            device="cpu",
            tensorboard_log=None if log_dir is None else str(log_dir),
            policy_kwargs={
                "net_arch": {"pi": list(hidden), "vf": [32, 32]},
                "activation_fn": nn.Tanh,
                "log_std_init": -1.3,
            },
        )
        _begin_at_base(learner)
        if begin is not None:
            _begin_at(learner, begin)
        _ignore(learner, unseen)
    learner.learn(
        2**62,
        callback=_Reporting(
            checkpoint, lambda number: report(_update(learner, number, base, action))
        ),
        reset_num_timesteps=False,
    )


class _Reporting(BaseCallback):
    """Writes the checkpoint and reports whenever runs are about to be collected."""

    def __init__(self, checkpoint: Path, report: Callable[[int], bool]) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        self.goes_on = report
        self.is_first = True
        self.stopped = False

    def _on_rollout_start(self) -> None:
        if not self.is_first:
            part = self.checkpoint.with_suffix(".part.zip")
            self.model.save(part)
            part.replace(self.checkpoint)
            self.stopped = not self.goes_on(_rollouts(self.model))
        self.is_first = False

    def _on_step(self) -> bool:
        return not self.stopped


def _begin_at_base(learner: PPO) -> None:
    """Let the untrained policy act 0, as its base does."""
    for parameter in learner.policy.action_net.parameters():
        parameter.data.zero_()


def _begin_at(learner: PPO, begin: Layers) -> None:
    """Let the mean action be that of a network."""
    for layer, weight, bias in zip(_layers(learner), *begin, strict=True):
        layer.weight.data.copy_(torch.from_numpy(weight.T.copy()))
        layer.bias.data.copy_(torch.from_numpy(bias))


def _layers(learner: PPO) -> list[nn.Linear]:
    """Of the mean action."""
    found = [x for x in learner.policy.mlp_extractor.policy_net if isinstance(x, nn.Linear)]
    return [*found, learner.policy.action_net]  # pyright: ignore[reportReturnType]


def _rollouts(learner: Any) -> int:
    return learner.num_timesteps // (DECISIONS * learner.n_envs)


def _ignore(learner: PPO, unseen: Sequence[str]) -> None:
    """Take away the weights of features that are always 0: no gradient would ever move them."""
    for name in unseen:
        _layers(learner)[0].weight.data[:, NAMES.index(name)] = 0.0


def _update(learner: PPO, number: int, base: str, action: Action) -> Update:
    """The learner's mean action as a policy of ours."""
    layers = as_layers(_layers(learner))
    policy = Policy(
        name="ppo",
        weights=tuple(weight.astype(np.float32) for weight in layers.weights),
        biases=tuple(bias.astype(np.float32) for bias in layers.biases),
        squash="clip",
        base=base,
        action=action,
    )
    return Update(number, learner.num_timesteps, policy)
