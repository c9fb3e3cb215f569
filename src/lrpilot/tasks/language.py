"""A language model over bytes, trained on Python's own standard library."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lrpilot.tasks.data import PYTHON_VERSION, stdlib_source
from lrpilot.tasks.next_byte import predict_bytes
from lrpilot.tasks.training import Problem, TrainingTask, apply, initialise, weights_of

BATCH = 8  # windows
CONTEXT = 64  # bytes that a window predicts
HELD_OUT_WINDOWS = 64  # evenly spread over a held-out part
WIDTH = 64
HEADS = 4
BLOCKS = 2


class Block(nn.Module):
    """Attention to the past, then a perceptron; each normalised first and added to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(WIDTH)
        self.queries_keys_values = nn.Linear(WIDTH, 3 * WIDTH)
        self.attention_output = nn.Linear(WIDTH, WIDTH)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (windows, context, width) to the same shape."""
        x = x + self.attend(self.attention_norm(x))
        return x + self.perceptron(x)

    def attend(self, x: Tensor) -> Tensor:
        """Mix each position with those before it."""
        heads = self.queries_keys_values(x).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (windows, heads, context, width / heads)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attention_output(mixed.transpose(1, 2).flatten(-2))


class ByteTransformer(nn.Module):
    """Logits (windows, context, 256) of the next byte after each byte of (windows, context)."""

    def __init__(self) -> None:
        super().__init__()
        self.byte = nn.Embedding(256, WIDTH)
        self.position = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)), nn.LayerNorm(WIDTH))
        self.next_byte = nn.Linear(WIDTH, 256, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        """Predict the byte that follows each position from it and those before it."""
        return self.next_byte(self.blocks(self.byte(text) + self.position))


def bytes_lm(rng: np.random.Generator) -> Problem:
    """Windows of the training text at random places, against evenly spread held-out windows."""
    model = initialise(ByteTransformer, rng)
    return predict_bytes(
        lambda values, text: apply(model, values, text),
        weights_of(model),
        stdlib_source(),
        rng,
        context=CONTEXT,
        size=BATCH,
        held_out=HELD_OUT_WINDOWS,
    )


BYTES_LM = TrainingTask(
    name="bytes-lm",
    summary="2-block transformer on bytes of the standard library, 137k parameters, batch 8x64",
    metric="cross-entropy (nats per byte)",
    total_steps=400,
    lrs={"sgd": 0.3, "momentum": 0.3, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003},
    build=bytes_lm,
    batchable=False,  # no batching rule for fused attention on a CPU
    # The text is that of the running Python: 1_031_107 is version 1 on Python 3.11.7.
    version=1_000_000 + PYTHON_VERSION,
)
