"""A small language model over bytes whose runs can be batched."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lrpilot.tasks.attention import AttentionBlock
from lrpilot.tasks.data import PYTHON_VERSION, stdlib_source
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

CONTEXT = 32  # bytes that a window predicts
BATCH = 16  # windows
HELD_OUT_WINDOWS = 100  # evenly spread over a held-out part

GPT_BATCH = 8  # half, for twice the steps: gradients are noisier, and annealing pays
WIDTH = 32
HEADS = 4


class NextByte(nn.Module):
    """Logits (windows, 32, 256) of the next byte after each byte of (windows, 32)."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        self.byte = nn.Embedding(256, width)
        self.position = nn.Parameter(torch.zeros(CONTEXT, width))
        self.blocks = nn.Sequential(
            *(AttentionBlock(width, heads, causal=True) for _ in range(blocks)),
            nn.LayerNorm(width),
        )
        self.answer = nn.Linear(width, 256, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        """Predict the byte that follows each position from it and those before it."""
        return self.answer(self.blocks(self.byte(text) + self.position))


Logits = Callable[[Values, Tensor], Tensor]


def predict_bytes(
    logits: Logits,
    start: Values,
    text: Mapping[str, Tensor],
    rng: np.random.Generator,
    *,
    context: int = CONTEXT,
    size: int = BATCH,
    held_out: int = HELD_OUT_WINDOWS,
) -> Problem:
    """Windows of the training text at random places, against evenly spread held-out windows.

    logits: of the byte after each byte of windows, at the values given.
    size: of a minibatch, in windows.
    """

    def windows(part: str, starts: Tensor) -> Batch:
        found = text[part][starts[:, None] + torch.arange(context + 1)]
        return found[:, :-1], found[:, 1:]

    def draw() -> Batch:
        starts = rng.integers(len(text["train"]) - context, size=size)
        return windows("train", torch.from_numpy(starts))

    def loss(values: Values, batch: Batch) -> Tensor:
        before, after = batch
        return cross_entropy(logits(values, before).flatten(0, 1), after.flatten())

    def held_out_loss(values: Values, split: Split) -> Tensor:
        last = len(text[split]) - context - 1
        return loss(values, windows(split, torch.linspace(0, last, held_out).long()))

    return Problem(parameters=start, draw=draw, loss=loss, held_out_loss=held_out_loss)


def bytes_gpt(rng: np.random.Generator) -> Problem:
    """One block of width 32 on the source of the standard library."""
    model = initialise(lambda: NextByte(WIDTH, HEADS, blocks=1), rng)

    def logits(values: Values, text: Tensor) -> Tensor:
        return apply(model, values, text)

    return predict_bytes(logits, weights_of(model), stdlib_source(), rng, size=GPT_BATCH)


BYTES_GPT = TrainingTask(
    name="bytes-gpt",
    summary="1-block transformer on bytes of the standard library, 30,176 parameters, batch 8x32",
    metric="cross-entropy (nats per byte)",
    total_steps=1000,
    lrs={"sgd": 1.0, "momentum": 0.3, "adam": 0.03, "adamw": 0.03, "rmsprop": 0.01},
    build=bytes_gpt,
    # The text is that of the running Python: 1_031_107 is version 1 on Python 3.11.7.
    version=1_000_000 + PYTHON_VERSION,
)
