"""Hypergradient descent as an optimizer: rates, groups, schedules, checkpoints, bad gradients."""

import copy
import io
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot.optimizers import HypergradientAdam, HypergradientSGD

FORMS = ("multiplicative", "additive")
GRANULARITIES = ("global", "group", "tensor", "parameter")
KINDS = {
    "sgd": lambda groups, **settings: HypergradientSGD(groups, 0.05, **settings),
    "momentum": lambda groups, **settings: HypergradientSGD(
        groups, 0.05, momentum=0.9, weight_decay=0.1, **settings
    ),
    "nesterov": lambda groups, **settings: HypergradientSGD(
        groups, 0.05, momentum=0.9, nesterov=True, **settings
    ),
    "adam": lambda groups, **settings: HypergradientAdam(groups, 0.05, **settings),
    "adamw": lambda groups, **settings: HypergradientAdam(
        groups, 0.05, weight_decay=0.1, decoupled=True, **settings
    ),
}
HYPER_LR = {"multiplicative": 0.1, "additive": 1e-3}

every_kind = pytest.mark.parametrize("kind", KINDS)
every_form = pytest.mark.parametrize("form", FORMS)
every_granularity = pytest.mark.parametrize("per", GRANULARITIES)


def two_groups(dtype=torch.float32):
    a, b, c = (torch.linspace(-1, 1, n, dtype=dtype).requires_grad_() for n in (4, 2, 3))
    return [a, b, c], [{"params": [a, b]}, {"params": [c], "lr": 0.01}]


def train(optimizer, parameters, steps, start=0):
    """Minibatches of a quadratic, each with another optimum."""
    losses = []
    for step in range(start, start + steps):

        def closure(step=step):
            optimizer.zero_grad()
            loss = sum(
                ((k + 1) * (p - math.sin(step + k)).square()).sum()
                for k, p in enumerate(parameters)
            )
            loss.backward()
            return loss

        losses.append(optimizer.step(closure).item())
    return losses


def numbers(rates):
    return torch.cat([torch.as_tensor(rate).double().reshape(-1) for row in rates for rate in row])


@every_kind
@every_form
@every_granularity
@settings(max_examples=4)
@given(cut=st.integers(0, 8))
def test_resuming_from_a_file_changes_nothing(kind, form, per, cut):
    learning = {"form": form, "per": per, "hyper_lr": HYPER_LR[form]}
    parameters, groups = two_groups(torch.bfloat16)
    whole = KINDS[kind](groups, **learning)
    losses = train(whole, parameters, 8)

    before, groups = two_groups(torch.bfloat16)
    first = KINDS[kind](groups, **learning)
    head = train(first, before, cut)
    file = io.BytesIO()
    torch.save((first.state_dict(), before), file)
    file.seek(0)
    state, after = torch.load(file)
    second = KINDS[kind]([{"params": after[:2]}, {"params": after[2:], "lr": 0.01}], **learning)
    second.load_state_dict(state)

    assert head + train(second, after, 8 - cut, start=cut) == losses
    assert torch.equal(numbers(second.rates()), numbers(whole.rates()))
    assert all(torch.equal(p, q) for p, q in zip(parameters, after, strict=True))


@every_kind
@every_granularity
def test_a_deep_copy_goes_on_alike_and_apart(kind, per):
    parameters, groups = two_groups()
    optimizer = KINDS[kind](groups, per=per)
    train(optimizer, parameters, 3)
    copied, twin = copy.deepcopy((parameters, optimizer))
    ours = train(optimizer, parameters, 3, start=3)
    assert train(twin, copied, 3, start=3) == ours
    assert torch.equal(numbers(twin.rates()), numbers(optimizer.rates()))


