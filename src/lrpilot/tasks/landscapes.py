"""Landscapes written down as formulas, where the optimum is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem, TrainingTask

DIMENSIONS = 100
CONDITION_NUMBER = 1e3
NOISE = 0.3  # deviation of the gradient noise along a direction of curvature 1


def noisy_quadratic(rng: np.random.Generator) -> Problem:
    """f(x) = ½(x − x*)ᵀA(x − x*), seen through a new shift of x* at every step.

    The shift adds noise of covariance ``NOISE``² A to the gradient, as minibatches do near an
    optimum (Zhang et al. 2019, section 3), and the same shift is in the loss that the schedule
    sees, whose mean is f + ½ ``NOISE``² d. ``evaluate`` returns f itself, exact and without noise.
    There is no data to hold out: validation and test are the same number.

    The eigenvalues of A go from 1 down to 1e-3 in equal ratios; its eigenvectors are a rotation,
    the same for every seed, so that no optimizer gains by scaling coordinates. The run begins at
    zero and the seed draws x*, so that weight decay does not point at the solution.
    """
    eigenvalues = np.geomspace(1, 1 / CONDITION_NUMBER, DIMENSIONS)
    gaussian = np.random.default_rng(0).standard_normal((DIMENSIONS, DIMENSIONS))
    Q = np.linalg.qr(gaussian).Q
    root = torch.from_numpy(np.sqrt(eigenvalues)[:, None] * Q.T).float()  # A = rootᵀ root
    optimum = torch.from_numpy(rng.standard_normal(DIMENSIONS)).float()
    x = torch.zeros(DIMENSIONS, requires_grad=True)

    def minibatch_loss() -> Tensor:
        noise = torch.from_numpy(rng.standard_normal(DIMENSIONS, dtype=np.float32))
        # A shift by A^(-1/2) noise, with its root already applied.
        return 0.5 * (root @ (x - optimum) + NOISE * noise).square().sum()

    def excess_loss(split: Split) -> Tensor:
        del split
        return 0.5 * (root @ (x - optimum)).square().sum()

    return Problem(parameters=[x], minibatch_loss=minibatch_loss, held_out_loss=excess_loss)


NOISY_QUADRATIC = TrainingTask(
    name="noisy-quadratic",
    summary="rotated quadratic in 100 dimensions, condition number 1,000, noisy gradients",
    metric="excess loss over the optimum (exact)",
    total_steps=2000,
    lrs={},
    build=noisy_quadratic,
)
