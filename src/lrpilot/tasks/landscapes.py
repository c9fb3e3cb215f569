"""Landscapes that are not convex, seen through noise; each loss is an exact excess.

Noise and samples are drawn afresh at every step, so nothing can be learnt by heart, and how a
schedule ends matters. The held-out loss is that of the whole population, exact; validation and test
are then the same number.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.protocol import Split
from lrpilot.tasks.streams import normal, rotation
from lrpilot.tasks.training import Batch, Problem, TrainingTask, Values

ROSENBROCK_DIMENSIONS = 20
ROSENBROCK_NOISE = 0.3  # deviation of a residual

LAYERS = 6
LAYER_WIDTH = 16
TEACHER_CONDITION_NUMBER = 10.0
TEACHER_BATCH = 8
TEACHER_NOISE = 0.3  # deviation of a target

MATRIX_SIZE = 30
MATRIX_RANK = 3
FACTOR_RANK = 6  # more than the matrix has, since who senses one does not know
MEASUREMENTS = 32  # a minibatch
MEASUREMENT_NOISE = 0.3  # deviation of a measurement, in units of the matrix's norm


def rosenbrock(rng: np.random.Generator) -> Problem:
    """The chained Rosenbrock function as least squares: ½ Σ 100(xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)².

    Each residual gets noise of its own at every step. So the gradient gets noise of covariance
    ``ROSENBROCK_NOISE``² JᵀJ, J the residuals' Jacobian, which near the optimum is the Hessian:
    noise as of samples, and a mean whose minimum stays at xᵢ = 1, with excess loss 0. The seed
    draws the start near the origin, whence a curved valley leads to the optimum.
    """
    d = ROSENBROCK_DIMENSIONS
    start = torch.from_numpy(rng.uniform(-0.5, 0.5, size=d)).float()

    def draw() -> Batch:
        return (ROSENBROCK_NOISE * normal((2, d - 1), rng),)

    def residuals(x: Tensor) -> Tensor:
        return torch.stack([10 * (x[1:] - x[:-1].square()), 1 - x[:-1]])  # (2, d - 1)

    def loss(values: Values, batch: Batch) -> Tensor:
        (noise,) = batch
        return 0.5 * (residuals(values["x"]) + noise).square().sum()

    def excess_loss(values: Values, split: Split) -> Tensor:
        del split
        return 0.5 * residuals(values["x"]).square().sum()

    return Problem(parameters={"x": start}, draw=draw, loss=loss, held_out_loss=excess_loss)


def deep_linear(rng: np.random.Generator) -> Problem:
    """A product of ``LAYERS`` square matrices learns a teacher's matrix from noisy answers.

    Inputs are standard normal, so the excess loss is ½‖W₆ ⋯ W₁ − T‖². The landscape is that of
    deep networks without the non-linearity: saddles, plateaus, sharpness that grows with the
    product (Saxe et al. 2014). The seed draws the start and the teacher's singular vectors; its
    singular values go from 1 down to 0.1 in equal ratios.
    """
    n = LAYER_WIDTH
    names = [f"W{layer}" for layer in range(1, LAYERS + 1)]
    singular_values = np.geomspace(1, 1 / TEACHER_CONDITION_NUMBER, n)
    teacher = (rotation(n, rng) * singular_values) @ rotation(n, rng)

    def draw() -> Batch:
        return normal((TEACHER_BATCH, n), rng), TEACHER_NOISE * normal((TEACHER_BATCH, n), rng)

    def product(values: Values) -> Tensor:
        return torch.linalg.multi_dot([values[name] for name in reversed(names)])

    def loss(values: Values, batch: Batch) -> Tensor:
        inputs, noise = batch
        outputs = inputs
        for name in names:
            outputs = outputs @ values[name].T
        answers = inputs @ values["teacher"].T + noise
        return 0.5 * (outputs - answers).square().sum(dim=-1).mean()

    def excess_loss(values: Values, split: Split) -> Tensor:
        del split
        return 0.5 * (product(values) - values["teacher"]).square().sum()

    return Problem(
        parameters={name: normal((n, n), rng) / n**0.5 for name in names},
        fixed={"teacher": torch.from_numpy(teacher).float()},
        draw=draw,
        loss=loss,
        held_out_loss=excess_loss,
    )


def matrix_sensing(rng: np.random.Generator) -> Problem:
    """Find a matrix M of low rank from noisy measurements aᵀMb, as the product of two factors.

    a and b are standard normal, so the mean squared error of a measurement is ‖WH − M‖² and its
    noise. The seed draws M, with singular values in ratios 4 : 2 : 1 and ‖M‖ = 1, and a small
    start, near the saddle at zero. Losses are shares of ‖M‖².
    """
    n, r = MATRIX_SIZE, MATRIX_RANK
    singular_values = np.array([4.0, 2.0, 1.0]) / 21**0.5
    matrix = (rotation(n, rng)[:, :r] * singular_values) @ rotation(n, rng)[:r]
    start = {
        "W": 0.1 * normal((n, FACTOR_RANK), rng),
        "H": 0.1 * normal((FACTOR_RANK, n), rng),
    }

    def draw() -> Batch:
        return (
            normal((MEASUREMENTS, n), rng),
            normal((MEASUREMENTS, n), rng),
            MEASUREMENT_NOISE * normal((MEASUREMENTS,), rng),
        )

    def loss(values: Values, batch: Batch) -> Tensor:
        a, b, noise = batch
        found = ((a @ values["W"]) * (b @ values["H"].T)).sum(dim=-1)  # (32,)
        true = ((a @ values["matrix"]) * b).sum(dim=-1)
        return (found - true - noise).square().mean()

    def excess_loss(values: Values, split: Split) -> Tensor:
        del split
        return (values["W"] @ values["H"] - values["matrix"]).square().sum()

    return Problem(
        parameters=start,
        fixed={"matrix": torch.from_numpy(matrix).float()},
        draw=draw,
        loss=loss,
        held_out_loss=excess_loss,
    )


ROSENBROCK = TrainingTask(
    name="rosenbrock",
    summary="chained Rosenbrock function with noisy residuals, 20 parameters",
    metric="excess loss",
    total_steps=2000,
    lrs={"sgd": 0.001, "momentum": 3e-4, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.01},
    build=rosenbrock,
)

DEEP_LINEAR = TrainingTask(
    name="deep-linear",
    summary="six linear layers learn a 16x16 teacher, 1,536 parameters, batch 8",
    metric="excess loss",
    total_steps=1000,
    lrs={"sgd": 0.03, "momentum": 0.01, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003},
    build=deep_linear,
)

MATRIX_SENSING = TrainingTask(
    name="matrix-sensing",
    summary="rank-6 factors sense a 30x30 matrix of rank 3, 360 parameters, batch 32",
    metric="relative squared error",
    total_steps=1000,
    lrs={"sgd": 0.1, "momentum": 0.03, "adam": 0.03, "adamw": 0.03, "rmsprop": 0.03},
    build=matrix_sensing,
)
