"""The environments by the hundred, as one tensor program, for stable-baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from lrpilot.learning.paired import Draw, Paired, Step
from lrpilot.schedules.learned.features import LARGEST, NAMES
from lrpilot.schedules.learned.policy import Action


class ScheduleVecEnv(VecEnv):
    """`ScheduleEnv`, many times: the problems of a stack share a setting and end together.

    stacks: drawn one after the other from ``draw``, which yields as many problems each time. At the
    end of a stack the next one takes its place. A run that diverges before keeps its place until
    then, with rewards of 0, and is done with the others. every: as `Paired` has it.
    unseen: features that are 0 throughout.
    """

    render_mode = None

    def __init__(
        self,
        draw: Draw,
        base: str,
        action: Action,
        seed: int,
        *,
        stacks: int = 1,
        every: int = 1,
        unseen: Sequence[str] = (),
    ) -> None:
        self._draw, self._base, self._action, self._every = draw, base, action, every
        self._rng = np.random.default_rng(seed)
        self._shown = np.array([name not in unseen for name in NAMES], dtype=np.float32)
        self._stacks = [self._begun() for _ in range(stacks)]
        super().__init__(
            sum(stack.paired.problems for stack in self._stacks),
            Box(-LARGEST, LARGEST, (len(NAMES),), np.float32),
            Box(-1.0, 1.0, (1,), np.float32),
        )
        self._actions = np.zeros(self.num_envs)

    def reset(self) -> VecEnvObs:
        """Observations (envs, features) of fresh stacks."""
        self._stacks = [self._begun() for _ in self._stacks]
        self._reset_seeds()
        self._reset_options()
        return np.concatenate([stack.seen() for stack in self._stacks])

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the actions (envs, 1)."""
        self._actions = actions.astype(np.float64).reshape(-1).clip(-1, 1)

    def step_wait(self) -> VecEnvStepReturn:  # pyright: ignore[reportUnknownParameterType]
        """Take them: observations, rewards (envs,), whether done (envs,), and a note per run."""
        parts = np.split(
            self._actions, np.cumsum([stack.paired.problems for stack in self._stacks])[:-1]
        )
        seen: list[np.ndarray] = []
        rewards: list[np.ndarray] = []
        done: list[bool] = []
        infos: list[dict[str, Any]] = []
        for at, actions in enumerate(parts):
            found = self._stacks[at].step(actions)
            rewards.append(found.rewards)
            done += [found.over] * len(actions)
            infos += self._stacks[at].infos(found) if found.over else [{} for _ in actions]
            if found.over:
                self._stacks[at] = self._begun()
            seen.append(self._stacks[at].seen())
        given = np.concatenate(rewards).astype(np.float32)
        return np.concatenate(seen), given, np.array(done), infos

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """The attribute, once per run that is asked for."""
        return [getattr(self, attr_name)] * len(self._chosen(indices))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Not possible for one of them."""
        raise NotImplementedError("the runs of a stack are one program; none has attributes")

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Not possible for one of them."""
        raise NotImplementedError("the runs of a stack are one program; none has methods")

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """None is."""
        return [False] * len(self._chosen(indices))

    def _begun(self) -> _Stack:
        (rng,) = self._rng.spawn(1)  # of its own: what a stack draws does not depend on the others
        paired = Paired(self._draw, rng, self._base, self._action, every=self._every)
        return _Stack(paired, self._shown)

    def _chosen(self, indices: VecEnvIndices) -> Sequence[int]:
        return list(self._get_indices(indices))


class _Stack:
    """A stack under way, and what its runs have earned."""

    def __init__(self, paired: Paired, shown: np.ndarray) -> None:
        self.paired, self._shown = paired, shown
        self.returns = np.zeros(paired.problems)
        self.length = 0

    def step(self, actions: np.ndarray) -> Step:
        """Take the actions (problems,)."""
        found = self.paired.step(actions)
        self.returns += found.rewards
        self.length += 1
        return found

    def seen(self) -> np.ndarray:
        """Observations (problems, features)."""
        return self.paired.observe().astype(np.float32) * self._shown

    def infos(self, last: Step) -> list[dict[str, Any]]:
        """What is told of each run at its end."""
        return [
            {
                "terminal_observation": seen,
                "TimeLimit.truncated": False,  # nothing comes after the last step
                "episode": {"r": total, "l": self.length, "t": 0.0},
            }
            for seen, total in zip(
                last.seen.astype(np.float32) * self._shown, self.returns.tolist(), strict=True
            )
        ]
