"""Fine-tuning by low-rank factors: a model of source code learns English in capitals."""

from __future__ import annotations

from functools import cache
from pydoc_data.topics import topics

import numpy as np
import torch
from torch import Tensor

from lrpilot.tasks.data import PYTHON_VERSION
from lrpilot.tasks.next_byte import predict_bytes
from lrpilot.tasks.pretraining import source_model, source_weights
from lrpilot.tasks.training import Problem, TrainingTask, Values, apply, initialise

RANK = 4
SCALE = 2.0  # of the product; α / r of the paper

HELD_OUT_SHARE = 0.1  # of the paragraphs, for validation and for test


@cache
def manual() -> dict[str, Tensor]:
    """Python's language reference in capital letters, as bytes: English, with examples of code.

    As printed, it is so close to source code that a model of that has little left to learn. Topics
    repeat each other's paragraphs; each stands here once, in order. The first eight tenths train,
    so that nothing held out was trained on.
    """
    paragraphs = list(
        dict.fromkeys(
            stripped
            for topic in sorted(topics)
            for paragraph in topics[topic].upper().split("\n\n")
            if (stripped := paragraph.strip("\n"))
        )
    )
    held_out = round(HELD_OUT_SHARE * len(paragraphs))
    parts = {
        "train": paragraphs[: -2 * held_out],
        "validation": paragraphs[-2 * held_out : -held_out],
        "test": paragraphs[-held_out:],
    }
    return {part: as_bytes("\n\n".join(texts)) for part, texts in parts.items()}


def as_bytes(text: str) -> Tensor:
    """The text in UTF-8, a number per byte."""
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long()


def bytes_lora(rng: np.random.Generator) -> Problem:
    """Low-rank factors beside every matrix of a model that was trained on source code.

    Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, eq. (3): a frozen
    W becomes W + 2 UD. All runs begin at the trained model, as U is zero; the seed draws D.
    """
    frozen = source_weights()
    model = initialise(source_model, rng).requires_grad_(False)
    adapted = [name for name, weight in frozen.items() if weight.ndim == 2 and "blocks" in name]
    start: dict[str, Tensor] = {}
    for name in [*adapted, "answer.weight"]:
        outputs, inputs = frozen[name].shape
        start[f"{name}.up"] = torch.zeros(outputs, RANK)
        down = rng.normal(0, inputs**-0.5, size=(RANK, inputs))
        start[f"{name}.down"] = torch.from_numpy(down).float()

    def logits(values: Values, text: Tensor) -> Tensor:
        weights = dict(frozen)
        for name in [*adapted, "answer.weight"]:
            weights[name] = frozen[name] + SCALE * values[f"{name}.up"] @ values[f"{name}.down"]
        return apply(model, weights, text)

    return predict_bytes(logits, start, manual(), rng)


BYTES_LORA = TrainingTask(
    name="bytes-lora",
    summary="rank-4 fine-tuning of a code model to capital prose, 9,472 parameters, batch 16x32",
    metric="cross-entropy (nats per byte)",
    total_steps=400,
    lrs={"sgd": 0.3, "momentum": 0.1, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.003},
    build=bytes_lora,
    # Both texts are those of the running Python: 1_031_107 is version 1 on Python 3.11.7.
    version=1_000_000 + PYTHON_VERSION,
)
