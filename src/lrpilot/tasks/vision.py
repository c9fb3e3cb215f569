"""A small vision transformer on handwritten digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from lrpilot.tasks.attention import AttentionBlock
from lrpilot.tasks.classification import classify_digits
from lrpilot.tasks.data import digits
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem, TrainingTask, Values, initialise

PATCH = 2  # pixels, each way
PATCHES = 16
WIDTH = 32
HEADS = 4
BLOCKS = 1
HELD_OUT = 600  # of 1,200 images: two copies of each, since attention makes them dear


class VisionTransformer(nn.Module):
    """Logits (n, 10) for images (n, 8, 8), which are read as 16 patches of 2x2 pixels.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, with the mean over patches in
    place of a class token.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Linear(PATCH * PATCH, WIDTH)
        # As large as a patch's own part: a mean over patches that attention cannot yet tell apart
        # knows nothing of places, and learning begins late.
        self.position = nn.Parameter(torch.randn(PATCHES, WIDTH))
        self.blocks = nn.Sequential(
            *(AttentionBlock(WIDTH, HEADS, causal=False) for _ in range(BLOCKS)),
            nn.LayerNorm(WIDTH),
        )
        self.answer = nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Classify each image."""
        grid = images.unflatten(2, (-1, PATCH)).unflatten(1, (-1, PATCH))  # (n, 4, 2, 4, 2)
        patches = grid.transpose(2, 3).flatten(3).flatten(1, 2)  # (n, 16, 4)
        mixed = self.blocks(self.patch(patches) + self.position)
        return self.answer(mixed.mean(dim=1))


def digits_vit(rng: np.random.Generator) -> Problem:
    """One block of width 32, on shifted and noisy digits; half of the held-out copies judge it."""
    problem = classify_digits(initialise(VisionTransformer, rng), rng)
    examples = digits()

    def held_out_loss(values: Values, split: Split) -> Tensor:
        images, labels = examples[split].inputs, examples[split].targets
        return problem.loss(values, (images[:HELD_OUT], labels[:HELD_OUT]))

    return replace(problem, held_out_loss=held_out_loss)


DIGITS_VIT = TrainingTask(
    name="digits-vit",
    summary="1-block vision transformer on augmented 8x8 digits, 13,770 parameters, batch 32",
    metric="cross-entropy (nats)",
    total_steps=1000,
    lrs={"sgd": 1.0, "momentum": 0.1, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003},
    build=digits_vit,
)
