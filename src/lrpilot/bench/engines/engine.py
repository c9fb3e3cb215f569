"""Run any trials: batches of them as tensor programs, the others one by one; here or on Ray."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import cache
from itertools import pairwise
from types import TracebackType
from typing import cast

from lrpilot.bench.batched.program import run_batch, runs_per_batch
from lrpilot.bench.engines.local import Advanced, Finished, check_limits, run_trials
from lrpilot.bench.engines.pool import kill_pool, spawned_pool
from lrpilot.bench.trial import Outcome, Trial, error_text
from lrpilot.tasks import TrainingTask, find_task

ENGINES = ("local", "ray")
STORED_TOGETHER = 100  # trials


class Engine:
    """Where trials run; use as a context manager, which stops what is left running.

    kind: "local" for processes of this machine, or "ray".
    workers: processes of this machine, one thread each; batches always run here.
    address: of the Ray cluster; None starts one on this machine.
    time_limit: seconds that a trial may take; None for no limit. Not for batches.
    """

    def __init__(
        self,
        kind: str = "local",
        *,
        workers: int = 1,
        address: str | None = None,
        time_limit: float | None = None,
    ) -> None:
        if kind not in ENGINES:
            raise ValueError(f"engine must be one of {', '.join(ENGINES)}, got {kind!r}")
        if address is not None and kind != "ray":
            raise ValueError(f"address {address!r} is of a Ray cluster; add --engine ray")
        check_limits(time_limit, memory_limit=None)
        self.kind = kind
        self.workers = workers
        self.address = address
        self.time_limit = time_limit
        self._pool = BatchPool(workers)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.stop()

    @property
    def place(self) -> str:
        """Where single trials run, in words."""
        return f"{self.workers} workers" if self.kind == "local" else "a Ray cluster"

    def run(self, trials: Sequence[Trial]) -> Generator[Advanced | Finished, None, None]:
        """Every trial is finished exactly once; closing the iterator stops what is under way."""
        batched = [trial for trial in trials if trial.engine == "batched"]
        alone = [trial for trial in trials if trial.engine == "single"]
        with closing(self._pool.run(batched)) as finished:
            yield from finished
        with closing(self._run_alone(alone)) as events:
            yield from events

    def _run_alone(self, trials: Sequence[Trial]) -> Generator[Advanced | Finished, None, None]:
        if not trials:
            return (_ for _ in ())
        if self.kind == "local":
            return run_trials(trials, self.workers, time_limit=self.time_limit)
        # Loads Ray, which takes seconds, for those alone who want it.
        module = importlib.import_module("lrpilot.bench.engines.ray")
        return cast(
            "Generator[Advanced | Finished, None, None]",
            module.run_trials_on_ray(trials, self.address, time_limit=self.time_limit),
        )


class BatchPool:
    """Processes that run a batch of trials at a time each.

    They start with the first batch and stay for more, since starting one takes seconds. If this
    process is killed, they end by themselves.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, trials: Sequence[Trial]) -> Generator[Finished, None, None]:
        """Run trials of engine "batched", each finished exactly once.

        An exception fails the trials of its batch. Closing the iterator kills the processes.
        """
        waiting = batches(trials)[::-1]
        flying: dict[Future[list[Outcome]], list[Trial]] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < self.workers:
                    batch = waiting.pop()
                    flying[self._submit(batch)] = batch
                for ended in wait(flying, return_when=FIRST_COMPLETED).done:
                    batch = flying.pop(ended)
                    for trial, outcome in zip(batch, self._result(ended, batch), strict=True):
                        yield Finished(trial, outcome)
        finally:
            if flying:
                self.stop()

    def stop(self) -> None:
        """Kill the processes, whatever they are at."""
        if self._pool is not None:
            kill_pool(self._pool)
            self._pool = None

    def _submit(self, batch: list[Trial]) -> Future[list[Outcome]]:
        if self._pool is None:
            self._pool = spawned_pool(self.workers)
        try:
            return self._pool.submit(run_batch_safely, batch)
        except BrokenProcessPool:  # a process has died, and the pool with it
            self.stop()
            return self._submit(batch)

    def _result(self, ended: Future[list[Outcome]], batch: Sequence[Trial]) -> list[Outcome]:
        error = ended.exception()
        if error is None:
            return ended.result()
        text = (
            f"a worker process died ({error}), most likely as its batch needed more memory than "
            f"there was; give fewer --workers"
        )
        return [Outcome(status="failed", error=text) for _ in batch]


def in_lots(
    events: Iterable[Advanced | Finished],
) -> Generator[list[tuple[Trial, Outcome]], None, None]:
    """What has ended, to be stored: batched trials in lots, since they end together.

    Single ones take seconds each, and come as they end.
    """
    lot: list[tuple[Trial, Outcome]] = []
    for event in events:
        if not isinstance(event, Finished):
            continue
        lot.append((event.trial, event.outcome))
        if event.trial.engine == "single" or len(lot) >= STORED_TOGETHER:
            yield lot
            lot = []
    if lot:
        yield lot


def batches(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Trials dealt out into tensor programs: alike in all but schedule, rate and seed."""
    groups: dict[tuple[object, ...], list[Trial]] = {}
    for trial in trials:
        alike = (trial.task, trial.optimizer, trial.total_steps, trial.perturbation)
        groups.setdefault(alike, []).append(trial)
    found: list[list[Trial]] = []
    for group in groups.values():
        # Those of a seed side by side: each seed's minibatches are drawn in few programs.
        ordered = sorted(group, key=lambda trial: (trial.seed, trial.schedule, trial.lr))
        count = -(-len(ordered) // _size(group[0].task))
        cuts = [k * len(ordered) // count for k in range(count + 1)]
        found += [ordered[begin:end] for begin, end in pairwise(cuts)]
    return found


@cache
def _size(task: str) -> int:
    return runs_per_batch(cast("TrainingTask", find_task(task)))


def run_batch_safely(trials: list[Trial]) -> list[Outcome]:
    """`run_batch`, with an exception as the outcome of every trial."""
    try:
        return run_batch(trials)
    except Exception as error:  # whatever a task raises is its outcome
        return [Outcome(status="failed", error=error_text(error)) for _ in trials]
