"""On an accelerator: no synchronising call, the cost per step, and capture in a CUDA graph.

Run `python benchmarks/device_evidence.py` where torch sees a CUDA device; elsewhere it says so and
stops. Three parts:

1. 1,000 training steps with `ScheduledLR` fed device losses at its default lag, and with
   `InGraphGreedyLR`, under `torch.cuda.set_sync_debug_mode("error")`, which raises at any
   operation that waits for the device; then the same under torch's profiler, counting the calls
   that wait.
2. Microseconds per scheduler step with a device loss, medians of interleaved repetitions, beside
   `ReduceLROnPlateau` and `transformers.GreedyLR`, which read the loss at once.
3. A training step with a capturable optimizer and `InGraphGreedyLR`, captured in one CUDA graph;
   rates and weights after 1,000 replays equal those of the eager loop.
"""

import statistics
import sys
import time

import torch
from torch import nn, optim
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.profiler import ProfilerActivity, profile
from transformers.optimization import GreedyLR as Theirs

from lrpilot import Greedy
from lrpilot.torch import GreedyLR, InGraphGreedyLR

STEPS = 1000
WAITING = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "aten::item")
EAGER = Greedy(factor=0.5, window=5)


def training(*, capturable: bool = False):
    torch.manual_seed(0)
    device = torch.device("cuda")
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 1)).to(device)
    rate = torch.tensor(1e-3, device=device)
    optimizer = optim.AdamW(model.parameters(), lr=rate, capturable=capturable)
    inputs = torch.randn(128, 256, device=device)
    targets = inputs.sum(1, keepdim=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = (model(inputs) - targets).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step


def loop(make, steps: int) -> None:
    _, optimizer, step = training(capturable=True)
    scheduler = make(optimizer)
    for _ in range(20):  # allocations and compilation of kernels may wait
        scheduler.step(step())
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(steps):
            scheduler.step(step())
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waiting_calls(make) -> dict[str, int]:
    _, optimizer, step = training(capturable=True)
    scheduler = make(optimizer)
    for _ in range(20):
        scheduler.step(step())
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        for _ in range(STEPS):
            scheduler.step(step())
    return {e.key: e.count for e in found.key_averages() if e.key.startswith(WAITING)}


def microseconds(make) -> float:
    _, optimizer, _ = training(capturable=True)
    scheduler = make(optimizer)
    losses = torch.rand(STEPS, device="cuda")
    torch.cuda.synchronize()
    started = time.perf_counter()
    for loss in losses:
        scheduler.step(loss)
    return (time.perf_counter() - started) / STEPS * 1e6


def captured_equals_eager() -> tuple[bool, int]:
    runs = []
    for capture in (False, True):
        model, optimizer, step = training(capturable=True)
        scheduler = InGraphGreedyLR(optimizer, EAGER)

        def whole(step=step, scheduler=scheduler):
            scheduler.step(step())

        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                whole()
        torch.cuda.current_stream().wait_stream(side)
        if capture:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                whole()
            run = graph.replay
        else:
            run = whole
        rates = []
        for _ in range(STEPS):
            run()
            rates.append(optimizer.param_groups[0]["lr"].item())
        runs.append((rates, [p.detach().clone() for p in model.parameters()]))
    (eager_rates, eager), (rates, weights) = runs
    same = eager_rates == rates and all(map(torch.equal, eager, weights))
    return same, len(set(rates))


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here, so there is nothing to show")
    print(torch.cuda.get_device_name(), "torch", torch.__version__)
    ours = {"GreedyLR, lag 4": GreedyLR, "InGraphGreedyLR": InGraphGreedyLR}
    peers = {"ReduceLROnPlateau": ReduceLROnPlateau, "transformers.GreedyLR": Theirs}
    for name, make in ours.items():
        loop(make, STEPS)
        print(f"{name}: {STEPS} steps, no call waited for the device")
    for name, make in (ours | peers).items():
        print(f"{name}: calls that may wait in {STEPS} profiled steps: {waiting_calls(make)}")
    times = {name: [] for name in ours | peers}
    for _ in range(7):
        for name, make in (ours | peers).items():
            times[name].append(microseconds(make))
    for name, found in times.items():
        print(f"{name}: {statistics.median(found):.1f} microseconds per step")
    same, rates = captured_equals_eager()
    print(f"captured in a CUDA graph: equal to the eager loop: {same}; {rates} different rates")


if __name__ == "__main__":
    main()
