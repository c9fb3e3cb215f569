"""Train a policy within a budget of time; the same command goes on where it was interrupted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.tensorboard.writer import SummaryWriter

from lrpilot.learning.cma import Plan, as_policy, evolve, parameters_of
from lrpilot.learning.distributions import (
    ACTION_OF,
    BASE_OF,
    EXERCISES,
    KINDS,
    STACKS,
    TRAINING_STACKS,
    UNSEEN_OF,
    VERSIONS,
    WIDE_STACKS,
)
from lrpilot.learning.imitation import imitated
from lrpilot.learning.ppo import improve
from lrpilot.learning.taught import taught
from lrpilot.learning.validation import Validated, validate
from lrpilot.schedules.checks import check_known
from lrpilot.schedules.learned import features
from lrpilot.schedules.learned.policy import Policy, save_policy

Method = Literal["cma", "ppo"]
METHODS = ("cma", "ppo")
LESSONS = 30  # at most, before reinforcement learning begins
BUDGET = 10.0  # seconds of a budget for each of them, of which it takes eight or so


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """What is trained, and how.

    kind: "nmf" or "net". seconds: budget of this call. every: rounds (generations of CMA-ES,
    updates of PPO) between two validations. patience: validations without a new best after which
    it stops early. unseen: features by name that the policy is not to read, for ablations.
    imitate: store whose best runs PPO begins from; None begins with lessons, or at
    the base where nobody can give them.
    """

    kind: str
    method: Method = "cma"
    hidden: tuple[int, ...] = ()
    seed: int = 0
    seconds: float = 600.0
    every: int = 10
    patience: int = 8
    unseen: tuple[str, ...] = ()
    imitate: Path | None = None

    def __post_init__(self) -> None:
        check_known("policy to train", self.kind, KINDS)
        check_known("method", self.method, METHODS)
        if not 0 < self.seconds < math.inf:
            raise ValueError(f"the budget must be positive, got {self.seconds:g} seconds")
        if self.imitate is not None and self.method != "ppo":
            raise ValueError("CMA-ES begins from nothing; give --method ppo with --imitate")
        if any(size < 1 for size in self.hidden):
            raise ValueError(f"hidden layers have at least 1 unit, got {self.hidden}")


class Round(NamedTuple):
    """How far a training is.

    found: of the last validation. best: gain of the best one; the file holds that policy. lesson:
    number of the lesson that has just ended; 0 after them.
    """

    number: int
    seconds: float
    found: Validated | None
    best: float
    lesson: int = 0


class Trained(NamedTuple):
    """How a training ended. gain: of the policy in the file; 0 is the untrained policy's."""

    path: Path
    rounds: int
    seconds: float
    gain: float
    stopped: str

    @property
    def ratio(self) -> float:
        """What the policy leaves over what its base leaves, geometric mean."""
        return math.exp(self.gain)


Report = Callable[[Round], None]


