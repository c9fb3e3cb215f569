"""Shapes drawn on patches of photographs, without end, and a network that tells them apart."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lrpilot.tasks.data import SPLIT_SEED
from lrpilot.tasks.photographs import patches
from lrpilot.tasks.training import Batch, Problem, TrainingTask, initialise, predicting

SIZE = 16  # pixels, each way
SHAPES = 8
RADIUS = (0.4, 0.8)  # of a shape, as a share of half the patch
CENTRE = 0.25  # how far a shape's centre lies from the patch's at most, each way
CONTRAST = (1.5, 3.0)  # of a shape against the patch, in deviations of the photographs
BATCH = 32
HELD_OUT = 600  # images, for validation and for test


def drawn(part: str, n: int, rng: np.random.Generator) -> Batch:
    """``n`` images (n, 3, 16, 16) of shapes on patches of ``part``, and which shape each shows."""
    labels = rng.integers(SHAPES, size=n)
    radius = rng.uniform(*RADIUS, size=(n, 1, 1))
    centre = rng.uniform(-CENTRE, CENTRE, size=(2, n, 1, 1))
    angle = rng.uniform(0, 2 * np.pi, size=(n, 1, 1))
    along = np.linspace(-1, 1, SIZE)
    down, right = along[:, None] - centre[0], along - centre[1]  # (n, 16, 1), (n, 1, 16)
    x = (np.cos(angle) * right + np.sin(angle) * down) / radius
    y = (np.cos(angle) * down - np.sin(angle) * right) / radius
    inside = np.take_along_axis(insides(x, y), labels[None, :, None, None], axis=0)[0]
    colours = rng.uniform(*CONTRAST, size=(n, 3, 1, 1)) * rng.choice([-1, 1], size=(n, 1, 1, 1))
    background = patches(part, n, SIZE, rng).permute(0, 3, 1, 2)
    images = background + torch.from_numpy(inside[:, None] * colours).float()
    return images, torch.from_numpy(labels)


def insides(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which places (n, 16, 16) lie inside each of the shapes of radius 1 (8, n, 16, 16)."""
    distance = np.hypot(x, y)
    farther, nearer = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    return np.stack(
        [
            distance < 0.9,  # disc
            (distance < 1) & (distance > 0.55),  # ring
            farther < 0.8,  # square
            (farther < 0.9) & (farther > 0.5),  # frame
            (nearer < 0.3) & (farther < 1),  # cross
            (abs(y) < 0.35) & (abs(x) < 1),  # bar
            (y > -0.5) & (y < 1 - 1.73 * abs(x)),  # triangle
            (distance < 1) & (y > 0),  # half a disc
        ]
    )


@cache
def held_out_shapes() -> dict[str, Batch]:
    """The images that every run is judged by, on regions of the photographs of their own."""
    rng = np.random.default_rng(SPLIT_SEED)
    return {part: drawn(part, HELD_OUT, rng) for part in ("validation", "test")}


def shapes_cnn(rng: np.random.Generator) -> Problem:
    """Two convolutions without normalisation, on images that are never seen twice.

    Batch norm's running statistics would be outside the parameters, and runs could not be batched:
    `digits_cnn` has it. Units that cannot die allow for the rates at which annealing pays.
    """
    model = initialise(
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(512, SHAPES),
        ),
        rng,
    )
    held_out = held_out_shapes()
    return predicting(
        model,
        cross_entropy,
        draw=lambda: drawn("train", BATCH, rng),
        held_out=lambda split: held_out[split],
    )


SHAPES_CNN = TrainingTask(
    name="shapes-cnn",
    summary="two convolutions on streamed shapes over photo patches, 9,192 parameters, batch 32",
    metric="cross-entropy (nats)",
    total_steps=1000,
    lrs={"sgd": 0.3, "momentum": 0.03, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003},
    build=shapes_cnn,
)
