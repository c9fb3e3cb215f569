"""The environments by the hundred, as one tensor program, for stable-baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from lrpilot.learning.paired import Draw, Paired
from lrpilot.schedules.learned.features import LARGEST, NAMES
from lrpilot.schedules.learned.policy import Action


class ScheduleVecEnv(VecEnv):
    """`ScheduleEnv`, many times: the problems of a stack share a setting and end together.

    At the end of a stack the next one is drawn. A run that diverges before keeps its place until
    then, with rewards of 0, and is done with the others.
    """

    render_mode = None

    def __init__(self, draw: Draw, base: str, action: Action, seed: int) -> None:
        self._draw, self._base, self._action = draw, base, action
        self._rng = np.random.default_rng(seed)
        self._begin()
        super().__init__(
            self._paired.problems,
            Box(-LARGEST, LARGEST, (len(NAMES),), np.float32),
            Box(-1.0, 1.0, (1,), np.float32),
        )
        self._actions = np.zeros(self.num_envs)

    def _begin(self) -> None:
        self._paired = Paired(self._draw, self._rng, self._base, self._action)
        self._returns = np.zeros(self._paired.problems)
        self._length = 0

    def reset(self) -> VecEnvObs:
        """Observations (envs, features) of a fresh stack."""
        self._begin()
        self._reset_seeds()
        self._reset_options()
        return self._paired.observe().astype(np.float32)

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the actions (envs, 1)."""
        self._actions = actions.astype(np.float64).reshape(-1).clip(-1, 1)

    def step_wait(self) -> VecEnvStepReturn:  # pyright: ignore[reportUnknownParameterType]
        """Take them: observations, rewards (envs,), whether done (envs,), and a note per run."""
        found = self._paired.step(self._actions)
        self._returns += found.rewards
        self._length += 1
        seen = found.seen.astype(np.float32)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if found.over:
            for info, last, total in zip(infos, seen, self._returns.tolist(), strict=True):
                info["terminal_observation"] = last
                info["TimeLimit.truncated"] = False  # nothing comes after the last step
                info["episode"] = {"r": total, "l": self._length, "t": 0.0}
            self._begin()
            seen = self._paired.observe().astype(np.float32)
        done = np.full(self.num_envs, found.over)
        return seen, found.rewards.astype(np.float32), done, infos

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

    def _chosen(self, indices: VecEnvIndices) -> Sequence[int]:
        return list(self._get_indices(indices))
