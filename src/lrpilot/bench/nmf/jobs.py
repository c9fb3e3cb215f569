"""Run each job of the study once: what it found stands in a table of its own in a store."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime

from rich.console import Console
from rich.progress import Progress

from lrpilot.bench.engines.pool import kill_pool, spawned_pool
from lrpilot.bench.store import Store

TABLE = """
CREATE TABLE IF NOT EXISTS nmf_study (
    key TEXT PRIMARY KEY,  -- JSON: all that the numbers depend on
    numbers BLOB NOT NULL,  -- float64
    finished TEXT NOT NULL
)"""


def numbers_of(
    wanted: Mapping[str, Callable[[], list[float]]], store: Store, workers: int, console: Console
) -> dict[str, list[float]]:
    """What each of ``wanted`` returns, by its key: from the store, or run in worker processes.

    wanted: functions that can be pickled, by all that their numbers depend on.

    Numbers are stored as their job ends. Raises StoreError; ChildProcessError if a worker dies.
    """
    kept = KeptNumbers(store)
    found = kept.find(wanted)
    rest = {key: job for key, job in wanted.items() if key not in found}
    console.print(
        f"{len(wanted)} jobs: {len(found)} already in {store.path}, {len(rest)} to run",
        highlight=False,
        soft_wrap=True,
    )
    if not rest:
        return found
    pool = spawned_pool(workers)
    try:
        with Progress(console=console) as progress:
            bar = progress.add_task("factorising", total=len(wanted), completed=len(found))
            futures = {pool.submit(job): key for key, job in rest.items()}
            for ended in as_completed(futures):
                found[futures[ended]] = ended.result()
                kept.add(futures[ended], ended.result())
                progress.advance(bar)
    except BrokenProcessPool as error:
        raise ChildProcessError(
            f"a worker process died ({error}), most likely as it needed more memory than there "
            f"was; jobs that had ended are stored, so give the same command with fewer --workers"
        ) from None
    finally:
        kill_pool(pool)
    return found


class KeptNumbers:
    """Numbers of the jobs that have ended, by key, exact to the bit.

    Raises StoreError, here and in every method, as ``store`` does.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        store.execute(TABLE)

    def add(self, key: str, numbers: Sequence[float]) -> None:
        """Commit the numbers of a job, in place of earlier ones."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = (key, array("d", numbers).tobytes(), now)
        self.store.execute("INSERT OR REPLACE INTO nmf_study VALUES (?, ?, ?)", *row)

    def find(self, keys: Iterable[str]) -> dict[str, list[float]]:
        """The numbers of those of ``keys`` that are kept; entries under others do not count."""
        wanted, found = set(keys), dict[str, list[float]]()
        for key, packed in self.store.select("SELECT key, numbers FROM nmf_study"):
            if key in wanted:
                found[key] = list(array("d", packed))
        return found