REFERENCES = {
    "sgd": lambda groups: torch.optim.SGD(groups, 0.05),
    "momentum": lambda groups: torch.optim.SGD(groups, 0.05, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda groups: torch.optim.SGD(groups, 0.05, momentum=0.9, nesterov=True),
    "adam": lambda groups: torch.optim.Adam(groups, 0.05),
    "adamw": lambda groups: torch.optim.AdamW(groups, 0.05, weight_decay=0.1),
}


@every_kind
@every_form
@every_granularity
def test_without_a_hyper_rate_it_is_torchs_optimizer(kind, form, per):
    parameters, groups = two_groups(torch.float64)
    ours = train(KINDS[kind](groups, form=form, per=per, hyper_lr=0), parameters, 20)
    parameters, groups = two_groups(torch.float64)
    theirs = train(REFERENCES[kind](groups), parameters, 20)
    assert ours == pytest.approx(theirs, rel=1e-12)


gradients = st.one_of(
    st.floats(width=32), st.sampled_from([0.0, 1e-30, -1e25, math.inf, -math.inf, math.nan])
)


@every_kind
@every_form
@every_granularity
@settings(max_examples=10)
@given(steps=st.lists(st.tuples(gradients, gradients), max_size=12), lrs=st.data())
def test_rates_are_finite_and_never_negative_whatever_the_gradients(kind, form, per, steps, lrs):
    first, second = torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)
    optimizer = KINDS[kind]([{"params": [first]}, {"params": [second]}], form=form, per=per)
    for own, other in steps:
        for group in optimizer.param_groups:
            group["lr"] = lrs.draw(st.floats(0, 10))
        first.grad, second.grad = torch.tensor([own, other]), torch.tensor([other])
        optimizer.step()
        rates = numbers(optimizer.rates())
        assert (rates >= 0).all()
        assert rates.isfinite().all()


@every_form
@every_granularity
def test_a_gradient_that_is_not_finite_moves_no_rate_and_is_forgotten(form, per):
    p = torch.ones(3, requires_grad=True)
    optimizer = HypergradientSGD([p], 0.1, form=form, per=per)
    for gradient in (1.0, 1.0):
        p.grad = torch.full((3,), gradient)
        optimizer.step()
    learned = numbers(optimizer.rates())
    assert (learned > 0.1).all()
    for gradient in (math.nan, 1.0, math.inf, 1.0):
        p.grad = torch.full((3,), gradient)
        optimizer.step()
        assert torch.equal(numbers(optimizer.rates()), learned)
    p.grad = torch.ones(3)
    optimizer.step()
    assert (numbers(optimizer.rates()) > learned).all()


@every_granularity
@pytest.mark.parametrize(("turn", "bound"), [(1.0, 1e10), (-1.0, 1e-10)])
def test_a_factor_stays_where_it_can_come_back_from(per, turn, bound):
    p = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = HypergradientSGD([p], 1.0, hyper_lr=0.9, per=per)
    gradient = 1.0
    for _ in range(400):
        p.grad = torch.full((1,), gradient, dtype=torch.float64)
        optimizer.step()
        gradient *= turn
    assert numbers(optimizer.rates()).item() == pytest.approx(bound)


def test_one_number_that_is_not_finite_stops_only_its_own_rate():
    p = torch.ones(3, requires_grad=True)
    optimizer = HypergradientSGD([p], 0.1, hyper_lr=0.5, per="parameter")
    for gradient in ([1.0, 1.0, 1.0], [1.0, math.nan, -1.0]):
        p.grad = torch.tensor(gradient)
        optimizer.step()
    assert optimizer.rates()[0][0].tolist() == pytest.approx([0.15, 0.1, 0.05])


@every_kind
def test_schedules_compose_with_a_factor(kind):
    """Half of the base rate is half of the rate, and the factor does not notice."""
    parameters, groups = two_groups()
    optimizer = KINDS[kind](groups, hyper_lr=0.1)
    train(optimizer, parameters, 5)
    before = numbers(optimizer.rates())
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    assert torch.equal(numbers(optimizer.rates()), before * 0.5)


def test_an_offset_is_added_to_whatever_the_schedule_says():
    p = torch.ones(1, requires_grad=True)
    optimizer = HypergradientSGD([p], 1.0, hyper_lr=0.01, form="additive")
    for _ in range(2):
        p.grad = torch.ones(1)
        optimizer.step()
    assert optimizer.rates() == [[1.01]]
    optimizer.param_groups[0]["lr"] = 0.25
    assert optimizer.rates() == [[0.26]]


