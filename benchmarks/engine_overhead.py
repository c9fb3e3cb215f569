"""What an engine costs: the time of many one-step trials that is not the trials' own.

    .venv/bin/python benchmarks/engine_overhead.py [trials] [address of a Ray cluster]

Overhead per trial is seconds x processes / trials, less the mean of the trials' own seconds, over
the second half of the results: in the first, a process may still be loading torch while another
works. Start is the time until the first result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable

from rich.console import Console
from rich.table import Table

from lrpilot.bench import Plan, Trial
from lrpilot.bench.engines.local import Advanced, Finished, run_trials
from lrpilot.bench.engines.ray import run_trials_on_ray

Engine = Callable[[list[Trial]], Iterable[Advanced | Finished]]


def measure(engine: Engine, trials: list[Trial], processes: int) -> list[str]:
    """Start in seconds, trials per second, own and overhead milliseconds per trial."""
    started = time.perf_counter()
    ends, own = [], []
    for event in engine(trials):
        if isinstance(event, Finished):
            assert event.outcome.status == "done", event.outcome.error
            ends.append(time.perf_counter())
            own.append(event.outcome.seconds)
    half = len(trials) // 2
    count, seconds = len(trials) - half, ends[-1] - ends[half - 1]
    own_each = sum(own[half:]) / count
    overhead = seconds * processes / count - own_each
    figures = (ends[0] - started, count / seconds, 1000 * own_each, 1000 * overhead)
    return [f"{figure:.1f}" for figure in figures]


def main(count: int, address: str | None) -> None:
    trials = Plan(
        tasks=["noisy-quadratic"], schedules=["constant"], lrs=[0.1], seeds=count, steps=1
    ).trials
    table = Table("engine", "processes", "start, s", "trials/s", "own, ms", "overhead, ms")
    for processes in (1, 2):
        local = measure(lambda trials, n=processes: run_trials(trials, n), trials, processes)
        table.add_row("local", str(processes), *local)
        on_ray = measure(
            lambda trials, n=processes: run_trials_on_ray(trials, address, in_flight=n),
            trials,
            processes,
        )
        table.add_row("ray", str(processes), *on_ray)
    Console().print(f"{count} trials of one step each")
    Console().print(table)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 6000, arguments[1] if len(arguments) > 1 else None)
