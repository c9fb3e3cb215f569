"""Random small training problems: data that are made, architectures, optimizers, horizons.

None of the data of `lrpilot.tasks` is among them, so that all of those are held out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from lrpilot.learning.nmf_runs import log_uniform
from lrpilot.tasks.attention import AttentionBlock
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import (
    Batch,
    Problem,
    Values,
    apply,
    initialise,
    mean_squared_error,
    weights_of,
)

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
}
OPTIMIZERS = ("momentum", "adamw", "sgd", "rmsprop")
HELD_OUT = 256  # examples
SIDE = 8  # pixels of an image
CONTEXT = 12  # symbols of a sequence
LEAST = 0.02  # floor of a mean squared error's noise
LARGE = 700  # the first of the cells that are larger
WIDER: Mapping[str, Mapping[int, int]] = {"images": {8: 24, 16: 40}, "chains": {8: 32, 16: 64}}
WIDER_YET: Mapping[int, int] = {8: 32, 16: 64, 32: 96, 48: 128}  # of other data


@dataclass(frozen=True, slots=True, kw_only=True)
class NetCell:
    """One kind of training: all that its runs share but their seed and rate.

    data: "mixture", "teacher", "spectrum", "modular", "images" or "chains".
    examples: in the training set; few of them are learned by heart.
    noise: of targets: share of wrong labels, or deviation against that of the targets.
    """

    data: str
    seed: int
    inputs: int
    outputs: int
    examples: int
    noise: float
    depth: int
    width: int
    activation: str
    normalised: bool
    optimizer: str
    batch: int
    total_steps: int

    @property
    def is_regression(self) -> bool:
        """Whether targets are numbers."""
        return self.data in ("teacher", "spectrum")


def random_cell(seed: int) -> NetCell:
    """A cell from the distribution that policies are trained on; from `LARGE` on a larger one."""
    return small_cell(seed) if seed < LARGE else _larger(small_cell(seed))


def small_cell(seed: int) -> NetCell:
    """At most some thousand parameters and 500 steps."""
    rng = np.random.default_rng([seed, 20240301])
    data = str(
        rng.choice(
            ["mixture", "teacher", "spectrum", "modular", "images", "chains"],
            p=[0.25, 0.2, 0.1, 0.1, 0.2, 0.15],
        )
    )
    slow = data in ("images", "chains")
    inputs = {"modular": int(rng.choice([7, 11, 13])), "images": SIDE**2, "chains": 12}.get(
        data, int(rng.integers(8, 33))
    )
    outputs = {"teacher": 3, "spectrum": 1, "modular": inputs, "chains": inputs}.get(
        data, int(rng.integers(3, 11))
    )
    return NetCell(
        data=data,
        seed=seed,
        inputs=inputs,
        outputs=outputs,
        examples=round(log_uniform(rng, 128, 8192)),
        noise=float(rng.choice([0.0, 0.05, 0.2])),
        depth=int(rng.integers(1, 4)),
        width=int(rng.choice([8, 16] if slow else [8, 16, 32, 48])),
        activation=str(rng.choice(list(ACTIVATIONS))),
        normalised=bool(rng.random() < 0.3),
        optimizer=str(rng.choice(OPTIMIZERS, p=[0.35, 0.35, 0.15, 0.15])),
        batch=int(rng.choice([8, 16] if slow else [8, 16, 32, 64])),
        total_steps=round(log_uniform(rng, 100, 250 if slow else 500)),
    )


def _larger(cell: NetCell) -> NetCell:
    """Wider by about three, trained longer by two to six, on twice as many examples for each step.

    With fewer of them the most would be learned by heart, and the right rate be one that is low.
    """
    most = 4 if cell.data in WIDER else 6
    longer = log_uniform(np.random.default_rng([cell.seed, 77]), 2, most)
    return replace(
        cell,
        width=WIDER.get(cell.data, WIDER_YET)[cell.width],
        total_steps=round(longer * cell.total_steps),
        examples=round(2 * longer * cell.examples),
    )


def problem_of(cell: NetCell, seed: int, data: Mapping[str, Batch]) -> Problem:
    """A run of ``cell``: the seed decides initial weights and minibatches."""
    rng = np.random.default_rng([cell.seed, seed])
    model = initialise(lambda: network(cell), rng)
    criterion = mean_squared_error if cell.is_regression else cross_entropy
    train = data["train"]

    def draw() -> Batch:
        rows = torch.from_numpy(rng.integers(len(train[0]), size=cell.batch))
        return train[0][rows], train[1][rows]

    def loss(values: Values, batch: Batch) -> Tensor:
        inputs, targets = batch
        found = apply(model, values, inputs)
        if cell.data == "chains":
            return criterion(found.flatten(0, 1), targets.flatten())
        return criterion(found, targets)

    def held_out_loss(values: Values, split: Split) -> Tensor:
        return loss(values, data[split])

    return Problem(parameters=weights_of(model), draw=draw, loss=loss, held_out_loss=held_out_loss)


def data_of(cell: NetCell) -> dict[str, Batch]:
    """Training and held-out examples."""
    rng = np.random.default_rng([cell.seed, 7])
    total = cell.examples + 2 * HELD_OUT
    inputs, targets = MAKERS[cell.data](cell, total, rng)
    parts = {
        "train": slice(0, cell.examples),
        "validation": slice(cell.examples, cell.examples + HELD_OUT),
        "test": slice(cell.examples + HELD_OUT, total),
    }
    if not cell.is_regression and cell.data != "chains":
        wrong = rng.random(cell.examples) < cell.noise
        targets[: cell.examples][wrong] = rng.integers(cell.outputs, size=int(wrong.sum()))
    x = torch.from_numpy(inputs)
    x = x if x.dtype == torch.int64 else x.float()
    y = torch.from_numpy(targets)
    y = y.float() if cell.is_regression else y.long()
    return {part: (x[rows], y[rows]) for part, rows in parts.items()}


def network(cell: NetCell) -> nn.Module:
    """The architecture of ``cell``."""
    act, width = ACTIVATIONS[cell.activation], cell.width
    if cell.data == "images":
        layers: list[nn.Module] = [nn.Unflatten(1, (1, SIDE, SIDE)), nn.Conv2d(1, width, 3), act()]
        if cell.depth > 1:
            layers += [nn.Conv2d(width, width, 3), act()]
        side = SIDE - 2 * min(cell.depth, 2)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side**2, cell.outputs))
    if cell.data == "chains":
        return Chains(cell)
    sizes = [2 * cell.inputs if cell.data == "modular" else cell.inputs] + [width] * cell.depth
    layers = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs)]
        layers += [nn.LayerNorm(outputs)] if cell.normalised else []
        layers += [act()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], cell.outputs))


class Chains(nn.Module):
    """Logits (n, positions, symbols) of the next symbol: attention, or plain recurrence."""

    def __init__(self, cell: NetCell) -> None:
        super().__init__()
        self.symbol = nn.Embedding(cell.inputs, cell.width)
        self.answer = nn.Linear(cell.width, cell.outputs)
        self.attends = cell.depth > 1
        if self.attends:
            self.position = nn.Parameter(torch.zeros(CONTEXT, cell.width))
            self.block = AttentionBlock(cell.width, 2, causal=True)
        else:
            self.back = nn.Linear(cell.width, cell.width)

    def forward(self, symbols: Tensor) -> Tensor:
        """Predict what follows each position."""
        x = self.symbol(symbols)
        if self.attends:
            return self.answer(self.block(x + self.position))
        state, states = torch.zeros_like(x[:, 0]), []
        for at in range(x.shape[1]):
            state = torch.tanh(x[:, at] + self.back(state))
            states.append(state)
        return self.answer(torch.stack(states, 1))


Made = tuple[np.ndarray, np.ndarray]


def _mixture(cell: NetCell, n: int, rng: np.random.Generator) -> Made:
    """Gaussian clusters, two of each class."""
    centres = rng.standard_normal((2 * cell.outputs, cell.inputs)) * rng.uniform(0.5, 1.5)
    which = rng.integers(len(centres), size=n)
    scales = np.exp(rng.normal(0, 0.5, cell.inputs))  # features of unequal size
    return (centres[which] + rng.standard_normal((n, cell.inputs))) * scales, which % cell.outputs


def _teacher(cell: NetCell, n: int, rng: np.random.Generator) -> Made:
    """What a random network of one hidden layer answers, and noise."""
    x = rng.standard_normal((n, cell.inputs))
    A = rng.standard_normal((cell.inputs, 8)) / cell.inputs**0.5
    y = np.tanh(2 * x @ A) @ rng.standard_normal((8, cell.outputs)) * 10 ** rng.uniform(-1, 1)
    return x, y + max(cell.noise, LEAST) * y.std() * rng.standard_normal(y.shape)


def _spectrum(cell: NetCell, n: int, rng: np.random.Generator) -> Made:
    """Regression on features whose variances follow a power law."""
    spectrum = np.arange(1, cell.inputs + 1) ** -rng.uniform(0.5, 1.5)
    x = rng.standard_normal((n, cell.inputs)) * spectrum**0.5 * 3
    y = x @ rng.standard_normal((cell.inputs, 1))
    return x, y + max(cell.noise, LEAST) * y.std() * rng.standard_normal(y.shape)


def _modular(cell: NetCell, n: int, rng: np.random.Generator) -> Made:
    """The sum of two one-hot numbers, modulo."""
    a, b = rng.integers(cell.inputs, size=(2, n))
    hot = np.eye(cell.inputs)
    return np.concatenate([hot[a], hot[b]], axis=1) * 2, (a + b) % cell.inputs


def _images(cell: NetCell, n: int, rng: np.random.Generator) -> Made:
    """Strokes of each class's own, shifted, with noise."""
    strokes = rng.standard_normal((cell.outputs, SIDE, SIDE))
    for axis in (1, 2):
        strokes = strokes + np.roll(strokes, 1, axis) + np.roll(strokes, -1, axis)
    strokes /= strokes.std((1, 2), keepdims=True)
    which = rng.integers(cell.outputs, size=n)
    shift = rng.integers(-1, 2, size=(n, 2))
    rows = (np.arange(SIDE)[None, :, None] + shift[:, 0, None, None]) % SIDE
    columns = (np.arange(SIDE)[None, None, :] + shift[:, 1, None, None]) % SIDE
    x = strokes[which[:, None, None], rows, columns]
    x = x + rng.uniform(0.3, 1.2) * rng.standard_normal(x.shape)
    return x.reshape(n, -1), which


def _chains(cell: NetCell, n: int, rng: np.random.Generator) -> Made:
    """Markov chains of second order, each symbol after any two of some likelihood."""
    likely = rng.dirichlet(np.full(cell.inputs, 0.15), size=(cell.inputs, cell.inputs))
    steps = likely.cumsum(-1)
    text = rng.integers(cell.inputs, size=(n, CONTEXT + 1))
    for at in range(2, CONTEXT + 1):
        drawn = rng.random((n, 1))
        found = (steps[text[:, at - 2], text[:, at - 1]] < drawn).sum(-1)
        text[:, at] = np.minimum(found, cell.inputs - 1)
    return text[:, :-1], text[:, 1:]


MAKERS: Mapping[str, Callable[[NetCell, int, np.random.Generator], Made]] = {
    "mixture": _mixture,
    "teacher": _teacher,
    "spectrum": _spectrum,
    "modular": _modular,
    "images": _images,
    "chains": _chains,
}
