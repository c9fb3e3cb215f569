"""A store of a million trials: how fast it fills, how big it gets, and what the queries take."""

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from lrpilot.bench import Outcome, Store, Trial
from lrpilot.bench.runs import Where, counts, export, finals, find_runs

TASKS = [f"task-{number:02}" for number in range(20)]
OPTIMIZERS = ("momentum", "adamw", "rmsprop")
SCHEDULES = [f"schedule-{number:02}" for number in range(14)]
LRS = [float(f"{digit}e{power}") for power in range(-5, 0) for digit in (1, 3)][:9]
CELLS = len(TASKS) * len(OPTIMIZERS) * len(SCHEDULES) * len(LRS)

STEPS = 100
BATCH = 5000
SINGLE = 2000  # trials added one by one
REPEATS = 5


def trials(first: int = 0) -> Iterator[Trial]:
    """Seeds outermost, as a plan runs them, so that the rows of a cell lie far apart."""
    number = first
    while True:
        seed, rest = divmod(number, CELLS)
        rest, lr = divmod(rest, len(LRS))
        rest, schedule = divmod(rest, len(SCHEDULES))
        task, optimizer = divmod(rest, len(OPTIMIZERS))
        yield Trial(
            task=TASKS[task],
            task_version="1",
            optimizer=OPTIMIZERS[optimizer],
            schedule=SCHEDULES[schedule],
            settings=f"OpenLoop(shape=Shape{schedule}(), total_steps={STEPS})" + "," * 100,
            lr=LRS[lr],
            seed=seed,
            total_steps=STEPS,
        )
        number += 1


def outcomes(generator: random.Random) -> list[Outcome]:
    """A thousand of them, which trials take in turn; a hundredth diverges."""
    found: list[Outcome] = []
    for number in range(1000):
        losses = [generator.random() for _ in range(STEPS)]
        rates = [0.1 * (1 - step / STEPS) for step in range(STEPS)]
        evaluations = [(step, generator.random()) for step in range(0, STEPS + 1, 5)]
        outcome = Outcome(losses=losses, rates=rates, evaluations=evaluations, seconds=1.0)
        if number % 100:
            outcome.validation_loss, outcome.test_loss = evaluations[-1][1], losses[-1]
        else:
            outcome.status = "diverged"
        found.append(outcome)
    return found


def fill(path: Path, wanted: int, *, keep_curves: bool) -> None:
    """Up to so many trials, going on where an interrupted call stopped."""
    pool = outcomes(random.Random(0))
    with Store(path) as store:
        stored = first = sum(count.trials for count in counts(store))
        source = trials(first)
        began = time.perf_counter()
        for trial in islice(source, min(SINGLE, wanted - first)):
            store.add(trial, pool[stored % len(pool)], keep_curves=keep_curves)
            stored += 1
        if stored > first:
            tell("add", f"{(stored - first) / (time.perf_counter() - began):,.0f} trials/s")
        began, first = time.perf_counter(), stored
        while batch := list(islice(source, min(BATCH, wanted - stored))):
            each = enumerate(batch, start=stored)
            ended = [(trial, pool[number % len(pool)]) for number, trial in each]
            store.add_many(ended, keep_curves=keep_curves)
            stored += len(batch)
            print(f"\r{stored:,} of {wanted:,}", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        if stored > first:
            tell("add_many", f"{(stored - first) / (time.perf_counter() - began):,.0f} trials/s")
    size = path.stat().st_size
    tell("size", f"{size / 1e6:,.0f} MB, {size / stored:,.0f} bytes a trial")


def measure(store: Store, folder: Path) -> None:
    stored = sum(count.trials for count in counts(store))
    suite = list(islice(trials(), min(15_000, stored)))
    plan = [
        replace(trial, seed=seed, task=task)
        for seed in range(5)
        for task in TASKS[:2]
        for trial in islice(trials(), 6 * len(LRS))
    ]
    one_task, one_cell = Where(task=TASKS[7]), Where(TASKS[7], "adamw", SCHEDULES[3])
    queries: dict[str, Callable[[], int]] = {
        "missing of a suite": lambda: len(store.missing(suite)),
        "missing of a plan": lambda: len(store.missing(plan)),
        "outcomes of a plan, with curves": lambda: len(list(store.outcomes(plan))),
        "outcomes of a suite, no curves": lambda: len(list(store.outcomes(suite, curves=False))),
        "finals of a cell": lambda: len(list(finals(store, one_cell))),
        "finals of a task": lambda: len(list(finals(store, one_task))),
        "finals of a task, evaluations read": lambda: sum(
            1 for final in finals(store, one_task) if final.evaluations
        ),
        "counts of all": lambda: len(counts(store)),
        "counts of what diverged": lambda: len(counts(store, Where(status="diverged"))),
        "runs --limit 20": lambda: len(find_runs(store, limit=20).finals or ()),
        "runs --task --lr": lambda: find_runs(store, Where(task=TASKS[7], lr=LRS[4])).trials,
        "outdated": store.outdated,
        "export of a task to CSV": lambda: export(store, one_task, folder / "runs.csv"),
    }
    for name, query in queries.items():
        seconds: list[float] = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            rows = query()
            seconds.append(time.perf_counter() - began)
        first, median = seconds[0], statistics.median(seconds)
        tell(name, f"{median:.3f} s, the first time {first:.3f} s", f"{rows:,}")


def tell(name: str, figure: str, rows: str = "") -> None:
    print(f"{name:36}{rows:>9}  {figure}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="Default: a temporary folder.")
    parser.add_argument("--trials", type=int, default=1_000_000)
    parser.add_argument("--no-curves", action="store_true", help="Do not keep them.")
    parser.add_argument("--keep", action="store_true", help="Keep the store, to go on with it.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        path = folder / "store_scale.db"
        fill(path, arguments.trials, keep_curves=not arguments.no_curves)
        with Store(path) as store:
            measure(store, Path(temporary))
        if not arguments.keep:
            path.unlink()


if __name__ == "__main__":
    main()
