"""Stochastic non-negative matrix factorisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.data import digits_matrix, shuffled_batches
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Batch, Problem, TrainingTask, Values

RANK = 20
BLOCK = (64, 16)  # rows and columns of a minibatch
SWEEPS = 20  # over the columns of W, when held-out rows are fitted


def nmf_digits(rng: np.random.Generator) -> Problem:
    """V ~ WH with W, H >= 0, by projected steps on random blocks of V.

    A block is some rows and some columns. Whole rows would leave each row of W an exact gradient,
    with too little noise for the end of a schedule to matter (measured: constant ties cosine).

    Held-out rows get the best non-negative coefficients for the H that the run learnt, found by
    coordinate descent. This is how a dictionary is judged: by how well its parts build what it has
    not seen. Holding out entries of V instead (matrix completion) was measured and rejected: the
    factors overfit, and a constant rate did as well as an annealed one.

    Losses are shares of ‖V‖²: 1 is what H = 0 would get.
    """
    V = digits_matrix()

    def held_out_loss(values: Values, split: Split) -> Tensor:
        rows, H = V[split], values["H"]
        return squared_norm(rows - fit_rows(rows, H) @ H) / squared_norm(rows)

    return factorise(V, RANK, BLOCK, rng, held_out_loss=held_out_loss)


def factorise(
    V: Mapping[str, Tensor],
    rank: int,
    block: tuple[int, int],
    rng: np.random.Generator,
    *,
    held_out_loss: Callable[[Values, Split], Tensor],
) -> Problem:
    """V ~ WH with W, H >= 0, by projected steps on random blocks of the training rows.

    block: rows and columns of a minibatch.

    A block's loss is scaled so that its mean over blocks is the share of ‖V‖² that WH leaves.
    """
    train = V["train"]
    m, n = train.shape
    # Entries of WH then begin at the size of V's mean.
    scale = float(np.sqrt(train.mean().item() / rank))
    start = {
        "W": torch.from_numpy(scale * rng.uniform(0, 2, size=(m, rank))).float(),
        "H": torch.from_numpy(scale * rng.uniform(0, 2, size=(rank, n))).float(),
    }
    height, width = block
    row_batches = shuffled_batches(m, height, rng)
    block_share = height / m * width / n * squared_norm(train)

    def draw() -> Batch:
        rows = next(row_batches)
        return rows, torch.from_numpy(rng.choice(n, size=width, replace=False))

    def loss(values: Values, batch: Batch) -> Tensor:
        rows, columns = batch
        W, H = values["W"][rows], values["H"][:, columns]  # (height, rank), (rank, width)
        return squared_norm(train[rows][:, columns] - W @ H) / block_share

    return Problem(
        parameters=start, draw=draw, loss=loss, held_out_loss=held_out_loss, project=non_negative
    )


def non_negative(values: Values) -> None:
    """Project both factors, in place."""
    values["W"].clamp_(min=0)
    values["H"].clamp_(min=0)


def fit_rows(V: Tensor, H: Tensor) -> Tensor:
    """The W >= 0 that makes ‖V − WH‖ small, by ``SWEEPS`` passes of exact coordinate descent.

    Each step is the exact minimum over one column of W, so the error never rises.
    """
    gram = H @ H.T  # (r, r)
    VH = V @ H.T  # (m, r)
    W = torch.zeros_like(VH)
    tiny = torch.finfo(gram.dtype).tiny  # a row of zeros in H keeps its coefficient at zero
    for _ in range(SWEEPS):
        for k in range(len(H)):
            step = (VH[:, k] - W @ gram[:, k]) / (gram[k, k] + tiny)
            W[:, k] = (W[:, k] + step).clamp(min=0)
    return W


def squared_norm(matrix: Tensor) -> Tensor:
    """The squared Frobenius norm."""
    return matrix.square().sum()


NMF_DIGITS = TrainingTask(
    name="nmf-digits",
    summary="NMF of the 1,197 x 64 digits matrix at rank 20, 25,220 parameters, blocks 64x16",
    metric="relative squared error",
    total_steps=1000,
    lrs={"sgd": 10.0, "momentum": 3.0, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.1},
    build=nmf_digits,
)
