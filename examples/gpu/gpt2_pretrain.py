"""Pre-train a GPT-2 on your text: lrpilot compare examples/gpu/gpt2_pretrain.py:train.

Run as a script it trains once and saves a checkpoint, for gpt2_lora.py to begin from.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from gpt2 import GPT2, save_checkpoint
from language_training import LanguageSettings, fit_language, new_model, read_parts
from run_settings import read_settings, ready_device

from lrpilot.bench import TrainingTrial
from lrpilot.schedules import NAMED_SCHEDULES

STEPS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(LanguageSettings):
    """GPT-2, 64 windows per optimizer step."""

    accumulate: int = 4


def train(trial: TrainingTrial) -> None:
    pretrained(trial)


def pretrained(trial: TrainingTrial) -> GPT2:
    """The model after the training that the trial and the environment describe."""
    settings = read_settings(Settings)
    device = ready_device(settings)
    parts = read_parts(settings)
    model = new_model(settings, parts.train.tokens.vocabulary, trial.seed).to(device)
    fit_language(trial, settings, model, parts, device, STEPS)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train once and save a checkpoint.")
    parser.add_argument("folder", type=Path, help="where the checkpoint goes")
    parser.add_argument("--steps", type=int, help=f"optimizer steps; default: {STEPS}")
    parser.add_argument("--lr", type=float, default=6e-4, help="base rate; default: 6e-4")
    parser.add_argument("--schedule", choices=NAMED_SCHEDULES, default="cosine", metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()

    trial = TrainingTrial(
        seed=asked.seed,
        lr=asked.lr,
        steps=asked.steps,
        schedule=asked.schedule,
        on_share=lambda share: None,
    )
    try:
        save_checkpoint(pretrained(trial), asked.folder)
    except ValueError as error:
        sys.exit(f"gpt2_pretrain: {error}")
    print(f"validation loss {trial.evaluations[-1][1]:.4f}, saved in {asked.folder}")


if __name__ == "__main__":
    main()
