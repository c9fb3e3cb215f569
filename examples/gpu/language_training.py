"""What pre-training and fine-tuning of a GPT-2 share: settings, windows and the loss."""

from dataclasses import dataclass

import numpy as np
import torch
from gpt2 import GPT2, Shape
from run_settings import RunSettings
from text_files import Parts, read_tokens, split
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from training_loop import Batch, fit

from lrpilot.bench import TrainingTrial


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageSettings(RunSettings):
    """GPT-2 as published (124M parameters with its vocabulary, 86M over bytes).

    batch: windows of ``context`` tokens per pass.
    positions: that the model has; 0 is ``context``.
    vocabulary: 0 is that of the data, see `read_tokens`.
    held_out: windows to validate on, and as many to test on.
    clip: the largest norm of the gradient; 0 leaves it as it is.
    """

    batch: int = 16
    context: int = 1024
    positions: int = 0
    layers: int = 12
    heads: int = 12
    width: int = 768
    dropout: float = 0.0
    tokenizer: str = ""
    vocabulary: int = 0
    held_out: int = 64
    weight_decay: float = 0.1
    clip: float = 1.0


def read_parts(settings: LanguageSettings) -> Parts:
    tokens = read_tokens(
        settings.data, tokenizer=settings.tokenizer, vocabulary=settings.vocabulary
    )
    return split(tokens, settings.context)


def new_model(settings: LanguageSettings, vocabulary: int, seed: int) -> GPT2:
    """A GPT-2 of the settings' size with the weights of ``seed``, on the host."""
    positions = settings.positions or settings.context
    if positions < settings.context:
        raise ValueError(
            f"LRPILOT_POSITIONS ({positions}) must be at least LRPILOT_CONTEXT "
            f"({settings.context}); lower the context"
        )
    torch.manual_seed(seed)
    shape = Shape(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
    )
    return GPT2(shape, settings.dropout)


def fit_language(
    trial: TrainingTrial,
    settings: LanguageSettings,
    model: nn.Module,
    parts: Parts,
    device: torch.device,
    total_steps: int,
) -> None:
    """Train what of ``model`` requires a gradient with AdamW on windows drawn from the seed."""
    rng = np.random.default_rng(trial.seed)

    def draw() -> Batch:
        return sent(parts.train.drawn(rng, settings.batch, settings.context), device)

    fit(
        trial,
        settings,
        model,
        adamw(model, trial.lr, settings.weight_decay),
        total_steps=trial.steps or total_steps,
        draw=draw,
        loss_of=next_token_loss,
        validation=fixed_batches(
            parts.validation.fixed(settings.held_out, settings.context), settings.batch, device
        ),
        test=fixed_batches(
            parts.test.fixed(settings.held_out, settings.context), settings.batch, device
        ),
        clip=settings.clip,
    )


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean cross-entropy per token, in nats."""
    tokens, following = batch
    return F.cross_entropy(model(tokens).float().flatten(0, 1), following.flatten())


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.AdamW:
    """Fused AdamW with the constants usual for language models; only matrices decay."""
    trained = [one for one in model.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim >= 2], "weight_decay": weight_decay},
        {"params": [one for one in trained if one.ndim < 2], "weight_decay": 0.0},
    ]
    full = [group for group in groups if group["params"]]
    return torch.optim.AdamW(full, lr=lr, betas=(0.9, 0.95), fused=True)


def sent(windows: tuple[np.ndarray, np.ndarray], device: torch.device) -> Batch:
    """The windows on the device; from pinned memory, so that the host does not wait."""
    tokens, following = (torch.from_numpy(np.ascontiguousarray(rows)) for rows in windows)
    if device.type == "cuda":
        tokens, following = tokens.pin_memory(), following.pin_memory()
    return tokens.to(device, non_blocking=True), following.to(device, non_blocking=True)


def fixed_batches(
    windows: tuple[np.ndarray, np.ndarray], batch: int, device: torch.device
) -> list[Batch]:
    tokens, following = windows
    return [
        sent((tokens[start : start + batch], following[start : start + batch]), device)
        for start in range(0, len(tokens), batch)
    ]