@every_granularity
def test_an_offset_stops_where_the_rate_is_zero_and_comes_back(per):
    p = torch.ones(1, requires_grad=True)
    optimizer = HypergradientSGD([p], 0.1, hyper_lr=1.0, form="additive", per=per)
    seen = []
    for gradient in (1.0, -1.0, 1.0, 0.2, 0.2):
        p.grad = torch.full((1,), gradient)
        optimizer.step()
        seen.append(numbers(optimizer.rates()).item())
    assert seen == pytest.approx([0.1, 0, 0, 0.2, 0.24])


@every_granularity
def test_a_schedule_that_falls_to_zero_does_not_erase_a_negative_offset(per):
    p = torch.ones(1, requires_grad=True)
    optimizer = HypergradientSGD([p], 0.1, hyper_lr=0.05, form="additive", per=per)
    for gradient, lr in ((1.0, 0.1), (-1.0, 0.1), (1.0, 0.0)):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.full((1,), gradient)
        optimizer.step()
    assert numbers(optimizer.rates()).item() == 0
    optimizer.param_groups[0]["lr"] = 0.1
    assert numbers(optimizer.rates()).item() == pytest.approx(0.05)


@every_granularity
def test_a_step_at_rate_zero_teaches_a_factor_nothing(per):
    p = torch.ones(2, requires_grad=True)
    optimizer = HypergradientSGD([p], 0.0, hyper_lr=0.5, per=per)
    for lr in (0.0, 1.0):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = torch.ones(2)
        optimizer.step()
    assert numbers(optimizer.rates()).tolist() in ([1.0], [1.0, 1.0])


def test_a_rate_has_the_size_that_was_asked_for():
    parameters, groups = two_groups()
    shapes = {}
    for per in GRANULARITIES:
        optimizer = HypergradientSGD(copy.deepcopy(groups), 0.05, per=per)
        shapes[per] = [[getattr(rate, "shape", None) for rate in row] for row in optimizer.rates()]
    scalar = [[None, None], [None]]
    assert shapes == {
        "global": scalar,
        "group": scalar,
        "tensor": scalar,
        "parameter": [[p.shape for p in parameters[:2]], [parameters[2].shape]],
    }


@pytest.mark.parametrize(("per", "distinct"), [("global", 1), ("group", 2), ("tensor", 3)])
def test_so_many_factors_differ_as_there_are_rates(per, distinct):
    parameters, groups = two_groups()
    optimizer = HypergradientSGD(groups, 0.05, per=per)
    train(optimizer, parameters, 4)
    factors = {
        rate / group["lr"]
        for row, group in zip(optimizer.rates(), optimizer.param_groups, strict=True)
        for rate in row
    }
    assert len({round(factor, 12) for factor in factors}) == distinct


def test_a_group_may_learn_at_its_own_speed():
    parameters, groups = two_groups()
    optimizer = HypergradientSGD([groups[0], groups[1] | {"hyper_lr": 0.0}], 0.05, per="group")
    train(optimizer, parameters, 4)
    (first, _), (second,) = optimizer.rates()
    assert first != 0.05
    assert second == 0.01


@every_granularity
def test_a_group_that_joins_later_learns_too(per):
    parameters, groups = two_groups()
    optimizer = HypergradientSGD(groups, 0.05, per=per)
    train(optimizer, parameters, 4)
    late = torch.ones(2, requires_grad=True)
    optimizer.add_param_group({"params": [late], "lr": 0.02})
    (rate,) = optimizer.rates()[-1]
    inherited = optimizer.rates()[0][0] / 0.05 if per == "global" else 1.0
    assert numbers([[rate]]).tolist() == pytest.approx(
        [0.02 * inherited] * numbers([[rate]]).numel()
    )
    train(optimizer, [*parameters, late], 2, start=4)
    (moved,) = optimizer.rates()[-1]
    assert not torch.equal(numbers([[moved]]), numbers([[rate]]))


