"""Run trials on a Ray cluster; a trial whose node is lost is run again on another."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any, cast

from lrpilot.bench.engines.local import Advanced, Finished, Worker, check_limits
from lrpilot.bench.training_function import check_function, is_function
from lrpilot.bench.trial import Outcome, Trial
from lrpilot.schedules import load_policy
from lrpilot.schedules.named import LEARNED, policy_file

try:
    import ray
    from ray._private import worker as ray_worker
    from ray.exceptions import ActorUnavailableError, RayError, RayTaskError
except ImportError as error:
    raise ImportError(
        "the Ray engine needs ray, which is not installed; pip install 'lrpilot[ray]'"
    ) from error

MOST_NODE_LOSSES = 10  # of one trial
MOST_CRASHES = 1  # of one trial's seat, on a node that lives: memory, not bad luck
MOST_LOST_STARTS = 10  # in a row, of seats that never came up
ANSWER_WITHIN = 15.0  # seconds for a cluster to answer at all
DEATH_KNOWN_WITHIN = 5.0  # seconds until the cluster has noticed that a node is dead
COUNT_CPUS_EVERY = 5.0  # seconds
SAYS_NEWS = "_worker_logs_enabled"  # of ray._private.worker
CPU_WITHIN = 120.0  # seconds in which a cluster without any may start a node that has one
ADVANCE_EVERY = 1.0  # seconds between two messages of one trial; each is an object of the cluster


def run_trials_on_ray(
    trials: Sequence[Trial],
    address: str | None,
    *,
    time_limit: float | None = None,
    memory_limit: int | None = None,
    in_flight: int | None = None,
) -> Generator[Advanced | Finished, None, None]:
    """Run ``trials`` on the CPUs of a Ray cluster, one each; yield what happens as it happens.

    address: "host:port" of the cluster, of which this machine is a node; "auto" for the one that
        runs here; None starts a Ray on this machine and ends it afterwards. If Ray is connected
        already, that connection is used and kept.
    time_limit, memory_limit: seconds and bytes per trial, as for ``bench.local.run_trials``.
    in_flight: the most trials at once; None: as many as the cluster has CPUs at the time.

    Every trial is finished exactly once, with the numbers that ``bench.local`` yields: in each
    CPU's place there is the same worker process. A trial whose node is lost runs again from its
    start, up to ten times. A trial that crashes its process has failed, as there. Closing the
    iterator cancels the trials in flight, and so does the end of this process, however it ends.

    Nodes need lrpilot in the same version, and the files of training functions and policies at the
    same paths.
    Raises ValueError if the cluster does not answer within 15 s or has no CPU left, if a node has
    no such file or another one, and for a limit that cannot be kept.
    """
    check_limits(time_limit, memory_limit)
    if in_flight is not None and in_flight < 1:
        raise ValueError(
            f"in_flight must be at least 1, got {in_flight}; None means one trial per CPU"
        )
    if trials:
        with _connected(address):
            yield from _Driver(trials, in_flight, time_limit, memory_limit).events()


class _Driver:
    """Hands trials to seats until each has ended once."""

    def __init__(
        self,
        trials: Sequence[Trial],
        in_flight: int | None,
        time_limit: float | None,
        memory_limit: int | None,
    ) -> None:
        self.waiting = list(reversed(trials))
        self.seats: list[_Seat] = []
        self.in_flight = in_flight
        self.limits = (time_limit, memory_limit)
        # No restarts by Ray: the driver alone decides what runs again, so that nothing runs twice.
        options: dict[str, Any] = {"num_cpus": 1, "max_restarts": 0, "max_task_retries": 0}
        self.place: Any = ray.remote(scheduling_strategy="SPREAD", **options)(_Place)
        self.node_losses: Counter[Trial] = Counter()
        self.crashes: Counter[Trial] = Counter()
        self.lost_starts = 0
        self.cpus, self.counted, self.had_cpu = 0, -math.inf, time.monotonic()

    def events(self) -> Generator[Advanced | Finished, None, None]:
        try:
            while self.waiting or any(seat.trial is not None for seat in self.seats):
                self._fill()
                for seat in _spoken(self.seats):
                    event = self._heard(seat)
                    if event is not None:
                        yield event
        finally:
            for seat in self.seats:
                seat.leave()

    def _fill(self) -> None:
        """As many seats as there are trials for, and CPUs to hold them; one to ask for a CPU."""
        self._count_cpus()
        at_work = sum(seat.trial is not None for seat in self.seats)
        wanted = min(self.in_flight or max(self.cpus, 1), at_work + len(self.waiting))
        while len(self.seats) < wanted:
            self.seats.append(_Seat(self.place.remote(*self.limits)))

    def _count_cpus(self) -> None:
        now = time.monotonic()
        if now - self.counted >= COUNT_CPUS_EVERY:
            self.counted, self.cpus = now, int(ray.cluster_resources().get("CPU", 0))
        if self.cpus:
            self.had_cpu = now
        elif now - self.had_cpu > CPU_WITHIN:
            raise ValueError(
                f"no node of the Ray cluster has had a CPU for {CPU_WITHIN:g} s; add one with "
                f"`ray start --address=HOST:PORT`, the trials that have ended are kept"
            )

    def _heard(self, seat: _Seat) -> Advanced | Finished | None:
        trial = seat.trial
        try:
            message = seat.receive()
        except RayError as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, ValueError):
                raise ValueError(str(error.cause)) from None  # the node's, see _Place._check
            self.seats.remove(seat)
            seat.leave()
            self.counted = -math.inf
            return self._lost_start(error) if trial is None else self._lost(seat, trial, error)
        self.lost_starts = 0
        if isinstance(message, float):
            return None if trial is None else Advanced(trial, message)
        if self.waiting:
            seat.take(self.waiting.pop())
        else:
            self.seats.remove(seat)
            seat.leave()
        return None if trial is None else Finished(trial, cast("Outcome", message))

    def _lost_start(self, error: RayError) -> None:
        self.lost_starts += 1
        if self.lost_starts >= MOST_LOST_STARTS:
            raise ValueError(
                f"{self.lost_starts} processes in a row did not start on the Ray cluster; each "
                f"node needs lrpilot in the version that runs here. The last one: {error}"
            ) from None

    def _lost(self, seat: _Seat, trial: Trial, error: RayError) -> Finished | None:
        """Back to the front of the queue, unless that has been tried too often."""
        if isinstance(error, ActorUnavailableError) or not _lives(seat.node):
            self.node_losses[trial] += 1
            often, cause = self.node_losses[trial] > MOST_NODE_LOSSES, "its node was lost"
        else:
            self.crashes[trial] += 1
            often, cause = self.crashes[trial] > MOST_CRASHES, "it was killed on a node that lives"
            cause += ", most likely as the trial needs more memory than there is"
        if not often:
            self.waiting.append(trial)
            return None
        lost = self.node_losses[trial] + self.crashes[trial]
        summary = f"given up after {lost} attempts on the Ray cluster: {cause}"
        return Finished(trial, Outcome(status="failed", error=f"{summary}\n\n{error}"))


class _Seat:
    """The driver's side of one CPU of the cluster: what it was asked last, and for which trial."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.awaited: Any = actor.node.remote()
        self.node: str | None = None
        self.trial: Trial | None = None

    def take(self, trial: Trial) -> None:
        self.trial = trial
        self.awaited = self.actor.run.options(num_returns="streaming").remote(_located(trial))

    def receive(self) -> float | Outcome | None:
        """The message that is there: None once, when the seat is ready for its first trial."""
        if self.trial is None:
            self.node = ray.get(self.awaited)
            return None
        return cast("float | Outcome", ray.get(next(self.awaited)))

    def leave(self) -> None:
        with suppress(RayError, ValueError):  # it is gone already
            ray.kill(self.actor)


