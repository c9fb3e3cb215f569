"""Stochastic line search: the Armijo condition, its resets, its counts, and closures that err."""

import copy
import io
import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot.optimizers import LineSearch

RESETS = ("keep", "max", "grow")
every_reset = pytest.mark.parametrize("reset", RESETS)


def closure_of(optimizer, loss_of, losses=None):
    def closure():
        loss = loss_of()
        if torch.is_grad_enabled():
            optimizer.zero_grad()
            loss.backward()
        elif losses is not None:
            losses.append(loss.item())
        return loss

    return closure


def quadratic(curvature=1.0, at=1.0, lr=16.0, **searching):
    """½ a w², for which a step η passes if η ≤ 2 (1 − c) / a."""
    w = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    optimizer = LineSearch([w], lr, **searching)
    return w, optimizer, closure_of(optimizer, lambda: (curvature / 2 * w.square()).sum())


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


# Optax's increase_factor, and the growth that says the same.
OPTAX = {"keep": (1.0, 1.0), "grow": (1.3, 1.3), "max": (math.inf, 1.0)}
# Optax begins its first search at 1 times increase_factor, and no higher than the maximum.
CASES = [
    {"steps": 40, "increase_factor": OPTAX[reset][0], "lr": 1.0, "c": c, "beta": beta}
    for reset in RESETS
    for c, beta in ((0.1, 0.9), (0.5, 0.5), (1e-4, 0.8))
]


