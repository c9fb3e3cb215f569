"""Random factorisation problems, and their runs inside the stability bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lrpilot.learning.runs import Floats, Mask
from lrpilot.nmf import Factors, Settings, Solver, noisy_anchor, random_start
from lrpilot.nmf.windows import coordinates
from lrpilot.torch.gradients import GradientWindows
from lrpilot.torch.weights import WeightWindows

SHAPES = {"gamma": 0.5, "exponential": 1.0, "even": 4.0}
"""Shapes of the gamma distribution that factors have, by name: "even" ones are nearly constant, so
that V has one large singular value, as images do."""
ENTRIES = (*SHAPES, "sparse")


@dataclass(frozen=True, slots=True, kw_only=True)
class NMFSetting:
    """What the problems of one stack have in common.

    V is m x n, of rank ``true_rank`` but for noise of ``data_noise`` times its mean entry, its
    columns stretched by Pareto lengths if ``tail`` is not 0; it is factorised at rank ``rank``.

    noise: added to each gradient, relative to the first gradient's norm. batch: columns.
    """

    m: int
    n: int
    rank: int
    true_rank: int
    entries: str
    data_noise: float
    tail: float
    noise: float
    batch: int
    total_steps: int


def random_setting(rng: np.random.Generator) -> NMFSetting:
    """A setting from the distribution that policies are trained on."""
    rank = int(rng.integers(2, 13))
    n = round(log_uniform(rng, 24, 512))
    return NMFSetting(
        m=round(log_uniform(rng, 16, 192)),
        n=n,
        rank=rank,
        true_rank=max(rank + int(rng.integers(-2, 3)), 1),
        entries=str(rng.choice(ENTRIES)),
        data_noise=float(rng.uniform(0, 0.3)),
        tail=float(rng.choice([0.0, 0.0, 0.5, 1.0])),
        noise=0.0 if rng.random() < 0.3 else log_uniform(rng, 0.03, 3),
        batch=min(round(log_uniform(rng, 4, 64)), n),
        total_steps=round(log_uniform(rng, 60, 600)),
    )


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is uniform."""
    return float(low * (high / low) ** rng.random())


def random_matrices(setting: NMFSetting, count: int, rng: np.random.Generator) -> Tensor:
    """``count`` matrices (count, m, n) of a setting; each has a size of its own, far apart."""

    def drawn(*shape: int) -> np.ndarray:
        if setting.entries in SHAPES:
            return rng.gamma(SHAPES[setting.entries], size=(count, *shape))
        return rng.random((count, *shape)) * (rng.random((count, *shape)) < 0.3)

    W, H = drawn(setting.m, setting.true_rank), drawn(setting.true_rank, setting.n)
    if setting.tail:
        H = H * rng.uniform(0.05, 1, (count, 1, setting.n)) ** -setting.tail
    V = W @ H
    noise = setting.data_noise * V.mean((1, 2), keepdims=True) * rng.standard_normal(V.shape)
    sizes = 10 ** rng.uniform(-3, 3, (count, 1, 1))
    return torch.from_numpy(((V + noise).clip(0) + 1e-9) * sizes).float()


class NMFRuns:
    """Runs of the solver on matrices (problems, m, n), each ``copies`` times from one start.

    The rate is anchored and clipped: a scale of 1 is ``wrong``, one factor or one for each problem,
    times the anchor for that noise, over the curvature at the start, and no scale leaves the bound.
    Runs are in the order of copies, then problems.
    """

    def __init__(
        self,
        V: Tensor,
        rank: int,
        *,
        total_steps: int,
        rng: np.random.Generator,
        noise: float = 0.0,
        batch: int = 128,
        wrong: float | Floats = 1.0,
        copies: int = 1,
    ) -> None:
        self.total_steps = total_steps
        self.shape = (copies, len(V))
        start = Factors(*(x.expand(copies, *x.shape).clone() for x in random_start(V, rank, rng)))
        anchor = noisy_anchor(rank, noise, total_steps)
        settings = Settings(anchor=anchor, noise=noise, batch=batch, shared_noise=True)
        self.solver = Solver(V.expand(copies, *V.shape), start, settings, rng)
        self._wrong = np.broadcast_to(wrong, self.shape)
        self._gradients: GradientWindows | None = None
        self._factors = WeightWindows(coordinates(self.solver.W))

    retreats = False

    @property
    def count(self) -> int:
        """Copies times problems."""
        return math.prod(self.shape)

    def step(self, scales: Floats) -> Floats:
        """One step of each: the share of ‖V‖² that its minibatch left."""
        given = torch.from_numpy(self._wrong * scales.reshape(self.shape))
        loss = self.solver.step(given.to(self.solver.V.dtype))
        self.solver.records = self.solver.records[-self.solver.period :]
        return as_floats(loss)

    def told(self) -> tuple[Floats, Floats]:
        """Of the gradients in W."""
        gradient = self.solver.gradient
        if gradient is None:
            raise RuntimeError("gradients are told of after a step")
        gradient = coordinates(gradient)
        self._gradients = self._gradients or GradientWindows(gradient)
        alignment, persistence = map(as_floats, self._gradients.take(gradient))
        return alignment, persistence

    def travelled(self) -> Floats:
        """Of W, which is balanced with H as it goes."""
        return np.stack([*map(as_floats, self._factors.take(coordinates(self.solver.W)))])

    def turn(self) -> None:
        """Compare with the gradients since the last call, and W now, from now on."""
        if self._gradients is not None:
            self._gradients.turn()
        self._factors.turn()

    def put_back(self, which: Mask) -> None:
        """Is never asked: the bound keeps the factors in order."""

    def measure(self) -> Floats:
        """The share of ‖V‖² that is left."""
        return as_floats(self.solver.loss())


def runs_of(
    setting: NMFSetting,
    V: Tensor,
    rng: np.random.Generator,
    *,
    wrong: float | Floats = 1.0,
    copies: int = 1,
) -> NMFRuns:
    """Runs on matrices (problems, m, n) of a setting."""
    return NMFRuns(
        V,
        setting.rank,
        total_steps=setting.total_steps,
        rng=rng,
        noise=setting.noise,
        batch=setting.batch,
        wrong=wrong,
        copies=copies,
    )


def as_floats(x: Tensor) -> Floats:
    """One number for each run."""
    return x.double().numpy().reshape(-1)