class _Place:
    """The cluster's side of a seat: a Ray actor, whose worker process the trials run in.

    In a process of their own, so that a crash is told from the loss of the node, and a trial that
    hangs can be ended, exactly as on one machine.
    """

    def __init__(self, time_limit: float | None, memory_limit: int | None) -> None:
        self.limits: dict[str, Any] = {"time_limit": time_limit, "memory_limit": memory_limit}
        self.worker: Worker | None = None

    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()

    def run(self, trial: Trial) -> Generator[float | Outcome, None, None]:
        if is_function(trial.task):
            self._check(trial)
        check_policy(trial)
        if self.worker is not None and self.worker.may_take(trial):
            self.worker.start(trial)
        else:
            if self.worker is not None:
                self.worker.stop()
            self.worker = Worker(trial, **self.limits)
        told = time.monotonic()
        for event in self.worker.events():
            if isinstance(event, Finished):
                yield event.outcome
            elif time.monotonic() - told >= ADVANCE_EVERY:
                told = time.monotonic()
                yield event.share

    def _check(self, trial: Trial) -> None:
        """A node with another file, or none, would yield numbers of another training."""
        cure = "every node needs the same file at the same path and the same LRPILOT_ variables"
        try:
            version = check_function(trial.task)
        except ValueError as error:
            raise ValueError(f"on node {socket.gethostname()}: {error}; {cure}") from None
        if version != trial.task_version:
            raise ValueError(
                f"{trial.task} differs on node {socket.gethostname()} from the file here; {cure}"
            )


