"""Lessons by a teacher who knows the right rate, for reinforcement learning to begin from.

DAgger (Ross, Gordon and Bagnell 2011): the student decides, the teacher says what would have been
right, and the student learns from all that has been said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lrpilot.learning.cma import Layers
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.runs import Floats, Runs
from lrpilot.learning.student import Shown, Student
from lrpilot.schedules.learned.policy import Action

STACKS = 8  # in a lesson
LED = 3  # lessons in which the teacher decides for fewer and fewer of the runs
WANDERING, JITTER = 0.7, 0.3  # standard deviations of actions, the teacher's and the student's
UPDATES, BATCH, RATE = 150, 2048, 5e-3
FINAL = 100  # updates for each lesson, after the last


class Exercise(NamedTuple):
    """Runs, and the offsets from the base schedule that are right, from low to high (runs,)."""

    runs: Runs
    low: Floats
    high: Floats


Exercises = Callable[[np.random.Generator], Exercise]


def taught(
    draw: Exercises,
    *,
    lessons: int,
    base: str,
    action: Action,
    hidden: tuple[int, ...],
    seed: int,
    unseen: Sequence[str] = (),
    report: Callable[[int], None] = lambda lesson: None,
) -> Layers:
    """The network after ``lessons``, at least 1; each is reported by its number.

    The right action is the one that leads to the nearest right offset, or as near to that as one
    can. unseen: features that are not shown.
    """
    rng, student = np.random.default_rng([seed, 11]), Student(hidden, seed, unseen)
    notes: list[Shown] = []
    for lesson in range(lessons):
        led = max(1 - lesson / LED, 0.0)
        for _ in range(STACKS):
            notes += _exercise(draw(rng), student, led, base, action, rng)
        notes = [_together(notes)]
        student.fit(notes[0], updates=UPDATES, rate=RATE, batch=BATCH)
        report(lesson + 1)
    student.fit(notes[0], updates=FINAL * lessons, rate=RATE, batch=BATCH)
    return student.layers


def _exercise(
    exercise: Exercise,
    student: Student,
    led: float,
    base: str,
    action: Action,
    rng: np.random.Generator,
) -> list[Shown]:
    """What the runs saw and should have done, of which a share is ``led`` by the teacher."""
    episodes, count = Episodes(exercise.runs, base, action), exercise.runs.count
    is_led, notes = rng.random(count) < led, list[Shown]()
    while not episodes.over:
        seen = episodes.observe()
        right = episodes.offsets.clip(exercise.low, exercise.high)
        right = right if action.kind == "anchored" else right - episodes.offsets
        right = (right / action.size).clip(-1, 1)
        asked = episodes.trusted & ~episodes.lost
        notes.append(Shown(seen[asked], right[asked]))
        theirs = right + rng.normal(0, WANDERING, count)
        ours = student.act(seen).clip(-1, 1) + rng.normal(0, JITTER, count)
        episodes.act(np.where(is_led, theirs, ours).clip(-1, 1))
    return notes


def _together(notes: list[Shown]) -> Shown:
    return Shown(*(np.concatenate(parts) for parts in zip(*notes, strict=True)))
