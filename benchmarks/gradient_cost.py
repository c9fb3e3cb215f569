"""What it costs that a policy reads gradients and weights: a step of training with and without it.

Run `.venv/bin/python benchmarks/gradient_cost.py`: a minute on one core. A perceptron of three
layers under AdamW, batch 32: forward, backward, optimizer and scheduler. The scheduler is
`LearnedLR` with the policy "net", which reads both, and with the same policy after the weights
of these features were set to 0, so that it reads the loss alone. Medians of steps that take turns
in one process.
"""

import itertools
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from torch import nn, optim

from lrpilot.schedules import load_policy
from lrpilot.schedules.learned.features import NAMES
from lrpilot.torch import LearnedLR

WIDTHS = (16, 128, 512, 2048)
STEPS, BATCH, INPUTS = 300, 32, 64


def blind(policy):
    first, *rest = policy.weights
    first = np.array(first)
    first[NAMES.index("alignment") :] = 0
    return replace(policy, weights=(first, *rest))


class Run:
    def __init__(self, width, policy):
        torch.manual_seed(0)
        sizes = [INPUTS, width, width, 1]
        layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
        self.model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.optimizer = optim.AdamW(self.model.parameters(), lr=1e-3)
        self.scheduler = LearnedLR(self.optimizer, 100_000, policy=policy)

    def step(self, x):
        began = time.perf_counter()
        loss = (self.model(x) - x.sum(1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(loss)
        return time.perf_counter() - began


def main():
    torch.set_num_threads(1)
    policy = load_policy("net")
    print("| parameters | loss alone, \u00b5s a step | with both | ratio |")
    print("|---|---|---|---|")
    for width in WIDTHS:
        runs = Run(width, blind(policy)), Run(width, policy)
        count = sum(one.numel() for one in runs[0].model.parameters())
        steps = STEPS if width < 2048 else STEPS // 5
        data = torch.Generator().manual_seed(0)
        taken = [
            [run.step(torch.randn(BATCH, INPUTS, generator=data)) for run in runs]
            for _ in range(steps)
        ]
        without, with_them = (statistics.median(one) * 1e6 for one in zip(*taken, strict=True))
        ratio = statistics.median(b / a for a, b in taken)
        print(f"| {count:,} | {without:,.0f} | {with_them:,.0f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