@every_kind
@every_granularity
def test_a_tensor_without_a_gradient_stays_as_it_is(kind, per):
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = KINDS[kind]([used, unused], per=per)
    for _ in range(3):
        used.grad = torch.ones(2)
        optimizer.step()
    assert torch.equal(unused, torch.ones(3))
    assert unused not in optimizer.state
    assert not torch.equal(used, torch.ones(2))


@pytest.mark.parametrize(("kind", "good"), [("sgd", 0.3), ("adam", 0.3)])
@every_granularity
def test_from_a_rate_ten_times_too_low_it_ends_far_below_the_fixed_rate(kind, good, per):
    curvatures = torch.tensor([1.0, 0.3, 0.1])
    ends = {}
    for hyper_lr in (0.0, 0.05):
        p = torch.full((3,), 5.0, requires_grad=True)
        optimizer = KINDS[kind]([p], per=per, hyper_lr=hyper_lr)
        for _ in range(100):
            optimizer.param_groups[0]["lr"] = good / 10
            optimizer.zero_grad()
            loss = (curvatures * p.square()).sum()
            loss.backward()
            optimizer.step()
        ends[hyper_lr] = loss.item()
    assert ends[0.05] < 0.1 * ends[0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "times"}, "form must be one of multiplicative, additive, got 'times'"),
        ({"per": "layer"}, "per must be one of global, group, tensor, parameter, got 'layer'"),
        ({"hyper_lr": 1.0}, "hyper_lr must be below 1, got 1.0"),
        ({"hyper_lr": -0.1}, "hyper_lr must be finite and at least 0, got -0.1"),
        ({"hyper_lr": math.nan, "form": "additive"}, "hyper_lr must be finite"),
        ({"weight_decay": -1.0}, "weight_decay must be finite and at least 0, got -1.0"),
        ({"momentum": 1.0}, r"momentum must lie in \[0, 1\), got 1.0"),
        ({"nesterov": True}, "nesterov needs a momentum"),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_rule(settings, message):
    with pytest.raises(ValueError, match=message):
        HypergradientSGD([torch.ones(1, requires_grad=True)], 0.1, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"betas": (0.9, 1.0)}, r"betas must lie in \[0, 1\), got \(0.9, 1.0\)"),
        ({"eps": -1.0}, "eps must be at least 0, got -1.0"),
    ],
)
def test_a_setting_of_adam_out_of_range_is_refused_with_its_rule(settings, message):
    with pytest.raises(ValueError, match=message):
        HypergradientAdam([torch.ones(1, requires_grad=True)], 0.1, **settings)


def test_a_negative_rate_is_refused():
    with pytest.raises(ValueError, match="lr must be finite and at least 0, got -1"):
        HypergradientSGD([torch.ones(1, requires_grad=True)], -1)


def test_a_group_of_another_form_is_refused():
    groups = [{"params": [torch.ones(1, requires_grad=True)], "form": "additive"}]
    with pytest.raises(
        ValueError, match="form is the optimizer's, 'multiplicative', got 'additive'"
    ):
        HypergradientSGD(groups, 0.1)


def test_a_state_of_another_granularity_is_refused():
    p = torch.ones(1, requires_grad=True)
    state = HypergradientSGD([p], 0.1, per="tensor").state_dict()
    with pytest.raises(ValueError, match="saved with per='tensor' and this optimizer has 'global'"):
        HypergradientSGD([p], 0.1).load_state_dict(state)


def test_complex_parameters_are_refused_and_leave_no_group():
    optimizer = HypergradientSGD([torch.ones(1, requires_grad=True)], 0.1)
    with pytest.raises(TypeError, match="complex parameters are not supported"):
        optimizer.add_param_group({"params": [torch.ones(1, dtype=torch.cfloat)]})
    assert len(optimizer.param_groups) == 1


def test_sparse_gradients_are_refused_with_the_cure():
    p = torch.ones(2, requires_grad=True)
    p.grad = torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError, match="sparse=False"):
        HypergradientAdam([p], 0.1).step()
