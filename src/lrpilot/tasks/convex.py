"""Convex problems: logistic regression, and a quadratic whose optimum is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from lrpilot.tasks.data import breast_cancer, shuffled_batches
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.streams import rotated_root
from lrpilot.tasks.training import Batch, Problem, TrainingTask, Values

BATCH = 16
DIMENSIONS = 100
CONDITION_NUMBER = 1e3
NOISE = 0.3  # deviation of the gradient noise along a direction of curvature 1


def cancer_logreg(rng: np.random.Generator) -> Problem:
    """Logistic regression with an L2 penalty of ‖w‖² / 2n, scikit-learn's C = 1.

    The budget is short because thirty weights reach the floor of the held-out loss in a few hundred
    steps at any decent rate, and from there on no schedule can be told from another.
    """
    rows = breast_cancer()
    inputs, targets = rows["train"].inputs, rows["train"].targets.float()
    n, features = inputs.shape
    start = {
        "w": torch.from_numpy(rng.standard_normal(features, dtype=np.float32)),
        "bias": torch.zeros(()),
    }
    batches = shuffled_batches(n, BATCH, rng)

    def draw() -> Batch:
        batch = next(batches)
        return inputs[batch], targets[batch]

    def loss(values: Values, batch: Batch) -> Tensor:
        return entropy(values, *batch) + 0.5 / n * values["w"].square().sum()

    def held_out_loss(values: Values, split: Split) -> Tensor:
        return entropy(values, rows[split].inputs, rows[split].targets.float())

    def entropy(values: Values, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = inputs @ values["w"] + values["bias"]
        return binary_cross_entropy_with_logits(logits, targets)

    return Problem(parameters=start, draw=draw, loss=loss, held_out_loss=held_out_loss)


def noisy_quadratic(rng: np.random.Generator) -> Problem:
    """f(x) = ½(x − x*)ᵀA(x − x*), seen through a new shift of x* at every step.

    The shift adds noise of covariance ``NOISE``² A to the gradient, as minibatches do near an
    optimum (Zhang et al. 2019, section 3), and the same shift is in the loss that the schedule
    sees, whose mean is f + ½ ``NOISE``² d. ``evaluate`` returns f itself, exact and without noise.

    The eigenvalues of A go from 1 down to 1e-3 in equal ratios; its eigenvectors are a rotation,
    the same for every seed, so that no optimizer gains by scaling coordinates. The run begins at
    zero and the seed draws x*, so that weight decay does not point at the solution.
    """
    root = rotated_root(DIMENSIONS, CONDITION_NUMBER)  # A = rootᵀ root
    optimum = torch.from_numpy(rng.standard_normal(DIMENSIONS)).float()

    def draw() -> Batch:
        return (torch.from_numpy(rng.standard_normal(DIMENSIONS, dtype=np.float32)),)

    def loss(values: Values, batch: Batch) -> Tensor:
        # A shift by A^(-1/2) noise, with its root already applied.
        (noise,) = batch
        return 0.5 * (root @ (values["x"] - values["optimum"]) + NOISE * noise).square().sum()

    def excess_loss(values: Values, split: Split) -> Tensor:
        del split  # nothing is held out: validation and test are the same number
        return 0.5 * (root @ (values["x"] - values["optimum"])).square().sum()

    return Problem(
        parameters={"x": torch.zeros(DIMENSIONS)},
        fixed={"optimum": optimum},
        draw=draw,
        loss=loss,
        held_out_loss=excess_loss,
    )


CANCER_LOGREG = TrainingTask(
    name="cancer-logreg",
    summary="logistic regression on 341 rows of breast cancer, 31 parameters, batch 16",
    metric="cross-entropy (nats)",
    total_steps=150,
    lrs={"sgd": 1.0, "momentum": 0.1, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.03},
    build=cancer_logreg,
)

NOISY_QUADRATIC = TrainingTask(
    name="noisy-quadratic",
    summary="rotated quadratic in 100 dimensions, condition number 1,000, noisy gradients",
    metric="excess loss",
    total_steps=2000,
    lrs={"sgd": 1.0, "momentum": 0.1, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.1},
    build=noisy_quadratic,
)
