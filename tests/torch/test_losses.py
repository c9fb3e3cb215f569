"""What a loss is the mean of, and what its batch consumed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from lrpilot.schedules import Signal
from lrpilot.torch import ScheduledLR
from scheduled import LOSSES, Seen, sgd


def seen() -> ScheduledLR:
    return ScheduledLR(sgd(0.1), Seen())


@dataclass(frozen=True)
class Reads(Seen):
    """A schedule that has its own way with a signal."""

    how: Callable[[Signal], float] = lambda signal: signal.loss

    def update(self, state, signal):
        return Seen.update(self, state, Signal(self.how(signal)))


@pytest.mark.parametrize(
    "how", [lambda signal: signal.loss, lambda signal: signal[0], lambda signal: next(iter(signal))]
)
def test_a_schedule_may_read_the_loss_by_name_by_place_or_in_order(how):
    scheduler = ScheduledLR(sgd(0.1), Reads(how=how))
    for loss in LOSSES:
        scheduler.optimizer.step()
        scheduler.step(loss)
    assert scheduler.state.losses == LOSSES


def test_losses_are_weighted_by_what_they_are_the_mean_of():
    scheduler = seen()
    scheduler.observe(1.0, 30)
    scheduler.observe(torch.tensor(9.0), count=10)
    scheduler.observe(math.nan, count=0)  # the mean of an empty batch
    scheduler.optimizer.step()
    scheduler.step()
    assert scheduler.state.losses == (3.0,)


def test_a_loss_that_is_not_finite_makes_its_observation_so():
    scheduler = seen()
    for window in ([1.0, math.inf, 2.0], [1.0, 2.0]):
        for loss in window:
            scheduler.observe(loss)
        scheduler.optimizer.step()
        scheduler.step()
    assert scheduler.state.losses == (1.5,)
    assert scheduler.state.ignored == 1


def test_what_batches_consume_adds_up():
    scheduler = ScheduledLR(sgd(0.1), Seen(needs=("loss", "tokens")))
    for tokens in (100, 50):
        scheduler.observe(1.0, tokens=tokens)
    scheduler.observe(None, tokens=7)
    scheduler.optimizer.step()
    scheduler.step(1.0, tokens=3)
    scheduler.optimizer.step()
    scheduler.step(1.0, tokens=5)
    assert scheduler.state.tokens == (160.0, 5.0)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"count": -1}, ValueError, "count must be at least 0 and finite, got -1"),
        ({"count": math.nan}, ValueError, "count must be at least 0"),
        ({"count": "many"}, TypeError, "count must be a number known to the host, got 'many'"),
        ({"count": torch.tensor(3.0)}, TypeError, "known to the host"),
        ({"tokens": math.inf}, ValueError, "tokens must be at least 0 and finite, got inf"),
        ({"seconds": -1.0}, ValueError, "seconds must be"),
    ],
)
def test_an_impossible_amount_is_refused_and_changes_nothing(wrong, error, message):
    scheduler = seen()
    scheduler.step(1.0)
    before = scheduler.state_dict()
    with pytest.raises(error, match=message):
        scheduler.step(2.0, **wrong)
    assert scheduler.state_dict() == before


def test_seconds_are_measured_between_steps_unless_they_are_given():
    timed = OpenLoopSeconds()
    scheduler = ScheduledLR(sgd(0.1), timed)
    scheduler.step()
    began = time.perf_counter()
    time.sleep(0.02)
    scheduler.step()
    assert 0.02 <= scheduler.state.seconds <= time.perf_counter() - began + 0.01
    measured = scheduler.state.seconds
    scheduler.step(seconds=100.0)
    assert scheduler.state.seconds == measured + 100.0


class OpenLoopSeconds:
    """Adds up the seconds."""

    needs = ("seconds",)

    class State(tuple):
        scale, reason = 1.0, "plan"
        seconds = property(lambda self: self[0])

    def init(self):
        return self.State((0.0,))

    def update(self, state, signal):
        return self.State((state.seconds + signal.seconds,))


def test_what_was_consumed_without_a_loss_counts_for_the_next_observation():
    scheduler = ScheduledLR(sgd(0.1), Seen(needs=("loss", "tokens")))
    with pytest.warns(UserWarning, match="without a loss"):
        scheduler.step(tokens=10)
    for loss in (None, 1.0, 2.0):
        scheduler.step(loss, tokens=10)
    assert scheduler.state.tokens == (30.0, 10.0)
