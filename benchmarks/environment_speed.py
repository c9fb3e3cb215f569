"""Steps a second of the learning environments, against DACBench's SGD environment.

A step is the same work for both: one step of AdamW on a network, and one evaluation of it on 256
validation examples, in float32 on one thread. Networks, data, minibatch sizes and horizons are the
same. So ours decide after every step here; as they are used, a decision comes after a window of 4
steps or more, which the last column has: optimizer steps a second, with evaluations per window.
Ours have each problem twice, under the actions and under the base schedule. A step of one network
counts as one, so an environment is half as fast as its networks.

DACBench's environment is the package from PyPI, in its step mode (``epoch_mode=False``). Its
instance has our network and cross-entropy; its data are ours too, as tensors in memory under a name
of their own in `torchvision.datasets`, where it looks for data sets. Real ones would be slower:
each example would be made from an image whenever it is read. The horizon is one epoch, since only
then it evaluates on all validation data at every step; otherwise on a tenth.

Times are processor time of whole episodes, with all that a reset costs. Environments take turns in
one process; figures are medians of the rounds, and ratios medians of the rounds' ratios.

    pip install --no-deps --target DIR dacbench==0.5.6 configspace==1.2.1 more-itertools \
        pandas seaborn ioh torchvision==0.28.0
    PYTHONPATH=DIR .venv/bin/python benchmarks/environment_speed.py [perceptron] [convolutions]
"""

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from lrpilot.learning import episodes
from lrpilot.learning.distributions import ACTION_OF, BASE_OF
from lrpilot.learning.environments import ScheduleEnv
from lrpilot.learning.guarded import GuardedRuns
from lrpilot.learning.net_cells import HELD_OUT, NetCell, data_of, network, problem_of
from lrpilot.learning.net_runs import runs_at
from lrpilot.learning.paired import Draw
from lrpilot.learning.vectorised import ScheduleVecEnv

STEPS = 128  # of an episode
ROUNDS = 3
AT_ONCE = (16, 48, 128)  # networks
LR = 0.01
CLASSES = 10


def cell(data: str, *, inputs: int, depth: int, width: int, batch: int) -> NetCell:
    """A network whose training set is one epoch long."""
    return NetCell(
        data=data,
        seed=0,
        inputs=inputs,
        outputs=CLASSES,
        examples=STEPS * batch,
        noise=0.05,
        depth=depth,
        width=width,
        activation="relu",
        normalised=False,
        optimizer="adamw",
        batch=batch,
        total_steps=STEPS,
    )


CELLS = {
    "perceptron": cell("mixture", inputs=20, depth=2, width=32, batch=32),  # 20-32-32-10
    "convolutions": cell("images", inputs=64, depth=2, width=8, batch=16),  # two, on 8x8 pixels
}


class Made(Dataset[tuple[Tensor, Tensor]]):
    """The examples of a cell, with the signature of torchvision's data sets."""

    def __init__(self, cell: NetCell, *, train: bool) -> None:
        data = data_of(cell)
        splits = ("train", "validation") if train else ("test",)
        self.x, self.y = (torch.cat([data[split][at] for split in splits]) for at in (0, 1))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, at: int) -> tuple[Tensor, Tensor]:
        return self.x[at], self.y[at]


Play = Callable[[], None]
"""Plays an episode."""


def dacbench(cell: NetCell) -> Play:
    """On the package's SGD environment, with ``cell`` for its one instance."""
    # Importing torchvision wants operators that its wheel has for graphics cards only.
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dacbench.benchmarks import SGDBenchmark
        from dacbench.envs import SGDInstance
        from torchvision import datasets

    def made(path: Path, *, train: bool, transform: None, download: bool = False) -> Made:
        del path, transform, download
        return Made(cell, train=train)

    datasets.Made = made
    total = cell.examples + HELD_OUT
    instance = SGDInstance(
        model=lambda: network(cell),
        optimizer_type=torch.optim.AdamW,
        optimizer_params={},
        dataset_path="",
        dataset_name="Made",
        batch_size=cell.batch,
        fraction_of_dataset=1.0,
        train_validation_ratio=(cell.examples + 0.5) / total,
        seed=0,
    )
    benchmark = SGDBenchmark()
    benchmark.config.update(
        epoch_mode=False,
        cutoff=STEPS,
        instance_set={0: instance},
        loss_function=nn.CrossEntropyLoss,
        loss_function_kwargs={"reduction": "none"},
        dataset_config={"Made": {"train_transform": None, "test_transform": None}},
    )
    env = benchmark.get_environment()

    def play() -> None:
        env.reset()
        over = False
        while not over:
            *_, over, _ = env.step(LR)

    return play


def drawing(cell: NetCell, problems: int) -> Draw:
    """Draws stacks of ``cell``, of so many base rates, all the same here."""

    def draw(rng: np.random.Generator, copies: int) -> GuardedRuns:
        problem = problem_of(cell, int(rng.integers(800)), data_of(cell))
        runs = runs_at(
            [problem],
            [LR] * problems,
            optimizer=cell.optimizer,
            total_steps=STEPS,
            copies=copies,
        )
        return GuardedRuns(runs)

    return draw


def ours(cell: NetCell, networks: int) -> Play:
    """On the environments for stable-baselines3, with half of the networks under the base."""
    env = ScheduleVecEnv(drawing(cell, networks // 2), BASE_OF["net"], ACTION_OF["net"], seed=0)
    actions = np.zeros((env.num_envs, 1), np.float32)

    def play() -> None:
        done = np.zeros(1)
        while not done.all():  # and the next stack has been drawn
            _, _, done, _ = env.step(actions)

    return play


def alone(cell: NetCell) -> Play:
    """On the environment for Gymnasium."""
    env = ScheduleEnv(drawing(cell, 1), BASE_OF["net"], ACTION_OF["net"])

    def play() -> None:
        env.reset(seed=0)
        over = False
        while not over:
            _, _, over, _, _ = env.step(np.zeros(1, np.float32))

    return play


def rate(play: Play, networks: int) -> float:
    """Steps of networks a second."""
    began = time.process_time()
    play()
    return networks * STEPS / (time.process_time() - began)


def measure(cell: NetCell) -> dict[int, tuple[float, float, float]]:
    """By networks at once, 1 for DACBench's: steps a second, their ratio, and those as used."""
    theirs = dacbench(cell)
    plays = {2: alone(cell)} | {networks: ours(cell, networks) for networks in AT_ONCE}
    found: dict[int, list[tuple[float, float, float]]] = {1: []} | {at: [] for at in plays}
    for _ in range(ROUNDS):
        once = rate(theirs, 1)
        found[1].append((once, 1.0, once))
        for networks, play in plays.items():
            with patch.object(episodes, "window_after", lambda step, total_steps: 1):
                same_work = rate(play, networks)
            found[networks].append((same_work, same_work / once, rate(play, networks)))
    return {at: median_of(values) for at, values in found.items()}


def median_of(values: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Of each number."""
    first, second, third = (statistics.median(numbers) for numbers in zip(*values, strict=True))
    return first, second, third


def main() -> None:
    torch.set_num_threads(1)
    print("| network | environment | networks at once | steps / s | against DACBench | as used |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in sys.argv[1:] or CELLS:
        for networks, (steps, ratio, used) in measure(CELLS[name]).items():
            which = {1: "DACBench", 2: "`ScheduleEnv`"}.get(networks, "`ScheduleVecEnv`")
            print(
                f"| {name} | {which} | {networks} | {steps:,.0f} | {ratio:.1f}x | {used:,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
