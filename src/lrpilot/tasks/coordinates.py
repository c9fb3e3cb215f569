"""A network that is a photograph: it maps places to colours."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import nn

from lrpilot.tasks.data import SPLIT_SEED, Examples, split_rows
from lrpilot.tasks.photographs import photographs
from lrpilot.tasks.training import (
    Batch,
    Problem,
    TrainingTask,
    initialise,
    mean_squared_error,
    predicting,
)

FREQUENCIES = 64
BANDWIDTH = 6.0  # deviation of a frequency, in periods per half of the photograph's width
HIDDEN = 64
BATCH = 256
HELD_OUT = 1000  # pixels, for validation and for test


@cache
def pixels() -> dict[str, Examples]:
    """Every pixel of the flower: Fourier features of its place (n, 128), and its colour (n, 3).

    The features are those of Tancik et al., "Fourier Features Let Networks Learn High Frequency
    Functions in Low Dimensional Domains", NeurIPS 2020, eq. (5); their frequencies are the same for
    every run, so that features are computed once. Pixels are dealt out to the parts at random.
    """
    colours = torch.cat([part[1] for part in photographs().values()], dim=1)  # (427, 640, 3)
    colours = (colours - colours.mean()) / colours.std()
    height, width, _ = colours.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((rows, columns), dim=-1).flatten(0, 1) / (width / 2) - 1
    rng = np.random.default_rng(SPLIT_SEED)
    frequencies = torch.from_numpy(rng.normal(0, BANDWIDTH, size=(2, FREQUENCIES))).float()
    angles = 2 * math.pi * places @ frequencies
    features = torch.cat((angles.sin(), angles.cos()), dim=-1)
    return {
        part: Examples(features[rows], colours.flatten(0, 1)[rows])
        for part, rows in split_rows(height * width, held_out=HELD_OUT).items()
    }


def flower_coordinates(rng: np.random.Generator) -> Problem:
    """Random pixels of one photograph, against others of it.

    Losses are mean squared errors; 1 is the variance of the photograph.
    """
    model = initialise(
        lambda: nn.Sequential(
            nn.Linear(2 * FREQUENCIES, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 3),
        ),
        rng,
    )
    examples = pixels()
    train = examples["train"]

    def draw() -> Batch:
        rows = torch.from_numpy(rng.integers(len(train.inputs), size=BATCH))
        return train.inputs[rows], train.targets[rows]

    return predicting(
        model,
        mean_squared_error,
        draw=draw,
        held_out=lambda split: (examples[split].inputs, examples[split].targets),
    )


FLOWER_COORDINATES = TrainingTask(
    name="flower-coordinates",
    summary="Fourier-feature perceptron 128-64-64-3 of a photograph, 12,611 parameters, batch 256",
    metric="mean squared error / variance",
    total_steps=1000,
    lrs={"sgd": 1.0, "momentum": 0.3, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003},
    build=flower_coordinates,
)
