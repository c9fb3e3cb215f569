"""Fine-tune a GPT-2 by low-rank adapters: lrpilot compare examples/gpu/gpt2_lora.py:train.

Hu et al. 2021, *LoRA: Low-Rank Adaptation of Large Language Models* (arXiv 2106.09685).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from gpt2 import GPT2, load_checkpoint
from language_training import LanguageSettings, fit_language, new_model, read_parts
from run_settings import read_settings, ready_device
from torch import Tensor, nn

from lrpilot.bench import TrainingTrial

STEPS = 500
LAYERS = ("c_attn", "c_proj", "c_fc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LanguageSettings):
    """Rank 8 on the queries, keys and values of a published GPT-2.

    base: the checkpoint to begin from; has no default.
    adapt: the linear layers to adapt, by name, with commas between them.
    """

    batch: int = 8
    weight_decay: float = 0.0
    base: str = ""
    rank: int = 8
    alpha: float = 16.0
    adapt: str = "c_attn"


def train(trial: TrainingTrial) -> None:
    settings = read_settings(Settings)
    device = ready_device(settings)
    if not settings.base:
        raise ValueError(
            "LRPILOT_BASE is not set; set it to a GPT-2 checkpoint (.safetensors, a state dict of "
            "torch, or a folder with one), or make one: python examples/gpu/gpt2_pretrain.py base"
        )
    parts = read_parts(settings)
    model = new_model(settings, parts.train.tokens.vocabulary, trial.seed)
    load_checkpoint(model, Path(settings.base).expanduser())
    adapt(model, settings.adapt.split(","), settings.rank, settings.alpha)
    fit_language(trial, settings, model.to(device), parts, device, STEPS)


def adapt(model: GPT2, layers: list[str], rank: int, alpha: float) -> None:
    """Freeze the model, and put adapters beside its linear layers of these names."""
    for layer in layers:
        if layer not in LAYERS:
            raise ValueError(
                f"LRPILOT_ADAPT names {layer!r}, which is no linear layer of GPT-2; name some of "
                f"{', '.join(LAYERS)}, with commas between them"
            )
    model.requires_grad_(requires_grad=False)
    for block in model.h:
        for part in (block.attn, block.mlp):
            for name, layer in list(part.named_children()):
                if name in layers:
                    setattr(part, name, Adapted(layer, rank, alpha))


class Adapted(nn.Module):
    """W x + (alpha / r) B A x with W frozen, section 4.1.

    A is Gaussian, so that A x has the mean square of x; B is zero, so that training begins at W.
    """

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.frozen = frozen
        self.scaling = alpha / rank
        self.A = nn.Parameter(torch.randn(rank, frozen.in_features) / math.sqrt(frozen.in_features))
        self.B = nn.Parameter(torch.zeros(frozen.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(x) + (x @ self.A.T) @ self.B.T * self.scaling
