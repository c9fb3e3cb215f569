"""Checks of what a user hands over: each names the thing, the rule, the value and the cure."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse


def check_count(name: str, count: int, least: int = 1) -> None:
    """A whole number, not below ``least``."""
    if isinstance(count, bool) or not isinstance(count, Integral):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a whole number, got {count!r}")
    if count < least:
        raise ValueError(f"{name} must be at least {least}, got {count}")


def check_number(name: str, value: float) -> None:
    """A number, not a string or a truth value."""
    if isinstance(value, bool) or not isinstance(value, Real):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_positive(name: str, value: float) -> None:
    """A number above 0 and below infinity."""
    check_number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")


def check_non_negative(name: str, matrix: np.ndarray) -> None:
    """Finite entries >= 0."""
    right = (matrix >= 0) & (matrix < math.inf)
    if not right.all():
        raise ValueError(
            f"{name} must have finite entries that are not negative, got {float(matrix[~right][0])}"
        )


def check_entries(name: str, matrix: np.ndarray) -> None:
    """Finite entries >= 0 whose squares can be summed: not too large, and not too small either."""
    check_non_negative(name, matrix)
    largest, limits = float(matrix.max(initial=0)), np.finfo(matrix.dtype)
    # Squared gradients grow with the third power; a tenth of the digits is left for sums.
    most, least = float(limits.max) ** 0.3, float(limits.tiny) ** 0.3
    if largest > most or 0 < largest < least:
        fault = "large" if largest > 1 else "small"
        raise ValueError(
            f"the largest entry of {name}, {largest:g}, is too {fault} to compute with in "
            f"{matrix.dtype}; scale {name} so that it is about 1"
        )


def check_mask(mask: np.ndarray, name: str, shape: tuple[int, ...]) -> None:
    """A mask says of each entry whether it is known."""
    if mask.dtype != bool or mask.shape != shape:
        raise ValueError(
            f"mask must be of bool and of {name}'s shape {shape}, got {mask.dtype} {mask.shape}"
        )


def check_device(device: str) -> None:
    """A device that torch has here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA raises the latter
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be one that torch can use here, got {device!r} ({reason}); "
            f"leave it out to compute on the CPU"
        ) from None


def as_numbers(name: str, matrix: Any) -> Any:
    """An array or sparse matrix of float32 or, where that is too narrow, of float64."""
    V = matrix if issparse(matrix) else np.asarray(matrix)
    kind = np.dtype(V.dtype)
    if kind.kind not in "fiub":
        raise TypeError(
            f"{name} must consist of numbers, got {kind}; convert it with astype(float)"
        )
    if V.ndim < 2:
        raise ValueError(f"{name} must be a matrix, got shape {V.shape}")
    if 0 in V.shape:
        raise ValueError(f"{name} must not be empty, got shape {V.shape}")
    narrowest = np.result_type(kind, np.float32)
    return V.astype(np.float64 if narrowest.itemsize > 8 else narrowest, copy=False)
