"""Data that needs no download, split once and for all.

The splits and the held-out copies come from a constant, never from a trial's seed: seeds then
differ in what training did, not in what was measured. Tensors are cached per process and shared
by its runs; nobody writes into them.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor

SPLIT_SEED = 20240229  # changing it changes every split; raise every task's version with it

DIGITS_SHIFT = 1  # pixels, in either direction
DIGITS_NOISE = 0.5  # standard deviations of a pixel
DIGITS_COPIES = 4  # augmented copies of each held-out image

# For the versions of tasks whose text is that of the running Python: 31_107 is Python 3.11.7.
PYTHON_VERSION = int("{}{:02}{:02}".format(*sys.version_info))

SOURCE_SIZES = {"train": 1_000_000, "validation": 100_000, "test": 100_000}  # bytes, at least


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs and their targets, row by row."""

    inputs: Tensor
    targets: Tensor


@cache
def digits() -> dict[str, Examples]:
    """Handwritten digits: 1,197 training images; 300 for validation and 300 for test.

    Inputs (n, 8, 8) are standardised with one mean and one deviation, since corner pixels are
    constant. Each held-out image stands there in four augmented copies: the loss is then that of
    the distribution trained on, and smoother than that of 300 clean images.
    """
    pixels, labels = load_digits(return_X_y=True)
    parts = split_rows(len(pixels), held_out=300)
    train = pixels[parts["train"]]
    images = ((pixels - train.mean()) / train.std()).reshape(-1, 8, 8)
    examples = {part: as_examples(images[rows], labels[rows]) for part, rows in parts.items()}
    rng = np.random.default_rng(SPLIT_SEED)
    for part in ("validation", "test"):
        copies = augmented(examples[part].inputs.repeat(DIGITS_COPIES, 1, 1), rng)
        examples[part] = Examples(copies, examples[part].targets.repeat(DIGITS_COPIES))
    return examples


def augmented(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift each image (n, 8, 8) by up to a pixel each way, and add noise to its pixels.

    Without this, a small network learns 1,197 digits by heart, and its validation loss rises.
    """
    moved = shifted(images, rng)
    noise = rng.standard_normal(images.shape, dtype=np.float32)
    return moved + DIGITS_NOISE * torch.from_numpy(noise)


def shifted(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift each image (n, 8, 8) by up to a pixel each way; what comes in is background."""
    n, height, width = images.shape
    background = images.min().item()
    padded = torch.nn.functional.pad(images, (DIGITS_SHIFT,) * 4, value=background)
    corners = torch.from_numpy(rng.integers(2 * DIGITS_SHIFT + 1, size=(2, n, 1, 1)))
    rows = corners[0] + torch.arange(height)[:, None]  # (n, height, 1)
    columns = corners[1] + torch.arange(width)  # (n, 1, width)
    return padded[torch.arange(n)[:, None, None], rows, columns]


@cache
def breast_cancer() -> dict[str, Examples]:
    """Wisconsin breast cancer: 341 training rows; 114 for validation and 114 for test.

    30 features, standardised with the mean and deviation of the training rows; targets 0 or 1.
    """
    features, labels = load_breast_cancer(return_X_y=True)
    parts = split_rows(len(features), held_out=114)
    train = features[parts["train"]]
    features = (features - train.mean(axis=0)) / train.std(axis=0)
    return {part: as_examples(features[rows], labels[rows]) for part, rows in parts.items()}


@cache
def digits_matrix() -> dict[str, Tensor]:
    """The same digits as the rows of a matrix (n, 64) with entries in [0, 1], not standardised."""
    pixels, _ = load_digits(return_X_y=True)
    parts = split_rows(len(pixels), held_out=300)
    return {part: torch.from_numpy(pixels[rows] / 16).float() for part, rows in parts.items()}


@cache
def stdlib_source() -> dict[str, Tensor]:
    """The source of Python's own public modules, as bytes: about 1 MB to train on.

    Files in the order of their names; the first megabyte trains, the next files validate, the next
    test, so that no file is in two parts. Names that begin with an underscore are left out, because
    some describe the machine. The text changes with Python's version, and the losses with it.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = iter(sorted(path for path in folder.glob("*.py") if not path.name.startswith("_")))
    return {part: read_bytes(files, size, folder) for part, size in SOURCE_SIZES.items()}


def read_bytes(files: Iterator[Path], size: int, folder: Path) -> Tensor:
    """Read whole files until there are ``size`` bytes or more."""
    text = bytearray()
    for path in files:
        text += path.read_bytes()
        if len(text) >= size:
            return torch.frombuffer(text, dtype=torch.uint8).long()
    raise ValueError(
        f"the standard library in {folder} has too little source for a language model; "
        f"use a Python that ships its *.py files"
    )


def split_rows(n: int, held_out: int) -> dict[str, np.ndarray]:
    """Deal ``n`` row numbers out at random: ``held_out`` each for validation and test."""
    order = np.random.default_rng(SPLIT_SEED).permutation(n)
    return {
        "validation": order[:held_out],
        "test": order[held_out : 2 * held_out],
        "train": order[2 * held_out :],
    }


def as_examples(inputs: np.ndarray, targets: np.ndarray) -> Examples:
    """Inputs as float32 and targets as integers."""
    return Examples(torch.from_numpy(inputs).float(), torch.from_numpy(targets).long())


def shuffled_batches(n: int, size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Row numbers, ``size`` at a time, each row once per pass; a pass's remainder is dropped."""
    while True:
        order = torch.from_numpy(rng.permutation(n))
        yield from order[: n - n % size].split(size)
