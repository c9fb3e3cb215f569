"""Classifiers of handwritten digits."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lrpilot.tasks.data import augmented, digits, shuffled_batches
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import (
    Batch,
    Problem,
    TrainingTask,
    Values,
    apply,
    initialise,
    weights_of,
)

BATCH = 32


def digits_mlp(rng: np.random.Generator) -> Problem:
    """A perceptron with one hidden layer of 64, on shifted and noisy digits."""
    model = initialise(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), rng
    )
    return classify_digits(model, rng)


def digits_cnn(rng: np.random.Generator) -> Problem:
    """Two convolutions with batch norm, on shifted and noisy digits.

    Batch norm makes the loss blind to the convolutions' scale, so that the rate acts through
    direction only, as in most networks for images.
    """
    model = initialise(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8)),  # (n, 8, 8) -> (n, 1, 8, 8)
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        ),
        rng,
    )
    return classify_digits(model, rng)


def classify_digits(model: nn.Module, rng: np.random.Generator) -> Problem:
    """Train ``model`` on the digits, reshuffled at each pass and augmented anew each time."""
    examples = digits()
    train = examples["train"]
    batches = shuffled_batches(len(train.targets), BATCH, rng)

    def draw() -> Batch:
        rows = next(batches)
        return augmented(train.inputs[rows], rng), train.targets[rows]

    def loss(values: Values, batch: Batch) -> Tensor:
        images, labels = batch
        return cross_entropy(apply(model, values, images), labels)

    def held_out_loss(values: Values, split: Split) -> Tensor:
        model.eval()
        held_out = loss(values, (examples[split].inputs, examples[split].targets))
        model.train()
        return held_out

    return Problem(parameters=weights_of(model), draw=draw, loss=loss, held_out_loss=held_out_loss)


DIGITS_MLP = TrainingTask(
    name="digits-mlp",
    summary="perceptron 64-64-10 on augmented 8x8 digits, 4,810 parameters, batch 32",
    metric="cross-entropy (nats)",
    total_steps=1000,
    lrs={"sgd": 1.0, "momentum": 0.1, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.01},
    build=digits_mlp,
)

DIGITS_CNN = TrainingTask(
    name="digits-cnn",
    summary="two convolutions with batch norm on augmented 8x8 digits, 1,922 parameters, batch 32",
    metric="cross-entropy (nats)",
    total_steps=500,
    lrs={"sgd": 0.3, "momentum": 0.1, "adam": 0.03, "adamw": 0.03, "rmsprop": 0.01},
    build=digits_cnn,
    batchable=False,  # batch norm keeps statistics in the module
)
