"""Short one-dimensional signals, drawn afresh without end, and networks that classify them.

The setting is that of MNIST-1D (Greydanus & Kobak, "Scaling Down Deep Learning with MNIST-1D",
ICML 2024): ten templates, each stretched, shifted, sheared and buried in smooth noise. The
templates and the generator are our own.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lrpilot.tasks.data import SPLIT_SEED
from lrpilot.tasks.training import Batch, Problem, TrainingTask, initialise, predicting

# Heights of ten curves at evenly spaced places; a signal runs straight from one to the next.
TEMPLATES = np.array(
    [
        [0.0, 0.6, 1.0, 0.6, 0.0, -0.6, -1.0, -0.6, 0.0],  # a wave
        [0.0, -0.8, 0.0, 0.8, 0.0, -0.8, 0.0, 0.8, 0.0],  # two, upside down
        [0.0, 0.2, 0.5, 0.8, 1.0, 0.8, 0.5, 0.2, 0.0],  # a hill
        [0.0, 0.9, 0.9, 0.3, 0.0, 0.3, 0.9, 0.9, 0.0],  # two hills
        [0.0, 0.9, 1.0, 0.9, 1.0, 0.9, 1.0, 0.9, 0.0],  # a plateau
        [0.0, -0.2, -0.4, -0.6, -0.8, -1.0, 0.3, 0.2, 0.0],  # a slope, then a jump
        [0.0, 1.0, -1.0, 0.5, -0.5, 0.2, -0.2, 0.1, 0.0],  # a decay that rings
        [0.0, 0.1, -0.1, 0.2, -0.2, 0.5, -0.5, 1.0, 0.0],  # one that swells
        [0.0, 0.7, 0.7, 0.7, 0.7, -0.7, -0.7, -0.7, 0.0],  # a step
        [0.0, -0.4, -0.8, -0.4, 0.8, 0.4, -0.8, -0.4, 0.0],  # a spike in a valley
    ]
)
LENGTH = 40  # numbers in a signal
STRETCH = (0.35, 0.8)  # a template's length, as a share of the signal's
HEIGHT = (0.6, 1.4)
SHEAR = 1.0  # the steepest line that is added, from one end to the other
NOISE = 0.25  # deviation of the smooth part; the rough part has half of it
BUMP = np.array([0.25, 0.5, 0.7, 0.5, 0.25]) / np.sqrt(1.115)  # smooths noise, keeps its variance

BATCH = 64
HELD_OUT = 1000  # signals, for validation and for test

HIDDEN = 100

PIECE = 2  # numbers that the recurrent network reads at a time
STATE = 32


def signals(n: int, rng: np.random.Generator) -> Batch:
    """Draw ``n`` signals (n, 40), and which of the ten templates each shows."""
    labels = rng.integers(len(TEMPLATES), size=n)
    lengths = rng.uniform(*STRETCH, size=(n, 1))
    begins = rng.uniform(0, 1 - lengths)
    heights = rng.uniform(*HEIGHT, size=(n, 1))
    lines = rng.uniform(-SHEAR, SHEAR, size=(n, 1)) * np.linspace(-0.5, 0.5, LENGTH)
    # Where in its template each number lies, in units of the template's own spacing; what lies
    # beyond an end is there, where all templates are zero.
    last = TEMPLATES.shape[1] - 1
    places = ((np.linspace(0, 1, LENGTH) - begins) / lengths * last).clip(0, last)
    before = np.minimum(places.astype(np.int64), last - 1)
    left, right = TEMPLATES[labels[:, None], before], TEMPLATES[labels[:, None], before + 1]
    shapes = heights * (left + (places - before) * (right - left))
    rough = rng.standard_normal((n, LENGTH + len(BUMP) - 1))
    smooth = sum(weight * rough[:, k : k + LENGTH] for k, weight in enumerate(BUMP))
    noisy = shapes + lines + NOISE * smooth + NOISE / 2 * rng.standard_normal((n, LENGTH))
    return torch.from_numpy(noisy).float(), torch.from_numpy(labels)


@cache
def held_out_signals() -> dict[str, Batch]:
    """The signals that every run is judged by."""
    rng = np.random.default_rng(SPLIT_SEED)
    return {part: signals(HELD_OUT, rng) for part in ("validation", "test")}


def waves_mlp(rng: np.random.Generator) -> Problem:
    """A perceptron with two hidden layers."""
    model = initialise(
        lambda: nn.Sequential(
            nn.Linear(LENGTH, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, 10),
        ),
        rng,
    )
    return classify_waves(model, rng)


def waves_gru(rng: np.random.Generator) -> Problem:
    """A gated recurrent network, which reads two numbers at a time and answers at the end."""
    return classify_waves(initialise(GatedRecurrence, rng), rng)


class GatedRecurrence(nn.Module):
    """Logits (n, 10) for signals (n, 40), by gated recurrent units.

    Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP 2014, with the
    reset gate behind the recurrent product, as in cuDNN. Written out, since fused ones cannot be
    batched over runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(PIECE, 3 * STATE)
        self.recur = nn.Linear(STATE, 3 * STATE)
        self.answer = nn.Linear(STATE, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Classify each signal by the state after its last piece."""
        read = self.read(x.unflatten(-1, (-1, PIECE)))  # (n, 20, 96)
        state = read.new_zeros(len(x), STATE)
        for piece in read.unbind(dim=1):
            gates_read, candidate_read = piece.split((2 * STATE, STATE), dim=-1)
            gates_kept, candidate_kept = self.recur(state).split((2 * STATE, STATE), dim=-1)
            reset, update = (gates_read + gates_kept).sigmoid().chunk(2, dim=-1)
            candidate = (candidate_read + reset * candidate_kept).tanh()
            state = torch.lerp(candidate, state, update)
        return self.answer(state)


def classify_waves(model: nn.Module, rng: np.random.Generator) -> Problem:
    """Train ``model`` on signals that are never seen twice."""
    held_out = held_out_signals()
    return predicting(
        model,
        cross_entropy,
        draw=lambda: signals(BATCH, rng),
        held_out=lambda split: held_out[split],
    )


WAVES_MLP = TrainingTask(
    name="waves-mlp",
    summary="perceptron 40-100-100-10 on streamed 1-D signals, 15,210 parameters, batch 64",
    metric="cross-entropy (nats)",
    total_steps=1500,
    lrs={"sgd": 1.0, "momentum": 0.1, "adam": 0.01, "adamw": 0.01, "rmsprop": 0.01},
    build=waves_mlp,
)

WAVES_GRU = TrainingTask(
    name="waves-gru",
    summary="gated recurrent network on streamed 1-D signals, 3,786 parameters, batch 64",
    metric="cross-entropy (nats)",
    total_steps=500,
    lrs={"sgd": 3.0, "momentum": 1.0, "adam": 0.03, "adamw": 0.03, "rmsprop": 0.03},
    build=waves_gru,
)
