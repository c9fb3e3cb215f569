"""The matrices of the study, of some 600 columns each, so that thousands of runs take minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import NMF
from torch import Tensor

from lrpilot.tasks.data import digits_matrix
from lrpilot.tasks.known_factors import RANK, known_factors
from lrpilot.tasks.matrices import docstrings_matrix, photo_matrix

COLUMNS = 600
TERMS = 200  # of the docstrings, the heaviest
STARTS, PASSES = 10, 1000  # of the solver that says what is attainable


@cache
def matrix(name: str) -> tuple[Tensor, int]:
    """V (m, n) of `SOURCES`, a sample per column, thinned out evenly to `COLUMNS`; and the rank."""
    load, rank = SOURCES[name]
    rows = load()
    return rows[:: max(1, round(len(rows) / COLUMNS))].T, rank


def attainable(name: str) -> float:
    """The share of ‖V‖² that long runs of another solver leave.

    scikit-learn's coordinate descent, `PASSES` passes, the best of `STARTS` random starts.
    """
    V, rank = matrix(name)
    rows = V.T.double().numpy()
    left: list[float] = []
    for seed in range(STARTS):
        model = NMF(init="random", max_iter=PASSES, tol=0, random_state=seed)
        model.set_params(n_components=rank)
        left.append(float(np.square(rows - model.fit_transform(rows) @ model.components_).sum()))
    return min(left) / float(np.square(rows).sum())


def docstrings() -> Tensor:
    """TF-IDF of the standard library's docstrings, of the `TERMS` heaviest terms."""
    rows = docstrings_matrix()["train"]
    heaviest = rows.sum(dim=0).topk(TERMS).indices.sort().values
    return rows[:, heaviest]


def measurements() -> Tensor:
    """Wisconsin breast cancer: 569 cell nuclei by 30 features, each from 0 to 1."""
    features, _ = load_breast_cancer(return_X_y=True)
    low, high = features.min(axis=0), features.max(axis=0)
    return torch.from_numpy((features - low) / (high - low)).float()


SOURCES: Mapping[str, tuple[Callable[[], Tensor], int]] = {
    "digits": (lambda: digits_matrix()["train"], 10),
    "docstrings": (docstrings, 10),
    "photo": (lambda: photo_matrix()["train"], 10),
    "flower": (lambda: photo_matrix("flower.jpg")["train"], 10),
    "measurements": (measurements, 5),
    "known": (lambda: known_factors().V["train"], RANK),
}
"""Samples as rows, and the rank."""
