"""Gymnasium environments: decide the rate of one run, a window of steps at a time."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from lrpilot.learning.distributions import ACTION_OF, BASE_OF, net_stack, nmf_stack
from lrpilot.learning.paired import Draw, Paired
from lrpilot.schedules.learned.features import LARGEST, NAMES
from lrpilot.schedules.learned.policy import Action

Observation = NDArray[np.float32]


class ScheduleEnv(gymnasium.Env[Observation, Observation]):
    """Move a run's rate away from its base schedule, before its first step and after each window.

    *Observation*: float32 (16,), the features of `lrpilot.schedules.learned.features`, in the order
    of its ``NAMES``; dimensionless, within `LARGEST` of 0.

    *Action*: float32 (1,) in [-1, 1]; moves the offset, ln of the rate over its base, as `Action`
    has it. 0 leaves the rate on its base; for factorisations no action leaves the stability bound.
    Under the actions and under the base alike, a network that loses half of what it had gained is
    put back to the last weights known to be good, and its rate falls to a tenth.

    *Reward*: by how much more ln of the measure (loss on held-out data, or what a factorisation
    leaves, both without the noise of minibatches) fell in the window than under the base schedule
    on the same problem, start and minibatches. Undiscounted, a run's rewards add up to
    ln(left by the base / left by the policy).

    *End*: terminated after the last step, since what counts is there; and after a window without a
    finite loss (reward −2 − share of the horizon that is left). Never truncated. An episode has
    about 60 decisions (fewer below 200 steps).

    ``reset(seed=...)`` draws a problem: see the function that the environment is made with.
    """

    version = 6
    """Rises with every change that alters a result."""

    metadata = {"render_modes": []}  # noqa: RUF012  (Gymnasium has it so)

    def __init__(self, draw: Draw, base: str, action: Action) -> None:
        self.observation_space = Box(-LARGEST, LARGEST, (len(NAMES),), np.float32)
        self.action_space = Box(-1.0, 1.0, (1,), np.float32)
        self._draw, self._base, self._action = draw, base, action
        self._paired: Paired | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """A fresh problem before its first step: nothing has been seen, and all features are 0."""
        super().reset(seed=seed, options=options)
        self._paired = Paired(self._draw, self.np_random, self._base, self._action)
        return self._paired.observe()[0].astype(np.float32), {}

    def step(self, action: Observation) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Observation, reward, terminated, truncated (never), and the step that the run is at."""
        if self._paired is None:
            raise RuntimeError("call reset() before step()")
        found = self._paired.step(np.asarray(action, dtype=np.float64).reshape(1).clip(-1, 1))
        info = {"step": self._paired.episodes.step, "is_lost": bool(found.lost[0])}
        return (
            found.seen[0].astype(np.float32),
            float(found.rewards[0]),
            found.over,
            False,
            info,
        )


class NMFScheduleEnv(ScheduleEnv):
    """`ScheduleEnv` on random factorisations inside the stability bound.

    The problems are those of `lrpilot.learning.nmf_runs.random_setting`: m 16 to 192, n 24 to 512,
    rank 2 to 12; factors that are sparse to nearly constant; noise in the data and in the gradients
    (none, or 0.03 to 3 times the first gradient's norm); minibatches of 4 to 64 columns; 60 to 600
    steps; entries of any size. Half of the base rates are off by up to ten times.
    """

    def __init__(self) -> None:
        super().__init__(
            lambda rng, copies: nmf_stack(rng, copies, problems=1),
            BASE_OF["nmf"],
            ACTION_OF["nmf"],
        )


class NetScheduleEnv(ScheduleEnv):
    """`ScheduleEnv` on small networks, whose base rate is wrong by up to ten times.

    The problems are those of `lrpilot.learning.net_cells`: made data, perceptrons, convolutional,
    attentive and recurrent networks; SGD, momentum, RMSprop, AdamW; 100 to 500 steps, or
    three times as many. The base rate is cosine's best one, times 0.1 to 10. Runs that diverge are
    braked and put back, as `LearnedLR` with a `Guard` and `Snapshots` does.
    """

    def __init__(self) -> None:
        super().__init__(
            lambda rng, copies: net_stack(rng, copies, rates=1),
            BASE_OF["net"],
            ACTION_OF["net"],
        )
