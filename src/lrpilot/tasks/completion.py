"""Matrix completion: who likes what, learnt from noisy ratings that come one by one."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.data import SPLIT_SEED
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Batch, Problem, TrainingTask, Values

USERS = 200
ITEMS = 100
TRUE_RANK = 5
RANK = 8  # more than the matrix has, since who completes one does not know
HELD_OUT_SHARE = 0.1  # of the entries, for validation and for test
BATCH = 128
NOISE = 0.5  # deviation of a rating, in units of the entries' own


def matrix_completion(rng: np.random.Generator) -> Problem:
    """Ratings of random pairs of a user and an item, each with noise of its own.

    A pair's rating is noisy anew whenever it is drawn, so that there is no noise to learn by heart.
    Pairs that are held out never train; their ratings are judged without noise. Losses are mean
    squared errors, 1 is what predicting zero would get. The matrix is the same for every seed.
    """
    ratings, pairs = rated_pairs()
    train = pairs["train"]
    start = {
        "W": torch.from_numpy(rng.normal(0, 0.3, size=(USERS, RANK))).float(),
        "H": torch.from_numpy(rng.normal(0, 0.3, size=(ITEMS, RANK))).float(),
    }

    def draw() -> Batch:
        users, items = train[torch.from_numpy(rng.integers(len(train), size=BATCH))].T
        noise = NOISE * torch.from_numpy(rng.standard_normal(BATCH, dtype=np.float32))
        return users, items, ratings[users, items] + noise

    def loss(values: Values, batch: Batch) -> Tensor:
        users, items, rated = batch
        predicted = (values["W"][users] * values["H"][items]).sum(dim=-1)  # (128,)
        return (predicted - rated).square().mean()

    def held_out_loss(values: Values, split: Split) -> Tensor:
        users, items = pairs[split].T
        return loss(values, (users, items, ratings[users, items]))

    return Problem(parameters=start, draw=draw, loss=loss, held_out_loss=held_out_loss)


@cache
def rated_pairs() -> tuple[Tensor, dict[str, Tensor]]:
    """The matrix (users, items), and which (user, item) pairs (n, 2) belong to which part.

    Singular values fall by half from one to the next, and the mean square of the entries is 1.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    left = np.linalg.qr(rng.standard_normal((USERS, TRUE_RANK))).Q
    right = np.linalg.qr(rng.standard_normal((ITEMS, TRUE_RANK))).Q
    matrix = (left * 0.5 ** np.arange(TRUE_RANK)) @ right.T
    matrix /= np.sqrt(np.square(matrix).mean())
    order = torch.from_numpy(rng.permutation(USERS * ITEMS))
    pairs = torch.stack([order // ITEMS, order % ITEMS], dim=-1)
    held_out = round(HELD_OUT_SHARE * len(pairs))
    validation, test, train = pairs.split([held_out, held_out, len(pairs) - 2 * held_out])
    parts = {"train": train, "validation": validation, "test": test}
    return torch.from_numpy(matrix).float(), parts


MATRIX_COMPLETION = TrainingTask(
    name="matrix-completion",
    summary="rank-8 factors of 200x100 noisy ratings of rank 5, 2,400 parameters, batch 128",
    metric="mean squared error",
    total_steps=1000,
    lrs={"sgd": 3.0, "momentum": 0.3, "adam": 0.03, "adamw": 0.03, "rmsprop": 0.03},
    build=matrix_completion,
)
