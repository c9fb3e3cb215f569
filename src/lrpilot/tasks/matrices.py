"""Non-negative matrices to factorise: words of docstrings, and patches of a photograph."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_sample_image
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from lrpilot.tasks.data import PYTHON_VERSION, SPLIT_SEED

TERMS = 500
WORDS = 20  # in a docstring, at least
HELD_OUT_SHARE = 0.15  # of the files, for validation and for test

# Of the library, but not about it, or not on every machine.
LEFT_OUT = {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "ensurepip"} | {
    "site-packages"
}

# The docstrings are those of the running Python: 1_031_107 is version 1 on Python 3.11.7.
DOCSTRINGS_VERSION = 1_000_000 + PYTHON_VERSION

PATCH = 8  # pixels, in either direction
BANDS = {  # of 64 pixels each, from left to right
    "train": (0, 2, 3, 5, 7, 8),
    "validation": (1, 6),
    "test": (4, 9),
}
BAND = 64


@cache
def docstrings_matrix() -> dict[str, Tensor]:
    """TF-IDF of the standard library's docstrings, as rows (n, ``TERMS``) of length 1.

    The docstrings of ``WORDS`` words or more, of modules, classes and functions. All those of a
    file are in one part, since they speak of the same things; terms and their weights come from
    the training part. The text changes with Python's version, and the losses with it.
    """
    parts = docstrings()
    vectorizer = TfidfVectorizer(
        max_features=TERMS, stop_words="english", token_pattern="[a-z]{3,}"
    )
    vectorizer.fit(parts["train"])
    rows = {part: vectorizer.transform(texts).toarray() for part, texts in parts.items()}
    return {
        part: torch.from_numpy(found[found.any(axis=1)]).float() for part, found in rows.items()
    }


@cache
def docstrings() -> dict[str, list[str]]:
    """The standard library's docstrings of ``WORDS`` words or more; each file in one part."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in folder.rglob("*.py") if public(path.relative_to(folder)))
    found = {path: texts for path in files if (texts := list(docstrings_of(path)))}
    if not found:
        raise ValueError(
            f"the standard library in {folder} has no docstrings to factorise; "
            f"use a Python that ships its *.py files"
        )
    order = np.random.default_rng(SPLIT_SEED).permutation(len(found))
    held_out = round(HELD_OUT_SHARE * len(found))
    files = list(found)
    numbers = {
        "validation": order[:held_out],
        "test": order[held_out : 2 * held_out],
        "train": order[2 * held_out :],
    }
    return {
        part: [text for at in sorted(places) for text in found[files[at]]]
        for part, places in numbers.items()
    }


def public(path: Path) -> bool:
    """Whether a file of the library counts: names with an underscore may describe the machine."""
    return not any(part in LEFT_OUT or part.startswith("_") for part in path.parts)


def docstrings_of(path: Path) -> Iterator[str]:
    """The long docstrings of one source file, outermost first."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and len(text.split()) >= WORDS:
                yield text


@cache
def photo_matrix(name: str = "china.jpg") -> dict[str, Tensor]:
    """Patches of 8x8 grey pixels of a photograph of scikit-learn's as rows (n, 64), in [0, 1].

    name: "china.jpg" or "flower.jpg". The photograph is cut into ten upright bands, each in one
        part, and each band into patches that do not overlap.
    """
    grey = load_sample_image(name).mean(axis=2) / 255  # (427, 640)
    return {
        part: torch.cat([patches(grey[:, BAND * k : BAND * (k + 1)]) for k in bands])
        for part, bands in BANDS.items()
    }


def patches(grey: np.ndarray) -> Tensor:
    """Cut an image into the patches that fit, row by row: (n, 64)."""
    height, width = (size // PATCH for size in grey.shape)
    tiles = grey[: height * PATCH, : width * PATCH].reshape(height, PATCH, width, PATCH)
    return torch.from_numpy(tiles.swapaxes(1, 2).reshape(-1, PATCH * PATCH)).float()
