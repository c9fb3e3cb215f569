"""Run trials in worker processes of this machine."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import cast

import torch
from threadpoolctl import threadpool_limits

from lrpilot.bench.training_function import is_function
from lrpilot.bench.trial import MEMORY_CURE, Outcome, Trial, run_trial

try:
    import resource
except ImportError:  # Windows has none
    resource = None

REPORT_EVERY = 0.02  # of a trial
TERMINATION = 2.0  # seconds that a worker has to end by itself before it is killed
LEAST_MEMORY = 2**30


@dataclass(frozen=True, slots=True)
class Advanced:
    """A worker has done ``share`` of a trial."""

    trial: Trial
    share: float


@dataclass(frozen=True, slots=True)
class Finished:
    """A trial has ended, one way or another."""

    trial: Trial
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Begun:
    """A worker has taken its trial up: from now on its time counts, not while torch is loading."""


class Worker:
    """A process of this machine, its pipe, and the trial it is at.

    time_limit: seconds that a trial may take, from when the process takes it up; None: no limit.
    memory_limit: bytes that the process may allocate (its code and shared libraries not counted);
        None: no limit. Raises ValueError where the system has no such limit.
    """

    def __init__(
        self, trial: Trial, *, time_limit: float | None = None, memory_limit: int | None = None
    ) -> None:
        check_limits(time_limit, memory_limit)
        self.time_limit = time_limit
        # Spawned, not forked: torch's threads do not survive a fork, and a spawned worker shares
        # no pipe end with its siblings, so each notices when the parent is gone.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs, memory_limit))
        with _interrupts_ignored():
            self.process.start()
        theirs.close()
        self.start(trial)

    def start(self, trial: Trial) -> None:
        """Hand over the next trial; the last one has ended."""
        self.trial = trial
        self._deadline = math.inf
        with suppress(BrokenPipeError):  # its death is noticed when the parent next listens
            self.connection.send(trial)

    def may_take(self, trial: Trial) -> bool:
        """Whether ``trial`` may follow: a training function never meets another one's modules."""
        mixes = trial.task != self.trial.task and (
            is_function(trial.task) or is_function(self.trial.task)
        )
        return self.process.is_alive() and not mixes

    @property
    def seconds_left(self) -> float:
        """Until the time limit of the trial; infinite if there is none or it is not taken up."""
        return max(self._deadline - time.monotonic(), 0.0)

    def receive(self) -> Advanced | Finished | None:
        """What has happened to the trial, if anything; a trial that has ended ends once.

        A worker that has died, or whose trial is over its time limit, has failed it.
        """
        if not self.connection.poll():
            return None if self.seconds_left > 0 else self._overdue()
        try:
            message = cast("_Begun | float | Outcome", self.connection.recv())
        except (EOFError, OSError):  # OSError: it died in the middle of a message
            return self._died()
        if isinstance(message, Outcome):
            return Finished(self.trial, message)
        if not isinstance(message, _Begun):
            return Advanced(self.trial, message)
        if self.time_limit is not None:
            self._deadline = time.monotonic() + self.time_limit
        return None

    def events(self) -> Generator[Advanced | Finished, None, None]:
        """All that happens to the trial, as it happens; waits for it to end."""
        event = None
        while not isinstance(event, Finished):
            wait([self.connection], _timeout(self.seconds_left))
            event = self.receive()
            if event is not None:
                yield event

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self.connection.close()
        self.process.terminate()
        self.process.join(TERMINATION)
        self.process.kill()
        self.process.join()

    def _overdue(self) -> Finished:
        limit = f"{self.time_limit:g} s"
        error = (
            f"the trial took longer than its time limit of {limit} and was stopped; raise the "
            f"limit, or give it fewer steps"
        )
        return self._failed(error, seconds=self.time_limit or 0.0)

    def _died(self) -> Finished:
        self.process.join(TERMINATION)
        code = self.process.exitcode
        error = f"the worker process died with exit code {code}"
        if code is not None and code < 0:
            with suppress(ValueError):  # a signal that Python has no name for
                error += f" ({signal.Signals(-code).name})"
        if code == -getattr(signal, "SIGKILL", 9):
            error += (
                f": somebody killed it, most likely the system, as the trial needed more memory "
                f"than there was; {MEMORY_CURE}"
            )
        return self._failed(error)

    def _failed(self, error: str, seconds: float = 0.0) -> Finished:
        self.process.kill()  # it may be at its trial still, and takes no other
        self.process.join()
        return Finished(self.trial, Outcome(status="failed", error=error, seconds=seconds))