@pytest.mark.skipif(find_spec("optax") is None, reason="needs optax, whose JAX is 380 MB")
def test_searches_agree_with_optax():
    script = Path(__file__).with_name("optax_line_search.py")
    run = subprocess.run(
        [sys.executable, str(script)], input=json.dumps(CASES), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    for case, theirs in zip(CASES, json.loads(run.stdout), strict=True):
        (reset,) = (name for name, (by, _) in OPTAX.items() if by == case["increase_factor"])
        w = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
        optimizer = LineSearch(
            [w], case["lr"], c=case["c"], beta=case["beta"], reset=reset, growth=OPTAX[reset][1]
        )
        ours = []
        for _ in range(case["steps"]):
            optimizer.step(closure_of(optimizer, lambda w=w: rosenbrock(w)))
            ours.append([optimizer.step_size, *w.tolist()])
        assert optimizer.extra_forwards > case["steps"]
        assert ours == [pytest.approx(row, rel=1e-9) for row in theirs]


@given(
    curvature=st.floats(1e-3, 1e3),
    at=st.floats(-10, 10).filter(lambda at: abs(at) > 1e-3),
    lr=st.floats(1e-4, 1e4),
    c=st.floats(0.01, 0.99),
    beta=st.floats(0.1, 0.95),
)
def test_a_step_is_the_first_of_its_row_that_satisfies_armijo(curvature, at, lr, c, beta):
    w, optimizer, closure = quadratic(curvature, at, lr, c=c, beta=beta, max_backtracks=1000)
    loss, gradient = curvature / 2 * at**2, curvature * at

    def slack(step):
        """How far the condition is from failing, relative to the loss."""
        return 1 - c * step * gradient**2 / loss - (1 - step * curvature) ** 2

    optimizer.step(closure)
    taken, tried = optimizer.step_size, optimizer.extra_forwards
    assert taken == pytest.approx(lr * beta ** (tried - 1), rel=1e-9)
    assert slack(taken) > -1e-9
    assert tried == 1 or slack(taken / beta) < 1e-9
    assert w.item() == pytest.approx(at - taken * gradient, rel=1e-9)


@pytest.mark.parametrize(
    ("reset", "searches"),
    [
        # With c = ½, steps up to 1 pass: 16, 8, 4, 2, 1 are tried in the first search.
        ("keep", [(1, 5), (1, 6), (1, 7)]),
        ("max", [(1, 5), (1, 10), (1, 15)]),
        # 1.5 fails and 0.75 passes; 1.125 fails and 0.5625 passes.
        ("grow", [(1, 5), (0.75, 7), (0.5625, 9)]),
    ],
)
def test_a_search_begins_where_its_reset_says(reset, searches):
    w, optimizer, closure = quadratic(c=0.5, beta=0.5, reset=reset, growth=1.5)
    seen = []
    for _ in range(3):
        optimizer.step(closure)
        seen.append((optimizer.step_size, optimizer.extra_forwards))
        with torch.no_grad():
            w.fill_(1.0)
    assert seen == searches


@every_reset
def test_no_step_is_greater_than_the_rate_that_a_schedule_sets(reset):
    _, optimizer, closure = quadratic(curvature=0.1, lr=4.0, reset=reset, growth=10.0)
    for lr in (4.0, 0.5, 2.0):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step(closure)
        assert optimizer.step_size <= lr
    # Only "keep" remembers that it was once held down.
    assert optimizer.step_size == (0.5 if reset == "keep" else 2.0)


def test_a_rate_of_zero_searches_nothing():
    w, optimizer, closure = quadratic(lr=0.0)
    optimizer.step(closure)
    assert (w.item(), optimizer.extra_forwards, optimizer.step_size) == (1.0, 0, None)


def test_the_groups_rates_keep_their_ratio():
    a, b = (torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = LineSearch([{"params": [a]}, {"params": [b], "lr": 4.0}], 16.0, c=0.5, beta=0.5)
    optimizer.step(closure_of(optimizer, lambda: (a.square() / 2 + b.square() / 2).sum()))
    assert optimizer.step_size < 16
    assert 1 - b.item() == pytest.approx((1 - a.item()) / 4)
    assert 1 - a.item() == optimizer.step_size


def test_the_slope_counts_each_group_at_its_own_rate():
    """At lr 0 a group neither moves nor promises a decrease."""
    a, b = (torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = LineSearch([{"params": [a]}, {"params": [b], "lr": 0.0}], 1.0, c=0.5)
    optimizer.step(closure_of(optimizer, lambda: (a.square() / 2 + 50 * b.square()).sum()))
    assert (a.item(), b.item(), optimizer.extra_forwards) == (0.0, 1.0, 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_try_whose_loss_is_not_finite_fails(bad):
    w = torch.ones(1, requires_grad=True)
    optimizer = LineSearch([w], 1.0, beta=0.5)

    def loss_of():
        loss = (w.square() / 2).sum()
        return loss if w.item() > 0.6 else loss * bad

    optimizer.step(closure_of(optimizer, loss_of))
    assert (optimizer.step_size, optimizer.extra_forwards) == (0.25, 3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("of_gradient", [True, False])
def test_a_loss_that_is_not_finite_to_begin_with_changes_nothing(bad, of_gradient):
    w, optimizer, closure = quadratic()
    optimizer.step(closure)
    before = (w.item(), optimizer.step_size, optimizer.extra_forwards)
    returned = optimizer.step(
        closure_of(optimizer, lambda: (w * bad).sum() if of_gradient else w.sum() + bad)
    )
    assert not math.isfinite(returned.item())
    assert (w.item(), optimizer.step_size, optimizer.extra_forwards) == before


@every_reset
@given(start=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=5))
def test_if_no_step_passes_the_parameters_are_bit_for_bit_as_before(reset, start):
    w = torch.tensor(start, requires_grad=True)
    optimizer = LineSearch([w], 0.7, reset=reset, max_backtracks=7)
    tries = []
    optimizer.step(
        closure_of(optimizer, lambda: w.sum() if torch.is_grad_enabled() else w.sum() + 1e8, tries)
    )
    assert torch.equal(w.detach(), torch.tensor(start))
    assert len(tries) == optimizer.extra_forwards == 8
    assert optimizer.step_size == pytest.approx(0.7 * 0.9**7)


def test_after_a_search_in_vain_the_next_one_goes_on():
    """So that a rate far too high is found out, if not in one step."""
    w, optimizer, closure = quadratic(lr=1e9, beta=0.5, max_backtracks=10)
    steps = 0
    while w.item() == 1.0:
        optimizer.step(closure)
        steps += 1
    assert steps == 3


def test_where_the_loss_cannot_fall_by_enough_to_show_it_need_not():
    """In float32, 1 - 1e-12 is 1."""
    w = torch.tensor([1e-6], requires_grad=True)
    optimizer = LineSearch([w], 1.0)
    optimizer.step(closure_of(optimizer, lambda: 1 + (w.square() / 2).sum()))
    assert (optimizer.step_size, optimizer.extra_forwards) == (1.0, 1)


def train(optimizer, parameters, steps, start=0):
    sizes = []
    for step in range(start, start + steps):
        optimizer.step(
            closure_of(
                optimizer,
                lambda step=step: sum(
                    ((k + 1) * (p - math.sin(step)).square()).sum()
                    for k, p in enumerate(parameters)
                ),
            )
        )
        sizes.append((optimizer.step_size, optimizer.extra_forwards))
    return sizes


def some_parameters():
    return [torch.linspace(-1, 1, n).requires_grad_() for n in (4, 3)]


@every_reset
@settings(max_examples=8)
@given(cut=st.integers(0, 8))
def test_resuming_from_a_file_changes_nothing(reset, cut):
    parameters = some_parameters()
    whole = train(LineSearch(parameters, 2.0, reset=reset), parameters, 8)

    before = some_parameters()
    first = LineSearch(before, 2.0, reset=reset)
    head = train(first, before, cut)
    file = io.BytesIO()
    torch.save((first.state_dict(), before), file)
    file.seek(0)
    state, after = torch.load(file)
    second = LineSearch(after, 2.0, reset=reset)
    second.load_state_dict(state)

    assert second.extra_forwards == first.extra_forwards
    assert head + train(second, after, 8 - cut, start=cut) == whole
    assert all(torch.equal(p, q) for p, q in zip(parameters, after, strict=True))


def test_a_deep_copy_goes_on_alike_and_apart():
    parameters = some_parameters()
    optimizer = LineSearch(parameters, 2.0)
    train(optimizer, parameters, 3)
    twins, twin = copy.deepcopy((parameters, optimizer))
    ours = train(optimizer, parameters, 3, start=3)
    assert train(twin, twins, 3, start=3) == ours


def test_a_state_taken_earlier_does_not_follow_the_search():
    _, optimizer, closure = quadratic()
    state = optimizer.state_dict()
    optimizer.step(closure)
    assert state["state"]["search"]["extra_forwards"] == 0


@pytest.mark.parametrize("lr", [1.0, 1e2, 1e4])
@pytest.mark.parametrize("reset", ["keep", "grow"])
def test_logistic_regression_is_solved_whatever_the_greatest_step(reset, lr):
    """Of data that one model fits, as the paper's theory asks (interpolation)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 5, generator=generator)
    sides = x.sum(1).sign()
    x, y = x + 0.3 * sides[:, None], (sides > 0).float()
    w = torch.zeros(5, requires_grad=True)

    def loss(rows):
        return torch.nn.functional.binary_cross_entropy_with_logits(x[rows] @ w, y[rows])

    optimizer = LineSearch([w], lr, reset=reset)
    for step in range(300):
        rows = torch.arange(step * 32, step * 32 + 32) % 256
        optimizer.step(closure_of(optimizer, lambda rows=rows: loss(rows)))
    assert loss(torch.arange(256)) < 0.01


def test_a_tensor_without_a_gradient_stays_as_it_is():
    used, unused = some_parameters()
    optimizer = LineSearch([used, unused], 0.1)
    was = unused.detach().clone()
    optimizer.step(closure_of(optimizer, lambda: used.square().sum()))
    assert torch.equal(unused, was)
    assert optimizer.extra_forwards > 0


def test_a_step_without_a_closure_is_refused_with_the_cure():
    _, optimizer, _ = quadratic()
    with pytest.raises(TypeError, match=r"needs a closure.*optimizer\.step\(closure\)"):
        optimizer.step()


def test_a_closure_that_always_calls_backward_is_refused_with_the_cure():
    w, optimizer, _ = quadratic()

    def closure():
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    with pytest.raises(RuntimeError, match=r"called backward\(\).*torch\.is_grad_enabled\(\)"):
        optimizer.step(closure)
    assert w.item() == 1.0


@pytest.mark.parametrize("set_to_none", [True, False])
def test_a_closure_that_changes_the_gradients_in_a_try_is_refused(set_to_none):
    w, optimizer, _ = quadratic()

    def closure():
        with torch.enable_grad():
            optimizer.zero_grad(set_to_none=set_to_none)
            loss = w.square().sum()
            loss.backward()
        return loss

    with pytest.raises(RuntimeError, match="changed the gradients in a try"):
        optimizer.step(closure)
    assert w.item() == 1.0


def test_an_error_in_a_try_leaves_the_parameters_as_before():
    w, optimizer, _ = quadratic()

    def loss_of():
        if not torch.is_grad_enabled():
            raise KeyboardInterrupt
        return w.square().sum()

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure_of(optimizer, loss_of))
    assert w.item() == 1.0


def test_a_closure_that_returns_no_number_is_refused():
    w, optimizer, _ = quadratic()
    with pytest.raises(ValueError, match=r"one number, got shape \(2,\)"):
        optimizer.step(lambda: torch.ones(2))
    assert w.item() == 1.0


@pytest.mark.parametrize(
    ("searching", "message"),
    [
        ({"c": 1.0}, "c must lie strictly between 0 and 1, got 1.0"),
        ({"beta": 0.0}, "beta must lie strictly between 0 and 1, got 0.0"),
        ({"reset": "shrink"}, "reset must be one of keep, max, grow, got 'shrink'"),
        ({"growth": 0.5}, "growth must be finite and at least 1, got 0.5"),
        ({"max_backtracks": -1}, "max_backtracks must be at least 0, got -1"),
        ({"lr": -1.0}, "lr must be finite and at least 0, got -1.0"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_rule(searching, message):
    with pytest.raises(ValueError, match=message):
        quadratic(**searching)


def test_a_group_with_a_search_of_its_own_is_refused():
    groups = [{"params": [torch.ones(1, requires_grad=True)], "c": 0.5}]
    with pytest.raises(ValueError, match=r"c is the optimizer's, 0.1, got 0.5 for a group"):
        LineSearch(groups, 1.0)


def test_sparse_gradients_are_refused_with_the_cure():
    w, optimizer, _ = quadratic()

    def closure():
        w.grad = torch.ones(1, dtype=torch.float64).to_sparse()
        return w.square().sum()

    with pytest.raises(TypeError, match="sparse=False"):
        optimizer.step(closure)
