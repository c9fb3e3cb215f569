"""Stochastic non-negative matrix factorisation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.data import digits_matrix, shuffled_batches
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem, TrainingTask

RANK = 10
BATCH = 64  # rows


def nmf_digits(rng: np.random.Generator) -> Problem:
    """V ~ WH with W, H >= 0, by projected steps on minibatches of rows.

    What is held out are entries of V, not rows. Held-out rows would need coefficients of their
    own, fitted by another algorithm; that measures H alone and forgives a W which the schedule
    trained badly. Held-out entries measure the W and H that the run made, at the cost of a product,
    and they overfit where the factors do.

    Losses are shares of ‖V‖² on the same entries: 1 is what W = H = 0 would get. The minibatch's
    loss is scaled so that its mean over a pass is the loss on all training entries.
    """
    V, masks = digits_matrix()
    m, n = V.shape
    # Entries of WH then begin at the size of V's mean.
    scale = float(np.sqrt(V.mean().item() / RANK))
    W = torch.from_numpy(scale * rng.uniform(0, 2, size=(m, RANK))).float().requires_grad_()
    H = torch.from_numpy(scale * rng.uniform(0, 2, size=(RANK, n))).float().requires_grad_()
    batches = shuffled_batches(m, BATCH, rng)
    train = masks["train"]
    batch_share = BATCH / m * squared_norm(train * V)
    shares = {part: squared_norm(mask * V) for part, mask in masks.items()}

    def minibatch_loss() -> Tensor:
        rows = next(batches)
        residual = train[rows] * (V[rows] - W[rows] @ H)  # (64, 64)
        return squared_norm(residual) / batch_share

    def held_out_loss(split: Split) -> Tensor:
        return squared_norm(masks[split] * (V - W @ H)) / shares[split]

    def project() -> None:
        with torch.no_grad():
            W.clamp_(min=0)
            H.clamp_(min=0)

    return Problem(
        parameters=[W, H],
        minibatch_loss=minibatch_loss,
        held_out_loss=held_out_loss,
        project=project,
    )


def squared_norm(matrix: Tensor) -> Tensor:
    """The squared Frobenius norm."""
    return matrix.square().sum()


NMF_DIGITS = TrainingTask(
    name="nmf-digits",
    summary="NMF of the 1797 x 64 digits matrix at rank 10 from 80 % of its entries, batch 64 rows",
    metric="squared error on held-out entries, as a share of their squared norm",
    total_steps=1000,
    lrs={},
    build=nmf_digits,
)