def check_limits(time_limit: float | None, memory_limit: int | None) -> None:
    """Raises ValueError for a limit that no trial could keep, or that cannot be imposed here."""
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise ValueError(
            f"time_limit must be positive and finite, got {time_limit:g}; give seconds, or leave "
            f"it out for no limit"
        )
    if memory_limit is not None and memory_limit < LEAST_MEMORY:
        raise ValueError(
            f"memory_limit must be at least {LEAST_MEMORY} bytes, which a worker needs before "
            f"its trial, got {memory_limit}; None means no limit"
        )
    if memory_limit is not None and not sys.platform.startswith("linux"):
        raise ValueError(
            f"memory_limit needs Linux, this is {sys.platform}; leave it out and run fewer "
            f"trials at once"
        )


def run_trials(
    trials: Sequence[Trial],
    workers: int,
    *,
    time_limit: float | None = None,
    memory_limit: int | None = None,
) -> Generator[Advanced | Finished, None, None]:
    """Run ``trials`` in ``workers`` processes, one thread each; yield what happens as it happens.

    Every trial is finished exactly once: one that crashes its process, takes longer than
    ``time_limit`` (seconds) or needs more memory than there is, or than ``memory_limit`` (bytes per
    process, Linux only), is a failed trial and harms no other. Closing the iterator stops the
    workers and drops the trials in flight; if this process is killed, the workers end by
    themselves. Raises ValueError for a limit that cannot be kept.
    """
    waiting = list(reversed(trials))
    busy: list[Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                trial = waiting.pop()
                busy.append(Worker(trial, time_limit=time_limit, memory_limit=memory_limit))
            soonest = min(worker.seconds_left for worker in busy)
            wait([worker.connection for worker in busy], _timeout(soonest))
            for worker in [*busy]:
                event = worker.receive()
                if isinstance(event, Finished):
                    if waiting and worker.may_take(waiting[-1]):
                        worker.start(waiting.pop())
                    else:
                        busy.remove(worker)
                        worker.stop()
                if event is not None:
                    yield event
    finally:
        for worker in busy:
            worker.stop()


def _timeout(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


@contextmanager
def _interrupts_ignored() -> Generator[None, None, None]:
    """Ctrl-C is the parent's to handle: a child started here never hears of it, from the start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection, memory_limit: int | None) -> None:
    """The life of a worker: one trial after another until the parent hangs up."""
    os.dup2(2, 1)  # stdout belongs to the results; what a training function prints goes to stderr
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory(memory_limit)
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's and SciPy's own, which torch does not know of
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            trial = cast("Trial", connection.recv())
            connection.send(_Begun())
            connection.send(run_trial(trial, _Throttle(connection)))


def _end_with_parent() -> None:
    """A trial that hangs would not notice by itself that nobody is listening."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _limit_memory(limit: int | None) -> None:
    with suppress(OSError):  # where memory runs out, the system ends a worker before its parent
        Path("/proc/self/oom_score_adj").write_text("500")
    if limit is not None and resource is not None:
        # Not the address space, of which torch reserves far more than it uses.
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (limit if most < 0 else min(limit, most), most))


class _Throttle:
    """Passes a trial's progress on in steps that are worth a message."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.told = 0.0

    def __call__(self, share: float) -> None:
        if share >= self.told + REPORT_EVERY:
            self.told = share
            try:
                self.connection.send(share)
            except (BrokenPipeError, ConnectionResetError):
                os._exit(1)  # the parent is gone; a training function must not catch this
