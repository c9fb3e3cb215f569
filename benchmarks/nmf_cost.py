"""What a step of the solver costs, and what memory a stream takes.

Milliseconds per step against batch and rank, medians of five rounds; what reading gradients and W
costs; then the peak memory of a process that learns from 5 or 100 pieces of the same size. One
thread, about a minute.
"""

import resource
import statistics
import subprocess
import sys
import time

import numpy as np
import torch

from lrpilot.nmf import Settings, Solver, StochasticNMF, random_start

STEPS = 40
PIECE = (2000, 500)  # samples, features: 8 MB


def milliseconds(batch, rank):
    V = torch.rand(512, 8192, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    solver = Solver(V, random_start(V, rank, rng), Settings(batch=batch), rng)
    solver.step()
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(STEPS):
            solver.step()
        rounds.append(1000 * (time.perf_counter() - began) / STEPS)
    return statistics.median(rounds)


def reading(samples, features, rank):
    """How much longer a fit takes under a policy, which reads gradients and W, than under greedy,
    which reads the loss: the median of paired rounds, in processor time."""
    X = np.random.default_rng(0).random((samples, features), dtype=np.float32)
    ratios = []
    for _ in range(7):
        spent = {}
        for schedule in ("learned", "greedy"):
            began = time.process_time()
            StochasticNMF(rank, schedule=schedule, max_iter=4, random_state=0).fit(X)
            spent[schedule] = time.process_time() - began
        ratios.append(spent["learned"] / spent["greedy"])
    return statistics.median(ratios)


def learn(pieces):
    """Peak memory of this process in MB after so many pieces."""
    rng = np.random.default_rng(0)
    model = StochasticNMF(10, random_state=0)
    for _ in range(pieces):
        model.partial_fit(rng.random(PIECE))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def main():
    torch.set_num_threads(1)
    print("| batch (rank 20) | ms per step |\n|---|---|")
    for batch in (128, 256, 512, 1024, 2048):
        print(f"| {batch} | {milliseconds(batch, 20):.2f} |", flush=True)
    print("| rank (batch 1024) | ms per step |\n|---|---|")
    for rank in (10, 20, 40, 80, 160):
        print(f"| {rank} | {milliseconds(1024, rank):.2f} |", flush=True)
    print("| samples x features, rank | learned over greedy |\n|---|---|")
    for shape in ((2000, 64, 8), (8192, 512, 20)):
        print(f"| {shape[0]} x {shape[1]}, {shape[2]} | {reading(*shape):.2f} |", flush=True)
    print("| pieces of 8 MB | peak memory, MB |\n|---|---|")
    for pieces in (5, 20, 100):
        run = [sys.executable, __file__, str(pieces)]
        peak = subprocess.run(run, capture_output=True, text=True, check=True).stdout
        print(f"| {pieces} | {float(peak):.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        learn(int(sys.argv[1]))
    else:
        main()
