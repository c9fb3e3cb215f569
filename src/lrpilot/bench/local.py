"""Run trials in worker processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

import torch

from lrpilot.bench.training_function import is_function
from lrpilot.bench.trial import Outcome, Trial, run_trial

REPORT_EVERY = 0.02  # of a trial


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


class _Worker:
    """A process, its pipe, and the trial it is at."""

    def __init__(self, trial: Trial) -> None:
        # Spawned, not forked: torch's threads do not survive a fork, and a spawned worker shares
        # no pipe end with its siblings, so each notices when the parent is gone.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_work, args=(theirs,))
        with _interrupts_ignored():
            self.process.start()
        theirs.close()
        self.start(trial)

    def start(self, trial: Trial) -> None:
        self.trial = trial
        with suppress(BrokenPipeError):  # its death is noticed when the parent next listens
            self.connection.send(trial)

    def may_take(self, trial: Trial) -> bool:
        """Whether ``trial`` may follow: a training function never meets another one's modules."""
        mixes = trial.task != self.trial.task and (
            is_function(trial.task) or is_function(self.trial.task)
        )
        return self.process.is_alive() and not mixes

    def receive(self) -> Advanced | Finished:
        """The next message; a worker that has died has failed its trial."""
        try:
            message = cast("float | Outcome", self.connection.recv())
        except (EOFError, ConnectionResetError):
            self.process.join()
            error = f"the worker process died with exit code {self.process.exitcode}"
            return Finished(self.trial, Outcome(status="failed", error=error))
        if isinstance(message, Outcome):
            return Finished(self.trial, message)
        return Advanced(self.trial, message)

    def stop(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.join()


def run_trials(trials: Sequence[Trial], workers: int) -> Generator[Advanced | Finished, None, None]:
    """Run ``trials`` in ``workers`` processes, one thread each; yield what happens as it happens.

    Every trial is finished exactly once. Closing the iterator stops the workers and drops the
    trials in flight; if this process is killed, the workers end by themselves.
    """
    waiting = list(reversed(trials))
    busy: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                busy.append(_Worker(waiting.pop()))
            for ready in wait([worker.connection for worker in busy]):
                worker = next(worker for worker in busy if worker.connection is ready)
                event = worker.receive()
                if isinstance(event, Finished):
                    if waiting and worker.may_take(waiting[-1]):
                        worker.start(waiting.pop())
                    else:
                        busy.remove(worker)
                        worker.stop()
                yield event
    finally:
        for worker in busy:
            worker.stop()


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


def _work(connection: Connection) -> None:
    """The life of a worker: one trial after another until the parent hangs up."""
    os.dup2(2, 1)  # stdout belongs to the results; what a training function prints goes to stderr
    torch.set_num_threads(1)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            trial = cast("Trial", connection.recv())
            connection.send(run_trial(trial, _Throttle(connection)))


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
