"""A pool of processes of this machine that end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import torch

ORPHANS_LOOK_EVERY = 2.0  # seconds


def spawned_pool(workers: int) -> ProcessPoolExecutor:
    """``workers`` processes of one torch thread each, deaf to Ctrl-C, their prints on stderr.

    They start with the first call that is handed over. If this process is killed, they end by
    themselves; `kill_pool` ends them at once.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _begin, (os.getpid(),))


def kill_pool(pool: ProcessPoolExecutor) -> None:
    """Kill the processes, whatever they are at."""
    # The pool's own shutdown would wait for what nobody wants any more.
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.kill()
    pool.shutdown(wait=True, cancel_futures=True)


def _begin(parent: int) -> None:
    """The start of a worker."""
    os.dup2(2, 1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHANS_LOOK_EVERY)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