def train(
    training: Training, path: Path, report: Report, *, fresh: bool = False, logs: Path | None = None
) -> Trained:
    """Train until the budget is spent or validation shows nothing new; ``path`` gets the policy.

    What has been done stands beside ``path``, in .progress.jsonl (and .ppo.zip for PPO): the same
    training goes on from there, also after it was killed, and another one is refused, unless
    ``fresh`` begins anew. ``logs``: folder for TensorBoard. Lessons, if there are any, are
    one for each `BUDGET` seconds, `LESSONS` at most; killed before the first update is over, a
    training begins anew.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"a policy's file ends in .safetensors, got {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    learner = path.with_suffix(".ppo.zip")
    journal = Journal(path.with_suffix(".progress.jsonl"), training, fresh=fresh)
    if fresh:
        learner.unlink(missing_ok=True)
    with _writer(logs) as write:
        course = _Course(training, path, journal, report, write)
        if training.method == "cma":
            _by_evolution(training, course)
        else:
            _by_gradients(training, course, learner, logs)
    return course.trained()


class Journal:
    """One line of JSON per round, the first says what is trained; a torn last line is dropped."""

    def __init__(self, path: Path, training: Training, *, fresh: bool) -> None:
        self.path = path
        head = {
            "kind": training.kind,
            "method": training.method,
            "hidden": list(training.hidden),
            "seed": training.seed,
            "every": training.every,
            "unseen": list(training.unseen),
            "version": VERSIONS[training.kind],
            "features": features.VERSION,
        }
        if training.imitate is not None:
            head["imitate"] = str(training.imitate)
        self.rounds: list[dict[str, Any]] = []
        if path.is_file() and not fresh:
            found, *self.rounds = self._read() or [head]
            if found != head:
                raise ValueError(
                    f"{path} is of another training ({json.dumps(found)}); go on with that, choose "
                    f"another --out, or begin anew with --fresh"
                )
        lines = [head, *self.rounds]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def add(self, entry: dict[str, Any]) -> None:
        """Write a round down."""
        self.rounds.append(entry)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _read(self) -> list[dict[str, Any]]:
        lines = self.path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]


class _Course:
    """Budget, validation, the best policy so far, and who is told."""

    def __init__(
        self, training: Training, path: Path, journal: Journal, report: Report, write: Write
    ) -> None:
        self.training, self.path, self.journal = training, path, journal
        self.report, self.write = report, write
        self.began = time.perf_counter()
        self.spent = max((line["seconds"] for line in journal.rounds), default=0.0)
        gains = [line["gain"] for line in journal.rounds if "gain" in line]
        self.best = min([0.0, *gains])  # the untrained policy's is 0
        self.stale = len(gains) - 1 - gains.index(self.best) if self.best < 0 else len(gains)
        self.lessons = max((line.get("lessons", 0) for line in journal.rounds), default=0)
        if not path.is_file() or not gains:
            self._write(_untrained(training), 0.0)
        self.stopped = "the budget was spent"

    @property
    def seconds(self) -> float:
        """Spent on this training, earlier calls included."""
        return self.spent + time.perf_counter() - self.began

    def goes_on(self, number: int, policy: Policy, **entry: Any) -> bool:
        """Note a round that has been done; validate if it is time; say whether to go on."""
        is_over = time.perf_counter() - self.began >= self.training.seconds
        found = None
        if number % self.training.every == 0 or is_over:
            found = validate(policy, self.training.kind)
            self._judge(policy, found)
            entry |= {"gain": found.gain, "lost": found.lost}
        if self.lessons:
            entry["lessons"] = self.lessons
        self.journal.add({"round": number, "seconds": round(self.seconds, 3), **entry})
        self.report(Round(number, self.seconds, found, self.best))
        for name, value in entry.items():
            if isinstance(value, int | float):
                self.write(name, value, number)
        if self.stale >= self.training.patience:
            self.stopped = f"{self.stale} validations in a row showed no better policy"
        return not is_over and self.stale < self.training.patience

    def had_lesson(self, lesson: int) -> None:
        """Tell of a lesson that is over."""
        self.lessons = lesson
        self.report(Round(0, self.seconds, None, self.best, lesson))

    def trained(self) -> Trained:
        """How it ended."""
        return Trained(self.path, len(self.journal.rounds), self.seconds, self.best, self.stopped)

    def _judge(self, policy: Policy, found: Validated) -> None:
        if found.gain < self.best:
            self.best, self.stale = found.gain, 0
            self._write(policy, found.gain)
        else:
            self.stale += 1

    def _write(self, policy: Policy, gain: float) -> None:
        about = {
            "trained": self.training.kind,
            "method": self.training.method,
            "seed": str(self.training.seed),
            "distribution": str(VERSIONS[self.training.kind]),
            "seconds": f"{self.seconds:.0f}",
            "validation": f"{gain:.4f} (mean ln of the loss over the base schedule's)",
            "lrpilot": version("lrpilot"),
        }
        if self.lessons:
            about["lessons"] = str(self.lessons)
        if self.training.imitate is not None:
            about["imitated"] = self.training.imitate.name
        save_policy(replace(policy, about=about), self.path)


def _untrained(training: Training) -> Policy:
    """What is left if nothing better is found: the base schedule."""
    kind = training.kind
    plan = Plan(base=BASE_OF[kind], action=ACTION_OF[kind])
    return as_policy(kind, np.zeros(parameters_of(())), plan, {})


Write = Callable[[str, float, int], None]


@contextmanager
def _writer(logs: Path | None) -> Generator[Write]:
    if logs is None:
        yield lambda name, value, number: None
        return
    with SummaryWriter(str(logs)) as writer:
        yield writer.add_scalar


def _by_evolution(training: Training, course: _Course) -> None:
    kind = training.kind
    plan = Plan(
        base=BASE_OF[kind],
        action=ACTION_OF[kind],
        hidden=training.hidden,
        stacks=TRAINING_STACKS[kind],
        seed=training.seed,
        unseen=(*UNSEEN_OF[kind], *training.unseen),
    )
    past = [line["scores"] for line in course.journal.rounds]
    for generation in evolve(STACKS[kind], plan, past):
        number = generation.number + 1
        if number <= len(past):
            continue
        policy = as_policy(kind, generation.mean, plan, {})
        entry = {"scores": generation.scores, "diverged": generation.lost}
        if not course.goes_on(number, policy, **entry):
            break


def _by_gradients(training: Training, course: _Course, learner: Path, logs: Path | None) -> None:
    kind = training.kind
    settings: dict[str, Any] = {
        "base": BASE_OF[kind],
        "action": ACTION_OF[kind],
        "hidden": training.hidden,
        "seed": training.seed,
        "unseen": (*UNSEEN_OF[kind], *training.unseen),
    }
    begin = None
    if training.imitate is not None and not learner.is_file():
        begin = imitated(training.imitate, **settings)
    elif kind in EXERCISES and not learner.is_file():
        begin = taught(
            EXERCISES[kind],
            lessons=min(max(int(training.seconds / BUDGET), 1), LESSONS),
            report=course.had_lesson,
            **settings,
        )
    improve(
        WIDE_STACKS[kind],
        checkpoint=learner,
        log_dir=logs,
        begin=begin,
        report=lambda update: course.goes_on(
            update.number, update.policy, decisions=update.decisions
        ),
        **settings,
    )
