"""Stochastic non-negative factorisation of texts and of a photograph."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.data import SPLIT_SEED
from lrpilot.tasks.factorisation import SWEEPS, factorise, squared_norm
from lrpilot.tasks.matrices import DOCSTRINGS_VERSION, docstrings_matrix, photo_matrix
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem, TrainingTask, Values

ROUNDS = 20  # of alternating fits, when a dictionary is learnt from all rows at once

DOCSTRINGS_RANK = 10
DOCSTRINGS_BLOCK = (64, 128)

PHOTO_RANK = 16
PHOTO_BLOCK = (32, 16)


def nmf_docstrings(rng: np.random.Generator) -> Problem:
    """Topics of Python's own documentation, from a sparse matrix of words.

    Ten topics explain a tenth of it, so that schedules differ in the third digit of what is left.
    The held-out loss is therefore what is left beyond that of a dictionary which has seen the
    held-out rows among the others, as no run has.
    """
    V = docstrings_matrix()
    attainable = attainable_losses()

    def excess_loss(values: Values, split: Split) -> Tensor:
        return share_left(V[split], values["H"]) - attainable[split]

    return factorise(V, DOCSTRINGS_RANK, DOCSTRINGS_BLOCK, rng, held_out_loss=excess_loss)


@cache
def attainable_losses() -> dict[str, float]:
    """What a dictionary learnt from all docstrings leaves of each part, as a share of ‖V‖²."""
    V = docstrings_matrix()
    H = dictionary(torch.cat(list(V.values())), DOCSTRINGS_RANK)
    return {part: share_left(rows, H).item() for part, rows in V.items()}


def nmf_photo(rng: np.random.Generator) -> Problem:
    """Parts of a photograph's patches: a dense matrix with a few strong directions."""
    V = photo_matrix()

    def held_out_loss(values: Values, split: Split) -> Tensor:
        return share_left(V[split], values["H"])

    return factorise(V, PHOTO_RANK, PHOTO_BLOCK, rng, held_out_loss=held_out_loss)


def share_left(V: Tensor, H: Tensor) -> Tensor:
    """The share of ‖V‖² that the dictionary ``H`` leaves, with the best coefficients for it."""
    return squared_norm(V - fit_rows(V, H) @ H) / squared_norm(V)


def fit_rows(V: Tensor, H: Tensor) -> Tensor:
    """The W >= 0 that makes ‖V − WH‖ small, by ``SWEEPS`` passes of exact coordinate descent.

    Each step is the exact minimum over one column of W, so the error never rises.
    """
    gram = H @ H.T  # (r, r)
    # A row of zeros in H keeps its coefficient at zero.
    lengths = gram.diagonal()[:, None].clamp(min=torch.finfo(gram.dtype).tiny)
    alone = H @ V.T / lengths  # (r, m): what each part would get without the others
    overlap = (gram - torch.diag(gram.diagonal())) / lengths  # (r, r)
    W = torch.zeros_like(alone)
    for _ in range(SWEEPS):
        for k in range(len(H)):
            W[k] = (alone[k] - overlap[k] @ W).clamp(min=0)
    return W.T


def dictionary(V: Tensor, rank: int) -> Tensor:
    """A good H >= 0 for all rows of ``V``, by fits of W and H in turn from a random start."""
    start = np.random.default_rng(SPLIT_SEED).uniform(size=(rank, V.shape[1]))
    learnt = torch.from_numpy(start).to(V)
    for _ in range(ROUNDS):
        W = fit_rows(V, learnt)
        learnt = fit_rows(V.T, W.T).T
    return learnt


NMF_DOCSTRINGS = TrainingTask(
    name="nmf-docstrings",
    summary="NMF of TF-IDF of docstrings at rank 10, 22,510 parameters, blocks 64x128",
    metric="excess relative squared error",
    total_steps=500,
    lrs={"sgd": 10.0, "momentum": 3.0, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.1},
    build=nmf_docstrings,
    version=DOCSTRINGS_VERSION,
)

NMF_PHOTO = TrainingTask(
    name="nmf-photo",
    summary="NMF of 2,544 patches of 8x8 pixels at rank 16, 41,728 parameters, blocks 32x16",
    metric="relative squared error",
    total_steps=1000,
    lrs={"sgd": 10.0, "momentum": 3.0, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.1},
    build=nmf_photo,
)
