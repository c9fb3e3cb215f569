"""Classifiers on the small data sets that scikit-learn ships."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from lrpilot.tasks.data import Examples, augmented, breast_cancer, digits, shuffled_batches
from lrpilot.tasks.protocol import Split
from lrpilot.tasks.training import Problem, TrainingTask, initialise


def digits_mlp(rng: np.random.Generator) -> Problem:
    """A perceptron with one hidden layer of 64, on shifted and noisy digits."""
    model = initialise(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), rng
    )
    return classify(model, digits(), cross_entropy, rng, batch=32, augment=augmented)


def digits_cnn(rng: np.random.Generator) -> Problem:
    """Two convolutions with batch norm, on shifted and noisy digits.

    Batch norm makes the loss blind to the convolutions' scale, so that the rate acts through
    direction only, as in most networks for images.
    """
    model = initialise(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8)),  # (n, 8, 8) -> (n, 1, 8, 8)
            nn.Conv2d(1, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 10),
        ),
        rng,
    )
    return classify(model, digits(), cross_entropy, rng, batch=32, augment=augmented)


def cancer_logreg(rng: np.random.Generator) -> Problem:
    """Logistic regression: convex and ill-conditioned, since many features repeat each other."""
    model = initialise(lambda: nn.Sequential(nn.Linear(30, 1), nn.Flatten(0)), rng)
    return classify(model, breast_cancer(), binary_loss, rng, batch=4)


def binary_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of one logit per row."""
    return binary_cross_entropy_with_logits(logits, targets.float())


def classify(
    model: nn.Module,
    examples: Mapping[str, Examples],
    loss: Callable[[Tensor, Tensor], Tensor],
    rng: np.random.Generator,
    *,
    batch: int,
    augment: Callable[[Tensor, np.random.Generator], Tensor] | None = None,
) -> Problem:
    """Train ``model`` on minibatches of ``batch`` rows, reshuffled at each pass."""
    train = examples["train"]
    batches = shuffled_batches(len(train.targets), batch, rng)

    def minibatch_loss() -> Tensor:
        rows = next(batches)
        inputs = train.inputs[rows]
        if augment is not None:
            inputs = augment(inputs, rng)
        return loss(model(inputs), train.targets[rows])

    def held_out_loss(split: Split) -> Tensor:
        model.eval()
        held_out = loss(model(examples[split].inputs), examples[split].targets)
        model.train()
        return held_out

    return Problem(
        parameters=list(model.parameters()),
        minibatch_loss=minibatch_loss,
        held_out_loss=held_out_loss,
    )


DIGITS_MLP = TrainingTask(
    name="digits-mlp",
    summary="perceptron 64-64-10 on augmented 8x8 digits, 4,810 parameters, batch 32",
    metric="cross-entropy (nats)",
    total_steps=1000,
    lrs={},
    build=digits_mlp,
)

DIGITS_CNN = TrainingTask(
    name="digits-cnn",
    summary="two convolutions with batch norm on augmented 8x8 digits, 3,742 parameters, batch 32",
    metric="cross-entropy (nats)",
    total_steps=500,
    lrs={},
    build=digits_cnn,
)

CANCER_LOGREG = TrainingTask(
    name="cancer-logreg",
    summary="logistic regression on 341 rows of breast cancer, 31 parameters, batch 4",
    metric="cross-entropy (nats)",
    total_steps=300,
    lrs={},
    build=cancer_logreg,
)
