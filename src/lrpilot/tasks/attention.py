"""Transformer blocks whose attention is written out, so that runs can be batched."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class AttentionBlock(nn.Module):
    """Attention, then a perceptron; each normalised first and added to its input.

    causal: whether a position sees itself and those before it only.

    Fused attention has no batching rule on a CPU: `torch.func.vmap` would run it once per run.
    """

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads = heads
        self.causal = causal
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attention_output = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron_input = nn.Linear(width, 4 * width)
        self.perceptron_output = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, positions, width) to the same shape."""
        x = x + self.attend(self.attention_norm(x))
        hidden = self.perceptron_input(self.perceptron_norm(x))
        return x + self.perceptron_output(torch.nn.functional.gelu(hidden))

    def attend(self, x: Tensor) -> Tensor:
        """Mix each position with those it sees."""
        heads = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1))
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (n, heads, positions, width / heads)
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        if self.causal:
            positions = torch.arange(x.shape[1])
            scores = scores.masked_fill(positions > positions[:, None], -math.inf)
        return self.attention_output((scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(-2))
