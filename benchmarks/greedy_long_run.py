"""GreedyLR over 20,000 steps at a base rate ten times too low: where its rate goes, and the loss.

Run `.venv/bin/python benchmarks/greedy_long_run.py`: about four minutes on one core.
"""

import torch

from lrpilot import Constant, Cosine, Greedy, OpenLoop, Signal, cooldown
from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.tasks import TASKS

STEPS = 20_000
LR = 0.001
SEEDS = (100, 101)
SCHEDULES = {
    "constant": OpenLoop(Constant(), STEPS),
    "cosine": OpenLoop(Cosine(), STEPS),
    "GreedyLR": Greedy(),
    "GreedyLR, cooldown 0.2": (Greedy() >> cooldown(0.2)).over(STEPS),
    "GreedyLR, untuned": Greedy.untuned(),
    "GreedyLR, untuned, cooldown 0.2": (Greedy.untuned() >> cooldown(0.2)).over(STEPS),
    "threshold rule": Greedy(test="threshold"),
    "threshold rule, min_scale 0.01": Greedy(test="threshold", min_scale=0.01),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| schedule | validation loss by seed | scale at 0, 20, 40, 60, 80 % (last seed) |")
    print("|---|---|---|")
    for name, schedule in SCHEDULES.items():
        losses = []
        for seed in SEEDS:
            run = TASKS["digits-mlp"].start(seed, OPTIMIZERS["adamw"])
            state, scales = schedule.init(), []
            for step in range(STEPS):
                if step % (STEPS // 5) == 0:
                    scales.append(f"{state.scale:.2g}")
                state = schedule.update(state, Signal(run.step(LR * state.scale)))
            losses.append(f"{run.evaluate():.3f}")
        print(f"| {name} | {', '.join(losses)} | {', '.join(scales)} |", flush=True)
