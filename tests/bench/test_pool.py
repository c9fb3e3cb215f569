"""Processes that run batches and jobs end with the one that started them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lrpilot.bench.engines.pool import kill_pool, spawned_pool

HANGS = """
import os
import time
from lrpilot.bench.engines.pool import spawned_pool

if __name__ == "__main__":
    pool = spawned_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def wait_until_gone(pid):
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end, "a worker outlives its parent"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
def test_a_worker_ends_by_itself_when_its_parent_is_killed(tmp_path):
    script = tmp_path / "hangs.py"
    script.write_text(HANGS)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        worker = int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    wait_until_gone(worker)


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")
def test_a_pool_is_killed_whatever_it_is_at():
    pool = spawned_pool(1)
    worker = pool.submit(os.getpid).result()
    hangs = pool.submit(time.sleep, 600)
    began = time.monotonic()
    kill_pool(pool)
    assert time.monotonic() - began < 10
    wait_until_gone(worker)
    assert hangs.done()


def test_a_pool_that_has_not_started_anything_is_killed_too():
    kill_pool(spawned_pool(2))
