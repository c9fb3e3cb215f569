"""`assert_resume_equivalent`: what it lets pass, what it catches, and what it says."""

import copy
import io
import itertools
import math
import random
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from lrpilot.schedules import Plateau
from lrpilot.testing import assert_resume_equivalent
from lrpilot.torch import ScheduledLR


class Decay:
    """A training in small: the rate halves whenever the loss has not improved for two steps."""

    LOSSES = (9.0, 8.0, 8.0, 8.5, 7.0, 7.5, 7.5, 6.0, 6.5, 6.5)

    def __init__(self):
        self.taken, self.rate, self.best, self.bad, self.seen = 0, 1.0, None, 0, []

    def step(self):
        loss = self.LOSSES[self.taken % len(self.LOSSES)] * self.rate
        self.taken += 1
        self.seen.append(loss)
        if self.best is None or loss < self.best:
            self.best, self.bad = loss, 0
        else:
            self.bad += 1
        if self.bad == 2:
            self.rate, self.bad = self.rate / 2, 0
        return {"loss": loss, "rate": [self.rate]}

    def state_dict(self):
        return copy.deepcopy(vars(self))

    def load_state_dict(self, state):
        vars(self).update(copy.deepcopy(state))


def fails(make, match, **options):
    with pytest.raises(AssertionError, match=match):
        assert_resume_equivalent(make, **{"steps": 8} | options)


def refuses(make, match, **options):
    with pytest.raises(ValueError, match=match):
        assert_resume_equivalent(make, **{"steps": 8} | options)


def test_a_training_that_saves_all_it_needs_passes():
    assert_resume_equivalent(Decay, steps=10)
    assert_resume_equivalent(Decay, steps=10, cuts=(3, 7), through=copy.deepcopy)


def test_a_training_that_is_called_for_a_step_passes_too():
    class Called:
        def __init__(self):
            training = Decay()
            self.state_dict, self.load_state_dict = training.state_dict, training.load_state_dict
            self.take = training.step

        def __call__(self):
            return self.take()

    assert_resume_equivalent(Called, steps=5)


