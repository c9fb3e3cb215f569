"""Networks that squeeze images through a few numbers and draw them again."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.tasks.data import SPLIT_SEED, digits_matrix, shifted, shuffled_batches
from lrpilot.tasks.photographs import patches
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import (
    Batch,
    Problem,
    TrainingTask,
    Values,
    initialise,
    mean_squared_error,
    predicting,
    weights_of,
)

PATCH = 8  # pixels, each way
PATCHES_BATCH = 16
PATCHES_NOISE = 0.5  # in deviations of a pixel
PATCHES_HELD_OUT = 600

DIGITS_BATCH = 64
DIGITS_COPIES = 2
LATENT = 8
# Of a pixel in [0, 1], around its reconstruction. The smaller, the more of the bound is
# reconstruction, which training improves for long, and the less is divergence.
PIXEL_DEVIATION = 0.1


class VariationalAutoencoder(nn.Module):
    """Encoder to the mean and log variance of a code, and decoder from a code to an image."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Mean negative evidence bound of images (n, 64), in nats.

        Kingma & Welling, "Auto-Encoding Variational Bayes", 2014, eq. (10), with one sample and
        without the normal density's constant, so that it is positive. noise: (n, 8).
        """
        mean, log_variance = self.encoder(images).chunk(2, dim=-1)
        code = mean + (log_variance / 2).exp() * noise
        error = (self.decoder(code) - images).square().sum(dim=-1)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=-1) / 2
        return (error / 2 / PIXEL_DEVIATION**2 + divergence).mean()


def digits_vae(rng: np.random.Generator) -> Problem:
    """A variational autoencoder of shifted digits; the noise of its codes is in the minibatch."""
    model = initialise(VariationalAutoencoder, rng)
    images = digits_matrix()["train"].unflatten(1, (8, 8))
    batches = shuffled_batches(len(images), DIGITS_BATCH, rng)
    held_out = held_out_digits()

    def draw() -> Batch:
        return with_noise(shifted(images[next(batches)], rng), rng)

    def loss(values: Values, batch: Batch) -> Tensor:
        return torch.func.functional_call(model, dict(values), batch)

    def held_out_loss(values: Values, split: Split) -> Tensor:
        return loss(values, held_out[split])

    return Problem(parameters=weights_of(model), draw=draw, loss=loss, held_out_loss=held_out_loss)


@cache
def held_out_digits() -> dict[str, Batch]:
    """Shifted digits with the noise of their codes, by which every run is judged."""
    rng = np.random.default_rng(SPLIT_SEED)
    matrix = digits_matrix()
    return {
        part: with_noise(
            shifted(matrix[part].unflatten(1, (8, 8)).repeat(DIGITS_COPIES, 1, 1), rng), rng
        )
        for part in ("validation", "test")
    }


def with_noise(images: Tensor, rng: np.random.Generator) -> Batch:
    """Images (n, 64) from images (n, 8, 8), and as many draws of their codes' noise (n, 8)."""
    noise = rng.standard_normal((len(images), LATENT), dtype=np.float32)
    return images.flatten(1), torch.from_numpy(noise)


def patches_autoencoder(rng: np.random.Generator) -> Problem:
    """Noisy patches of two photographs, to be drawn without noise by way of 32 numbers.

    Fresh noise keeps gradients noisy however good the network is; without it a constant rate is as
    good as a falling one. Held-out patches are from other regions. Losses are mean squared errors;
    1 is the variance of the photographs' pixels.
    """
    size = 3 * PATCH * PATCH
    model = initialise(
        lambda: nn.Sequential(
            nn.Linear(size, 128),
            nn.ReLU(),
            nn.Linear(128, 32),
            nn.ReLU(),
            nn.Linear(32, 128),
            nn.ReLU(),
            nn.Linear(128, size),
        ),
        rng,
    )
    held_out = held_out_patches()
    return predicting(
        model,
        mean_squared_error,
        draw=lambda: noisy_patches("train", PATCHES_BATCH, rng),
        held_out=lambda split: held_out[split],
    )


def noisy_patches(part: str, n: int, rng: np.random.Generator) -> Batch:
    """``n`` patches (n, 192) with noise, and the same without."""
    pixels = patches(part, n, PATCH, rng).flatten(1)
    noise = torch.from_numpy(rng.standard_normal(pixels.shape, dtype=np.float32))
    return pixels + PATCHES_NOISE * noise, pixels


@cache
def held_out_patches() -> dict[str, Batch]:
    """Noisy and clean patches by which every run is judged."""
    rng = np.random.default_rng(SPLIT_SEED)
    return {part: noisy_patches(part, PATCHES_HELD_OUT, rng) for part in ("validation", "test")}


DIGITS_VAE = TrainingTask(
    name="digits-vae",
    summary="variational autoencoder 64-128-8-128-64 of moved digits, 19,792 parameters, batch 64",
    metric="negative evidence bound (nats, up to a constant)",
    total_steps=1000,
    lrs={"sgd": 1e-3, "momentum": 3e-4, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003},
    build=digits_vae,
)

PATCHES_AUTOENCODER = TrainingTask(
    name="patches-autoencoder",
    summary="autoencoder 192-128-32-128-192 of noisy 8x8 patches, 57,824 parameters, batch 16",
    metric="mean squared error / variance",
    total_steps=1000,
    lrs={"sgd": 0.3, "momentum": 0.1, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.001},
    build=patches_autoencoder,
)
