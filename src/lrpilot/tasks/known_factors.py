"""A non-negative matrix whose factors are known, so that it can be seen whether they are found."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lrpilot.tasks.data import SPLIT_SEED, split_rows
from lrpilot.tasks.factorisation import factorise, squared_norm
from lrpilot.tasks.nonnegative import fit_rows
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem, TrainingTask, Values

ROWS, FEATURES, RANK = 900, 60, 8
HELD_OUT = 150  # rows each for validation and test
USED, FILLED = 0.4, 0.3  # shares of W and of H that are not 0, without which H is not unique
NOISE = 0.1  # deviation, in means of WH
BLOCK = (64, 16)


class Known(NamedTuple):
    """H (``RANK``, ``FEATURES``), and by part the rows of WH (n, ``FEATURES``) and of V."""

    H: Tensor
    clean: dict[str, Tensor]
    V: dict[str, Tensor]


@cache
def known_factors() -> Known:
    """V = [WH + noise]₊ with sparse W and H, their entries exponentially distributed."""
    rng = np.random.default_rng(SPLIT_SEED)
    W, H = (
        rng.exponential(size=shape) * (rng.random(shape) < share)
        for shape, share in (((ROWS, RANK), USED), ((RANK, FEATURES), FILLED))
    )
    clean = W @ H
    noisy = clean + NOISE * clean.mean() * rng.standard_normal(clean.shape)
    parts = split_rows(ROWS, HELD_OUT)
    return Known(
        torch.from_numpy(H).float(),
        *(
            {part: torch.from_numpy(rows[at]).float() for part, at in parts.items()}
            for rows in (clean, noisy.clip(min=0))
        ),
    )


def recovery(H: Tensor) -> float:
    """How much of the known H is found: the mean cosine of each of its rows with a row of ``H``.

    Each row of ``H`` (r, ``FEATURES``) stands for one known row at most; the best such matching.
    1 is all of it; rows of V, drawn at random, reach 0.7 on average.
    """
    cosines = unit(known_factors().H) @ unit(H).T
    known, found = linear_sum_assignment(cosines, maximize=True)
    return float(cosines[known, found].sum()) / RANK


def unit(H: Tensor) -> Tensor:
    """The rows of ``H`` at length 1, in float64; rows of zeros stay."""
    rows = H.detach().double()
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)


def nmf_known(rng: np.random.Generator) -> Problem:
    """Factors that are known to be there, sparse enough to be the only ones, under a little noise.

    Held-out rows get the best coefficients for the H that the run learnt, and what these make is
    compared with the rows as they were before the noise: H is judged by what is true, not by what
    is seen. `recovery` compares H itself.
    """
    known = known_factors()

    def held_out_loss(values: Values, split: Split) -> Tensor:
        fitted = fit_rows(known.V[split], values["H"]) @ values["H"]
        return squared_norm(known.clean[split] - fitted) / squared_norm(known.clean[split])

    return factorise(known.V, RANK, BLOCK, rng, held_out_loss=held_out_loss)


NMF_KNOWN = TrainingTask(
    name="nmf-known",
    summary="NMF of 600 rows with known factors at rank 8, 5,280 parameters, blocks 64x16",
    metric="relative squared error without noise",
    total_steps=500,
    lrs={"sgd": 30.0, "momentum": 10.0, "adam": 0.1, "adamw": 0.1, "rmsprop": 0.1},
    build=nmf_known,
)
