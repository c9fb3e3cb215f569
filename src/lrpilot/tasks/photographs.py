"""Two photographs that scikit-learn bundles, cut into regions to train on and to be judged by."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

# Columns of each photograph, which is 640 wide; no pixel is in two parts.
REGIONS = {"train": slice(0, 448), "validation": slice(448, 544), "test": slice(544, 640)}


@cache
def photographs() -> dict[str, Tensor]:
    """The parts of both photographs (2, 427, columns, 3), standardised as a whole.

    The first is of a temple, the second of a flower.
    """
    pixels = np.stack(load_sample_images().images).astype(np.float32)
    train = pixels[:, :, REGIONS["train"]]
    pixels = (pixels - train.mean()) / train.std()
    return {part: torch.from_numpy(pixels[:, :, columns]) for part, columns in REGIONS.items()}


def patches(part: str, n: int, size: int, rng: np.random.Generator) -> Tensor:
    """``n`` square patches (n, size, size, 3) at random places of random photographs."""
    images = photographs()[part]
    count, height, width, _ = images.shape
    which = torch.from_numpy(rng.integers(count, size=(n, 1, 1)))
    top = torch.from_numpy(rng.integers(height - size + 1, size=(n, 1, 1)))
    left = torch.from_numpy(rng.integers(width - size + 1, size=(n, 1, 1)))
    along = torch.arange(size)
    return images[which, top + along[:, None], left + along]
