"""Train a ResNet on CIFAR-10 or CIFAR-100: lrpilot compare examples/gpu/cifar_resnet.py:train."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from cifar_files import Images, read_cifar
from run_settings import RunSettings, read_settings, ready_device
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from training_loop import Batch, fit

from lrpilot.bench import TrainingTrial

PAD = 4  # pixels that a crop may be off by


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """ResNet-18 for images of 32 pixels, unless told otherwise.

    width: channels of the first stage; each of the others has twice those of the one before.
    blocks: per stage, of two convolutions each: 2 make ResNet-18.
    validation: images of the training set that are held out, its last ones.
    subset: accept fewer images than are published.
    """

    width: int = 64
    blocks: int = 2
    stages: int = 4
    epochs: int = 30
    validation: int = 5000
    momentum: float = 0.9
    weight_decay: float = 5e-4
    subset: bool = False


def train(trial: TrainingTrial) -> None:
    settings = read_settings(Settings)
    device = ready_device(settings)
    cifar = read_cifar(settings.data, subset=settings.subset)
    kept = len(cifar.train.images) - settings.validation
    per_step = settings.batch * settings.accumulate
    if kept < per_step:
        raise ValueError(
            f"{max(kept, 0):,} images are left to train on, fewer than a step's {per_step:,}; "
            f"lower LRPILOT_BATCH or LRPILOT_VALIDATION ({settings.validation:,})"
        )
    to_train = Images(*(part[:kept] for part in cifar.train))
    held_out = Images(*(part[kept:] for part in cifar.train))

    torch.manual_seed(trial.seed)  # the weights; what is drawn comes from the generator below
    model = ResNet(settings.width, settings.blocks, settings.stages, cifar.class_count)
    model.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=trial.lr,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay,
    )
    normalise = Normalise(to_train.images, device)
    batches = augmented(to_train, settings.batch, np.random.default_rng(trial.seed), device)

    def draw() -> Batch:
        images, classes = next(batches)
        return normalise(images), classes

    fit(
        trial,
        settings,
        model,
        optimizer,
        total_steps=trial.steps or settings.epochs * (kept // per_step),
        draw=draw,
        loss_of=classification_loss,
        validation=in_order(held_out, settings.batch, normalise, device),
        test=in_order(cifar.test, settings.batch, normalise, device),
    )


def classification_loss(model: nn.Module, batch: Batch) -> Tensor:
    images, classes = batch
    return F.cross_entropy(model(images).float(), classes)


class ResNet(nn.Module):
    """He et al. 2016 (arXiv 1512.03385) with the stem usual for images of 32 pixels.

    That is a convolution of 3 x 3 without a stride and without pooling.
    """

    def __init__(self, width: int, blocks: int, stages: int, class_count: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(convolution(3, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        body: list[nn.Module] = []
        inside = width
        for stage in range(stages):
            outside = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                body.append(Block(inside, outside, stride))
                inside = outside
        self.body = nn.Sequential(*body)
        self.answer = nn.Linear(inside, class_count)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes)."""
        return self.answer(self.body(self.stem(images)).mean((2, 3)))


class Block(nn.Module):
    """Two convolutions and a way round them."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            convolution(inside, outside, 3, stride),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            convolution(outside, outside, 3),
            nn.BatchNorm2d(outside),
        )
        self.round: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.round = nn.Sequential(
                convolution(inside, outside, 1, stride), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.way(x) + self.round(x))


def convolution(inside: int, outside: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, size, stride, padding=size // 2, bias=False)


class Normalise:
    """From bytes to numbers of mean 0 and variance 1 per channel of the training images."""

    def __init__(self, images: np.ndarray, device: torch.device) -> None:
        counts = [np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(3)]
        share = np.stack(counts) / counts[0].sum()  # (3, 256), of each value a byte can have
        mean = share @ np.arange(256)
        deviation = np.sqrt(np.maximum(share @ np.arange(256) ** 2 - mean**2, 1e-6))
        self.mean, self.deviation = (
            torch.tensor(numbers, dtype=torch.float32).reshape(3, 1, 1).to(device)
            for numbers in (mean, deviation)
        )

    def __call__(self, images: Tensor) -> Tensor:
        scaled = (images - self.mean) / self.deviation
        return scaled.contiguous(memory_format=torch.channels_last)


def augmented(
    part: Images, batch: int, rng: np.random.Generator, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches without end: padded by 4 pixels, cropped, and flipped every other time.

    Each pass goes through the images in a new order and leaves out the last, incomplete batch. All
    images lie on the device, and so do the draws of a pass: a step copies nothing to it.
    """
    images, classes = on_device(part, device)
    padded = F.pad(images, (PAD, PAD, PAD, PAD))
    size, count = images.shape[-1], len(images)
    pixels = torch.arange(size, device=device)
    while True:
        order = torch.from_numpy(rng.permutation(count)).to(device)
        corner = torch.from_numpy(rng.integers(0, 2 * PAD + 1, (2, count, 1))).to(device)
        is_flipped = torch.from_numpy(rng.integers(0, 2, (count, 1))).to(device)
        for start in range(0, count - batch + 1, batch):
            now = slice(start, start + batch)
            rows = corner[0, now] + pixels  # (batch, 32)
            columns = corner[1, now] + torch.where(is_flipped[now] > 0, pixels.flip(0), pixels)
            which = order[now]
            # Indices of three axes around a slice: the channels come last, as in channels_last.
            cropped = padded[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
            yield cropped.permute(0, 3, 1, 2), classes[which]


def in_order(
    part: Images, batch: int, normalise: Normalise, device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    """All images of a held-out part as batches."""
    images, classes = on_device(part, device)
    return [
        (normalise(images[start : start + batch]), classes[start : start + batch])
        for start in range(0, len(images), batch)
    ]


def on_device(part: Images, device: torch.device) -> tuple[Tensor, Tensor]:
    images, classes = (torch.from_numpy(np.array(array)) for array in part)  # files are read-only
    return images.to(device), classes.to(device)
