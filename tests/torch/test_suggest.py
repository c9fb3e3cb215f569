"""`suggest_lr`: what it suggests, and what it says where there is nothing to suggest."""

import copy
import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.tasks import TASKS
from lrpilot.torch.suggest import suggest_lr
from scheduled import lrs


class Curve:
    """A loss that is a function of the rates of the steps before."""

    def __init__(self, loss, groups=(1.0,)):
        self.loss, self.rates, self.model = loss, [], nn.Linear(1, 1)
        groups = [{"params": [nn.Parameter(torch.ones(1))], "lr": lr} for lr in groups]
        self.optimizer = optim.SGD(groups)

    def step(self):
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        with torch.no_grad():
            self.optimizer.param_groups[0]["params"][0].mul_(1.5)
        last = self.rates[-2] if len(self.rates) > 1 else 0.0
        return self.loss(0.0 if self.rates[-1] < last else last)

    def suggest(self, **options):
        return suggest_lr(self.model, self.optimizer, self.step, **options)


def bowl(rate: float) -> float:
    """1 for small rates, 0 at 10 ** -2.5, 1 again at 0.3, and far more beyond."""
    if rate < 1e-6:
        return 1.0
    return min(1.0, (math.log10(rate) + 2.5) ** 2 / 4) if rate < 0.3 else 1 + 100 * rate


def test_the_suggestion_is_the_middle_of_the_valley_and_the_interval_its_ends():
    suggested = Curve(bowl).suggest()
    # Half of the improvement is kept within sqrt(2) decades of 10 ** -2.5; smoothing adds a little.
    assert math.log10(suggested.lr) == pytest.approx(-2.5, abs=0.05)
    assert math.log10(suggested.low) == pytest.approx(-2.5 - math.sqrt(2), abs=0.1)
    assert math.log10(suggested.high) == pytest.approx(-2.5 + math.sqrt(2), abs=0.1)


def test_a_loss_shows_what_the_rate_before_it_did():
    suggested = Curve(lambda rate: bowl(rate) if rate < 0.2 else math.nan).suggest(seeds=(0,))
    (sweep,) = suggested.sweeps
    assert math.isnan(sweep.losses[-1])
    assert sweep.rates[-3] < 0.2 <= sweep.rates[-2] == sweep.diverged_at == suggested.diverged_at


@given(st.sampled_from((2.0**-20, 2.0**20)), st.sampled_from((0.0, -1.0, -64.0, 1e3)))
def test_unit_and_origin_of_the_loss_do_not_matter(unit, origin):
    chance = random.Random(0)
    noise = [0.1 * chance.gauss(0, 1) for _ in range(1000)]

    def suggested(unit, origin):
        draws = iter(noise)
        return Curve(lambda rate: unit * (bowl(rate) + next(draws) + origin)).suggest()

    ours, theirs = suggested(1.0, 0.0), suggested(unit, origin)
    assert (ours.lr, ours.low, ours.high) == (theirs.lr, theirs.low, theirs.high)
    assert [len(sweep.rates) for sweep in ours.sweeps] == [len(s.rates) for s in theirs.sweeps]


def test_a_sweep_ends_soon_after_the_loss_has_left_its_range():
    curve = Curve(lambda rate: bowl(rate) if rate < 0.1 else 4.0)
    (sweep,) = curve.suggest(seeds=(0,)).sweeps
    assert 0.1 < sweep.diverged_at < 0.5
    assert len(curve.rates) == len(sweep.rates) < 100


def test_noise_and_a_rise_within_the_range_of_the_improvement_end_no_sweep():
    chance = random.Random(1)
    spikes = iter([0.0] * 20 + [2.5])

    def loss(rate):
        rest = 1.5 if rate > 0.2 else bowl(rate)
        return 3 * rest + chance.gauss(0, 0.1) + next(spikes, 0.0)

    suggested = Curve(loss).suggest()
    assert suggested.diverged_at is None
    assert [sweep.rates[-1] for sweep in suggested.sweeps] == pytest.approx([100.0] * 3)
    assert 1e-3 < suggested.lr < 1e-2


def test_the_last_digit_of_a_loss_without_noise_ends_no_sweep():
    digits = iter([0.0] * 10 + [2.0**-20] * 20)
    suggested = Curve(lambda rate: bowl(rate) + next(digits, 0.0)).suggest()
    assert min(len(sweep.rates) for sweep in suggested.sweeps) > 60


def test_the_interval_spans_the_valleys_of_all_seeds():
    starts = []

    def loss(rate):
        starts.append(rate == 0.0)
        return bowl(rate * 3 ** (sum(starts) - 1))

    suggested = Curve(loss).suggest()
    lows, highs = zip(*(sweep.valley for sweep in suggested.sweeps), strict=True)
    assert len(set(lows)) == 3
    assert (suggested.low, suggested.high) == (min(lows), max(highs))
    assert suggested.lr == pytest.approx(math.prod(lows + highs) ** (1 / 6))
    assert suggested.diverged_at == min(sweep.diverged_at for sweep in suggested.sweeps)
    assert len({sweep.diverged_at for sweep in suggested.sweeps}) == 3


def test_every_step_has_the_next_rate_and_groups_keep_their_ratios():
    written = []
    curve = Curve(bowl, groups=(0.1, 0.02, 0.0))
    curve.optimizer.param_groups[0]["lr"] = torch.tensor(0.1, dtype=torch.float64)
    plain = curve.step

    def step():
        written.append(lrs(curve.optimizer))
        return plain()

    curve.step = step
    suggested = curve.suggest(low=1e-6, high=10.0, steps=50, seeds=(0,))
    assert written[0] == pytest.approx([1e-6, 2e-7, 0.0])
    assert [first for first, *_ in written] == pytest.approx(suggested.sweeps[0].rates)
    quotients = {round(b / a, 12) for (a, *_), (b, *_) in itertools.pairwise(written)}
    assert quotients == {round(1e7 ** (1 / 49), 12)}
    assert lrs(curve.optimizer) == [0.1, 0.02, 0.0]