def _spoken(seats: Sequence[_Seat]) -> list[_Seat]:
    """The seats that have something to say; waits a while for one."""
    refs = [seat.awaited for seat in seats]
    ready, _ = ray.wait(refs, num_returns=1, timeout=COUNT_CPUS_EVERY, fetch_local=False)
    if ready:  # all others that are ready now too, so that none waits for a busy neighbour
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0, fetch_local=False)
    return [seat for seat in seats if seat.awaited in ready]


def _lives(node: str | None) -> bool:
    """Whether the cluster still holds ``node`` for alive, after a while in which it may learn."""
    end = time.monotonic() + DEATH_KNOWN_WITHIN
    while any(entry["NodeID"] == node and entry["Alive"] for entry in ray.nodes()):
        if time.monotonic() > end:
            return True
        time.sleep(0.2)
    return False


def check_policy(trial: Trial) -> None:
    """Raise ValueError unless the policy of the trial, if it has one, is here as it was there."""
    file = policy_file(trial.schedule)
    if file is None:
        return
    node, cure = socket.gethostname(), "every node needs the same policy at the same path"
    try:
        policy = load_policy(file)
    except ValueError as error:
        raise ValueError(f"on node {node}: {error}; {cure}") from None
    if repr(policy) not in trial.settings:
        raise ValueError(f"{file} differs on node {node} from the file here; {cure}")


def _located(trial: Trial) -> Trial:
    """With the whole paths of its files: a node has another working directory."""
    if is_function(trial.task):
        trial = replace(trial, task=os.path.abspath(trial.task))
    file = policy_file(trial.schedule)
    if file is not None:
        trial = replace(trial, schedule=LEARNED + os.path.abspath(file))
    return trial


@contextmanager
def _connected(address: str | None) -> Generator[None, None, None]:
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _check_answer(address)
    with _as_before():
        try:
            _connect(address)
            yield
        finally:
            ray.shutdown()


def _connect(address: str | None) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        # Outcomes are small; Ray's default, a third of the memory, is for the trials.
        quiet |= {"include_dashboard": False, "object_store_memory": 100 * 2**20}
    try:
        ray.init(address=address or "local", **quiet)
    except (ConnectionError, RuntimeError, OSError, RayError, ValueError) as error:
        if address is not None:
            raise ValueError(_unanswered(address, str(error))) from error
        raise ValueError(
            f"Ray did not start on this machine ({error}); mend that, or leave out the Ray engine "
            f"for processes of this machine"
        ) from error


def _check_answer(address: str) -> None:
    """Raises ValueError unless a cluster answers at ``address``.

    Asked from a process of its own: where nothing answers, Ray waits for minutes and then ends
    the process that asked.
    """
    if "://" in address:
        raise ValueError(
            f"address must be host:port of a Ray cluster, got {address!r}; start this command on "
            f"a machine of the cluster"
        )
    host, _, port = address.rpartition(":")
    if address != "auto" and not (host and port.isdecimal()):
        raise ValueError(f"address must be host:port, such as 10.0.0.1:6379, got {address!r}")
    try:
        if address != "auto":
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        code = f"import ray; ray.init({address!r}, log_to_driver=False)"
        command = [sys.executable, "-c", code]
        subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_WITHIN, check=True)
    except subprocess.TimeoutExpired:
        why = f"no answer in {ANSWER_WITHIN:g} s"
        raise ValueError(_unanswered(address, why)) from None
    except subprocess.CalledProcessError as error:
        lines = cast("str", error.stderr).strip().splitlines() or ["it was refused"]
        raise ValueError(_unanswered(address, lines[-1])) from None
    except (OSError, OverflowError) as error:
        raise ValueError(_unanswered(address, str(error))) from None


def _unanswered(address: str, why: str) -> str:
    return (
        f"no Ray cluster answers at {address!r} ({why}); start one with `ray start --head`, join "
        f"this machine to it with `ray start --address=HOST:PORT`, or leave the address out"
    )


@contextmanager
def _as_before() -> Generator[None, None, None]:
    """Undo what connecting leaves behind: environment, SIGTERM handler and logger of Ray.

    Between, Ray is quiet: what it says of lost nodes and workers is dealt with here.
    """
    environment, logger = dict(os.environ), logging.getLogger("ray")
    handlers, level = list(logger.handlers), logger.level
    handler = signal.getsignal(signal.SIGTERM)
    logger.setLevel(logging.CRITICAL)
    # Whatever log_to_driver says, Ray prints such news to stdout, which belongs to the results; it
    # offers no other switch.
    printed = getattr(ray_worker, SAYS_NEWS, True)
    setattr(ray_worker, SAYS_NEWS, False)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.handlers[:] = handlers
        setattr(ray_worker, SAYS_NEWS, printed)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