class Network:
    """A weight under ``ScheduledLR`` over `Plateau`, on batches that the step number draws."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 1, generator=generator))
        self.optimizer = optim.SGD([self.weight], lr=0.2, momentum=0.9)
        self.scheduler = ScheduledLR(self.optimizer, Plateau(patience=1, window=2, factor=0.7))

    def step(self):
        generator = torch.Generator().manual_seed(self.scheduler.last_epoch)
        inputs = torch.randn(8, 3, generator=generator)
        loss = (inputs @ self.weight - inputs.sum(dim=1, keepdim=True)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step(loss)
        return loss, self.scheduler.get_last_lr(), self.weight

    def parts(self):
        return {
            "weight": self.weight.detach(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def state_dict(self):
        return copy.deepcopy(self.parts())

    def load_state_dict(self, state):
        with torch.no_grad():
            self.weight.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


def through_torch(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


THROUGH_TORCH = {"through": through_torch, "steps": 20}


def test_a_network_under_a_scheduled_lr_over_plateau_resumes_exactly():
    network = Network()
    rates = [network.step()[1] for _ in range(20)]
    assert len({rate for (rate,) in rates}) > 3  # so that there is a rate to lose
    assert_resume_equivalent(Network, steps=20, through=through_torch)


@pytest.mark.parametrize("part", ["weight", "optimizer", "scheduler"])
def test_a_network_that_forgets_a_part_is_caught(part):
    class Forgetful(Network):
        def load_state_dict(self, state):
            super().load_state_dict({**state, part: Network().state_dict()[part]})

    fails(Forgetful, rf"\[\d\] is .* uninterrupted.*Right after loading, {part}", **THROUGH_TORCH)


def test_a_state_that_lives_on_must_be_accepted_by_name():
    class Live(Network):
        state_dict = Network.parts

    fails(Live, r"follows the run: weight is .* at element \d of 3 when taken", **THROUGH_TORCH)
    assert_resume_equivalent(Live, live_state=True, **THROUGH_TORCH)


def test_a_forgotten_counter_is_named_with_the_step_and_both_values():
    class Forgetful(Decay):
        def load_state_dict(self, state):
            super().load_state_dict({**state, "bad": 0})

    fails(
        Forgetful,
        r"resumed after step 3 of 8, the run parts from the uninterrupted one at step 4: "
        r"rate\[0\] is 0.5 uninterrupted and 1.0 resumed. "
        r"Right after loading, bad is 1 as saved and 0 as loaded",
    )


def test_what_is_not_in_the_state_is_said_to_be_missing_there():
    class Forgetful(Decay):
        def state_dict(self):
            return {name: value for name, value in super().state_dict().items() if name != "bad"}

    fails(Forgetful, r"at step 4: .*as it was saved: what differs is not in it")


def test_a_difference_in_the_final_state_alone_is_caught():
    class Restarted(Decay):
        def load_state_dict(self, state):
            super().load_state_dict({**state, "seen": []})

    fails(
        Restarted,
        r"after step 1 of 8, all records agree, but not the final state: "
        r"(seen\[\d\] is [\d.]+ uninterrupted and [\d.]+ resumed; ){5}and 1 more\. "
        r"Right after loading, seen\[0\] is 9.0 as saved and missing as loaded; "
        r"seen is missing as saved and an empty sequence as loaded",
    )


def test_an_aliased_state_is_caught():
    class Aliased(Decay):
        def state_dict(self):
            return dict(vars(self))

    fails(
        Aliased,
        r"state taken after step 0 follows the run: seen is an empty sequence when taken and "
        r"missing at the end; seen\[0\] is missing when taken and 9.0 at the end",
    )
    fails(Aliased, r"after step 2 follows the run: seen\[2\] is missing when", cuts=(2,))


def test_a_state_that_disturbs_the_run_is_caught():
    class Disturbed(Decay):
        def state_dict(self):
            self.bad = 0
            return super().state_dict()

    fails(Disturbed, r"taking a state disturbs the run: at step 4 rate\[0\] is 0.5 undisturbed")


def test_a_run_that_is_not_repeatable_is_caught():
    class Random(Decay):
        def step(self):
            return super().step() | {"draw": random.random()}

    fails(Random, r"two uninterrupted runs part at step 1: draw is 0\.\d+ in the first and 0\.\d+")


def test_an_iterator_that_trainings_share_is_caught():
    batches = itertools.count()

    class Sharing(Decay):
        def step(self):
            return super().step() | {"batch": next(batches)}

    fails(Sharing, r"part at step 1: batch is 0 in the first and 8 in the second.*build anew")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (torch.zeros(2), r"history\[1\] is tensor\(\[0., 0.\]\) \(Tensor\)"),
        (math.nan, r"history\[1\] is nan"),
        ({3: 1.0}, r"history\[1\] has the key 3, which JSON makes a string"),
    ],
)
def test_a_state_that_is_not_json_is_named(value, said):
    class NotJson(Decay):
        def state_dict(self):
            return super().state_dict() | {"history": [0.0, value]}

    fails(NotJson, f"not strict JSON: {said}; .*through=")


def test_a_state_is_loaded_as_it_came_through():
    class Plain(Decay):
        def load_state_dict(self, state):
            assert type(state["seen"]) is list
            super().load_state_dict(state)

        def state_dict(self):
            return super().state_dict() | {"seen": tuple(self.seen)}

    assert_resume_equivalent(Plain, steps=8)
    fails(Plain, None, through=copy.deepcopy)
    fails(Decay, "rate is missing as loaded|resumed", through=lambda state: {})


def test_a_shared_object_is_refused():
    one = Decay()
    refuses(lambda: one, "the same object twice")


def test_shared_state_is_refused():
    shared = []

    class Sharing(Decay):
        def __init__(self):
            super().__init__()
            self.seen = shared

    refuses(Sharing, r"trainings that share state.*seen\[8\] is missing before and 9.0 after")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 1}, "steps must be at least 2, got 1"),
        ({"cuts": ()}, "cuts must lie between 0 and 7, one or more"),
        ({"cuts": (8,)}, r"cuts must lie between 0 and 7, one or more, got \[8\]"),
        ({"cuts": (-1, 3)}, "cuts must lie"),
        ({"cuts": (2.5,)}, "cuts must lie"),
        ({"cuts": (0,)}, "a training that loads nothing would pass"),
    ],
)
def test_a_check_that_could_not_fail_is_refused(options, said):
    refuses(Decay, said, **options)


@pytest.mark.parametrize("record", [None, 1.0, [], {"rate": 0.1}])
def test_records_that_never_change_are_refused(record):
    class Constant(Decay):
        def step(self):
            super().step()
            return record

    refuses(Constant, "a training that loads nothing would pass")


def test_what_is_not_a_training_is_refused():
    with pytest.raises(TypeError, match=r"must return an object with step\(\), state_dict\(\)"):
        assert_resume_equivalent(object, steps=8)


def test_a_record_that_cannot_be_compared_is_refused():
    class Opaque(Decay):
        def step(self):
            return super().step() | {"model": object()}

    with pytest.raises(TypeError, match=r"\(object\), found in a record at model; return numbers"):
        assert_resume_equivalent(Opaque, steps=8)


leaves = st.floats(width=32) | st.integers() | st.booleans() | st.none() | st.text(max_size=3)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.lists(st.floats(width=32), min_size=1, max_size=3).map(np.float32)
        | st.lists(st.floats(width=16), min_size=1, max_size=3).map(torch.tensor)
        | st.lists(st.floats(width=16), min_size=1, max_size=3)
        .map(torch.tensor)
        .map(torch.Tensor.bfloat16)
    ),
    max_leaves=6,
)


def showing(value: object):
    """A training whose second record is ``value``."""

    class Showing:
        def __init__(self, value=value):
            self.taken, self.value = 0, value

        def step(self):
            self.taken += 1
            return ["first", self.value, "last"][self.taken - 1]

        def state_dict(self):
            return {"taken": self.taken}

        def load_state_dict(self, state):
            self.taken = state["taken"]

    return Showing


@given(values)
def test_a_record_of_any_kind_equals_itself(value):
    assert_resume_equivalent(showing(value), steps=3)


class Point(NamedTuple):
    x: float


@pytest.mark.parametrize(
    ("value", "other", "said"),
    [
        (0.0, -0.0, "it is 0.0 uninterrupted and -0.0 resumed"),
        (1, 1.0, "it is 1 int uninterrupted and 1.0 float resumed"),
        (True, 1, "it is True uninterrupted and 1 resumed"),
        ("1", 1, "it is '1' uninterrupted"),
        (None, "None", "it is None uninterrupted and 'None' resumed"),
        (0.1, math.nextafter(0.1, 1), "and 0.10000000000000002 resumed"),
        (math.nan, math.inf, "it is nan"),
        ([1], [1, 2], r"\[1\] is missing uninterrupted and 2 resumed"),
        ({"a": []}, {"a": {}}, "a is an empty sequence uninterrupted and an empty mapping"),
        (Point(1.0), Point(2.0), "x is 1.0 uninterrupted"),
        (torch.ones(1, 2), torch.ones(2, 1), r"float32 \(1, 2\) uninterrupted"),
        (torch.ones(2), torch.ones(2).double(), r"torch.float32 \(2,\) .* torch.float64 \(2,\)"),
        (np.ones(2), torch.ones(2).double(), r"\[1.0, 1.0\] float64 \(2,\) .* torch.float64"),
        (torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, -0.0]]), "it is 0.0 at element 1 of 2"),
        (torch.tensor(1.0).bfloat16(), torch.tensor(1.01).bfloat16(), "1.0 uninter.* 1.0078125"),
        ("x" * 99, "x" * 98 + "y", r"xxx\.\.\. uninterrupted"),
    ],
)
def test_records_are_compared_bit_for_bit(value, other, said):
    class Changing(showing(value)):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            self.value = other

    fails(Changing, f"at step 2: .*{said}", steps=3)


def test_a_list_equals_a_tuple_as_in_json():
    class Changing(showing([1.0, (2.0,)])):
        def load_state_dict(self, state):
            super().load_state_dict(state)
            self.value = (1.0, [2.0])

    assert_resume_equivalent(Changing, steps=3)


def test_a_state_that_lives_on_is_copied_once_it_is_through():
    class Live(Decay):
        def state_dict(self):
            return dict(vars(self))

    assert_resume_equivalent(Live, steps=8, through=lambda state: state, live_state=True)