def test_a_rate_that_a_warm_up_has_lowered_is_no_base_rate():
    curve = Curve(bowl, groups=(0.1, 0.2))
    warmup = optim.lr_scheduler.LambdaLR(curve.optimizer, lambda step: 0.0)
    curve.suggest()
    assert lrs(curve.optimizer) == [0.0, 0.0]
    assert warmup.base_lrs == [0.1, 0.2]


def learner(loss):
    """A step that learns nothing but calls the optimizer, and shows the losses of ``loss``."""
    weight = nn.Parameter(torch.ones(1))
    optimizer = optim.SGD([weight], lr=0.1)

    def step():
        weight.grad = torch.ones(1)
        optimizer.step()
        return loss()

    return nn.Module(), optimizer, step


def test_a_loss_that_never_improves_beyond_its_noise_is_said():
    chance = random.Random(0)
    with pytest.raises(ValueError, match=r"in \d of 3 seeds.*began at .*can learn at all"):
        suggest_lr(*learner(lambda: 1 + 0.1 * chance.random()))


def test_improvement_in_one_seed_of_three_is_not_enough():
    starts = []

    def loss(rate):
        starts.append(rate == 0.0)
        return bowl(rate) if sum(starts) <= good else 1.0

    good = 1
    with pytest.raises(ValueError, match="in 1 of 3 seeds"):
        Curve(loss).suggest()
    starts.clear()
    good = 2
    suggested = Curve(loss).suggest()
    assert suggested.sweeps[2].valley is None
    assert str(suggested).startswith(
        "lr 0.0032, between 0.00013 and 0.076 (2 of 3 seeds improved, d"
    )


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        (itertools.repeat(math.nan), "not finite before the first update"),
        (itertools.cycle((1.0, math.inf)), "diverged within two decades, so set low to 1e-10"),
    ],
)
def test_divergence_from_the_beginning_is_said(losses, said):
    with pytest.raises(ValueError, match=said):
        suggest_lr(*learner(lambda: next(losses)))


def test_a_step_that_does_not_step_is_said():
    model, optimizer, _ = learner(float)
    with pytest.raises(ValueError, match=r"no parameter changed, so let train_step call optimizer"):
        suggest_lr(model, optimizer, lambda: 1.0)


def test_a_scheduler_inside_the_step_is_said():
    model, optimizer, step = learner(lambda: 1.0)
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

    def both():
        loss = step()
        scheduler.step()
        return loss

    with pytest.raises(ValueError, match="leave the scheduler out of it"):
        suggest_lr(model, optimizer, both)
    assert lrs(optimizer) == [0.1]


def test_running_out_of_batches_is_said():
    batches = iter(range(40))
    with pytest.raises(ValueError, match="ran out of batches at step 41 of a sweep"):
        suggest_lr(*learner(lambda: 1.0 + 0 * next(batches)))


@pytest.mark.parametrize("loss", [None, "low", torch.ones(2), torch.ones(0)])
def test_a_loss_that_is_no_number_is_refused(loss):
    with pytest.raises(TypeError, match="train_step must return its loss, a number or a tensor"):
        suggest_lr(*learner(lambda: loss))


@pytest.mark.parametrize("loss", [1, np.float32(1), torch.ones(()), torch.ones(1, 1)])
def test_a_loss_is_a_number_or_one_element(loss):
    with pytest.raises(ValueError, match="0 of 3 seeds"):
        suggest_lr(*learner(lambda: loss))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 0.0}, "positive rates two decades apart"),
        ({"low": 1.0, "high": 99.0}, "positive rates two decades apart"),
        ({"high": math.inf}, "positive rates two decades apart"),
        ({"low": math.nan}, "positive rates two decades apart"),
        ({"steps": 19}, "steps must be at least 20, got 19"),
        ({"seeds": ()}, "seeds is empty"),
    ],
)
def test_options_that_make_no_sweep_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Curve(bowl).suggest(**options)


def test_a_first_group_without_a_rate_is_refused():
    with pytest.raises(ValueError, match="the first parameter group has lr 0, and the others keep"):
        Curve(bowl, groups=(0.0, 0.1)).suggest()


def test_a_model_that_has_no_shape_yet_is_refused():
    model = nn.LazyLinear(2)
    with pytest.raises(ValueError, match="has no shape yet; run one batch through the model"):
        suggest_lr(model, optim.SGD(model.parameters(), lr=0.1), lambda: 1.0)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [("digits-mlp", "momentum"), ("digits-mlp", "adamw"), ("nmf-digits", "sgd")],
)
def test_the_suggestion_is_near_the_tuned_rate(name, optimizer):
    run = TASKS[name].start(0, OPTIMIZERS[optimizer])
    problem = run.problem
    parameters = copy.deepcopy(run.parameters)

    def step():
        run.optimizer.zero_grad()
        loss = problem.loss(run.values, problem.draw())
        loss.backward()
        run.optimizer.step()
        if problem.project is not None:
            with torch.no_grad():
                problem.project(run.values)
        return loss

    suggested = suggest_lr(nn.Module(), run.optimizer, step)
    tuned = TASKS[name].lrs[optimizer]
    assert suggested.low < tuned < suggested.high
    assert 1 / 4 < suggested.lr / tuned < 4
    assert all(map(torch.equal, run.parameters, parameters))
