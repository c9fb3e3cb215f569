"""Convex problems on an endless stream of samples, their excess losses exact or nearly so."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Batch, Problem, TrainingTask, Values

SPLITS = ("validation", "test")

REGRESSION_DIMENSIONS = 100
REGRESSION_CONDITION_NUMBER = 300.0
REGRESSION_BATCH = 4
REGRESSION_NOISE = 0.3  # deviation of a target

LOGISTIC_DIMENSIONS = 50
LOGISTIC_CONDITION_NUMBER = 300.0
LOGISTIC_BATCH = 16
LOGISTIC_SPREAD = 3.0  # deviation of the true logits
HELD_OUT = 1000  # rows


def multiplicative_quadratic(rng: np.random.Generator) -> Problem:
    """Least squares on a stream: f(x) = ½(x − x*)ᵀA(x − x*), its curvature sampled.

    A row a ~ N(0, A) comes with the target aᵀx* + ``REGRESSION_NOISE`` ε. Its gradient
    a(aᵀ(x − x*) − ε) is noisy in proportion to the distance from x*, until the noise of the
    targets takes over. Far from x* that noise, not the curvature, bounds the stable rate.
    """
    root = rotated_root(REGRESSION_DIMENSIONS, REGRESSION_CONDITION_NUMBER)
    optimum = torch.from_numpy(rng.standard_normal(REGRESSION_DIMENSIONS)).float()

    def draw() -> Batch:
        return (
            normal((REGRESSION_BATCH, REGRESSION_DIMENSIONS), rng) @ root,
            REGRESSION_NOISE * normal((REGRESSION_BATCH,), rng),
        )

    def loss(values: Values, batch: Batch) -> Tensor:
        rows, noise = batch
        return 0.5 * (rows @ (values["x"] - values["optimum"]) - noise).square().mean()

    def excess_loss(values: Values, split: Split) -> Tensor:
        del split  # of the whole population: validation and test are the same number
        return 0.5 * (root @ (values["x"] - values["optimum"])).square().sum()

    return Problem(
        parameters={"x": torch.zeros(REGRESSION_DIMENSIONS)},
        fixed={"optimum": optimum},
        draw=draw,
        loss=loss,
        held_out_loss=excess_loss,
    )


def logreg_stream(rng: np.random.Generator) -> Problem:
    """Logistic regression on a stream of ill-conditioned rows whose true weights are known.

    Rows are a ~ N(0, A), labels are drawn with the logit aᵀw*. The held-out loss is the mean
    Kullback-Leibler divergence from the true to the learnt probabilities of held-out rows: the
    cross-entropy beyond that of w* itself, without the noise of labels. It is zero at w* only. The
    seed draws w*, and the run begins at zero, so that weight decay does not point at the solution.
    """
    d = LOGISTIC_DIMENSIONS
    root = rotated_root(d, LOGISTIC_CONDITION_NUMBER)
    held_out_rng = np.random.default_rng(1)
    held_out = {split: normal((HELD_OUT, d), held_out_rng) @ root for split in SPLITS}
    optimum = torch.from_numpy(rng.standard_normal(d)).float()
    optimum *= LOGISTIC_SPREAD / (root @ optimum).norm()

    def draw() -> Batch:
        rows = normal((LOGISTIC_BATCH, d), rng) @ root
        uniform = torch.from_numpy(rng.random(LOGISTIC_BATCH, dtype=np.float32))
        return rows, (uniform < torch.sigmoid(rows @ optimum)).float()

    def loss(values: Values, batch: Batch) -> Tensor:
        rows, labels = batch
        return binary_cross_entropy_with_logits(rows @ values["w"], labels)

    def excess_loss(values: Values, split: Split) -> Tensor:
        rows = held_out[split]
        true = rows @ values["optimum"]
        probabilities = torch.sigmoid(true)
        return binary_cross_entropy_with_logits(
            rows @ values["w"], probabilities
        ) - binary_cross_entropy_with_logits(true, probabilities)

    return Problem(
        parameters={"w": torch.zeros(d)},
        fixed={"optimum": optimum},
        draw=draw,
        loss=loss,
        held_out_loss=excess_loss,
    )


def rotated_root(dimensions: int, condition_number: float) -> Tensor:
    """R with RᵀR = A, whose eigenvalues go from 1 down to 1 / ``condition_number``.

    The ratios are equal, and the eigenvectors a rotation, the same always, so that no optimizer
    gains by scaling coordinates.
    """
    eigenvalues = np.geomspace(1, 1 / condition_number, dimensions)
    Q = rotation(dimensions, np.random.default_rng(0))
    return torch.from_numpy(np.sqrt(eigenvalues)[:, None] * Q.T).float()


def rotation(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random orthogonal matrix (n, n)."""
    return np.linalg.qr(rng.standard_normal((n, n))).Q


def normal(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    """Standard normal numbers."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


MULTIPLICATIVE_QUADRATIC = TrainingTask(
    name="multiplicative-quadratic",
    summary="streamed least squares, condition number 300, 100 parameters, batch 4",
    metric="excess loss",
    total_steps=2000,
    lrs={"sgd": 0.3, "momentum": 0.03, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.03},
    build=multiplicative_quadratic,
)

LOGREG_STREAM = TrainingTask(
    name="logreg-stream",
    summary="streamed logistic regression, condition number 300, 50 parameters, batch 16",
    metric="excess cross-entropy (nats)",
    total_steps=1000,
    lrs={"sgd": 1.0, "momentum": 0.1, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.03},
    build=logreg_stream,
)
