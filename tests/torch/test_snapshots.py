"""Snapshots: accepted once healthy, put back bit for bit, in place and not for ever."""

import math

import pytest
import torch
from torch import distributed, nn, optim
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from lrpilot.schedules import Constant, OpenLoop, Signal
from lrpilot.schedules.guard import Guard
from lrpilot.torch.snapshots import Snapshots
from rollbacks import (
    OPTIMIZERS,
    addresses,
    alarm,
    contents,
    copied,
    equal,
    healthy,
    network,
    place,
    quadratic,
    train,
)

every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
everywhere = pytest.mark.parametrize("where", ["memory", "cpu", "folder"])


@everywhere
@every_optimizer
def test_weights_buffers_and_optimizer_state_come_back_bit_for_bit(name, where, tmp_path):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    snapshots = Snapshots(model, optimizer, where=place(where, tmp_path))
    train(model, optimizer, range(3))
    snapshots.take(3)
    kept = contents(model, optimizer)
    healthy(snapshots, 4)
    train(model, optimizer, range(3, 8))
    for group in optimizer.param_groups:
        group["lr"] = 0.123
    result = alarm(snapshots, 8)
    assert (result.outcome, result.step, result.attempt) == ("restored", 3, 1)
    assert equal(contents(model, optimizer), kept)
    assert optimizer.param_groups[0]["lr"] == 0.123
    train(model, optimizer, range(8, 11))  # the optimizer goes on


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lbfgs", "nadam")])
def test_what_is_put_back_is_written_into_the_tensors_that_are_there(name):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    snapshots = Snapshots(model, optimizer)
    train(model, optimizer, range(3))
    snapshots.take(3)
    healthy(snapshots, 4)
    train(model, optimizer, range(3, 5))
    before = addresses(model, optimizer)
    alarm(snapshots, 5)
    assert addresses(model, optimizer) == before


@everywhere
@every_optimizer
def test_a_run_put_back_to_its_start_goes_as_a_new_one(name, where, tmp_path):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    snapshots = Snapshots(model, optimizer, where=place(where, tmp_path))
    train(model, optimizer, range(1))
    healthy(snapshots, 1)
    train(model, optimizer, range(1, 5))
    assert alarm(snapshots, 5).step == 0
    train(model, optimizer, range(6))

    fresh = network()
    optimizer = OPTIMIZERS[name](fresh.parameters())
    train(fresh, optimizer, range(6))
    assert equal([*map(copied, model.parameters())], [*map(copied, fresh.parameters())])


@pytest.mark.parametrize("name", ["momentum", "adamw", "adamw, fused", "rmsprop"])
def test_state_that_starts_from_zero_keeps_its_place_when_the_start_is_put_back(name):
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    snapshots = Snapshots(model, optimizer)
    train(model, optimizer, range(1))
    healthy(snapshots, 1)
    before = addresses(model, optimizer)
    alarm(snapshots, 2)
    assert addresses(model, optimizer) == before


def test_what_is_loaded_after_the_snapshots_were_made_is_in_the_first_one():
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    snapshots = Snapshots(model, optimizer)
    model.load_state_dict(network(seed=1).state_dict())
    kept = contents(model, optimizer)
    snapshots.start_at(70)
    train(model, optimizer, range(1))
    healthy(snapshots, 71)
    assert alarm(snapshots, 72).step == 70
    assert equal(contents(model, optimizer)[:7], kept[:7])


@pytest.mark.filterwarnings("ignore:the loss set off the alarm")
def test_nothing_is_put_back_before_a_healthy_loss_has_been_seen():
    weight, snapshots, step_to = quadratic()
    step_to(1.0)
    result = alarm(snapshots, 1)
    assert (result.outcome, result.step) == ("empty", None)
    assert str(result) == "not rolled back: there is no accepted snapshot of this model"
    assert weight.item() == 1.0


def test_a_candidate_is_accepted_only_after_enough_healthy_losses_of_its_own():
    _, snapshots, step_to = quadratic(every=10, proof=3)
    accepted = []
    for step in range(1, 26):
        step_to(step)
        suspicious = step in (11, 12)
        snapshots.observed(step, healthy=not suspicious, alarm=False)
        accepted.append(snapshots.accepted)
    assert accepted == [0] * 14 + [10] * 8 + [20] * 3


def test_a_poisoned_candidate_is_never_put_back():
    weight, snapshots, step_to = quadratic(every=10, proof=3)
    for step in range(1, 11):
        step_to(step)
        healthy(snapshots, step)
    assert snapshots.accepted == 0
    for step in (11, 12):  # the candidate is that of step 10, and it is bad
        step_to(1e9)
        snapshots.observed(step, healthy=step == 11, alarm=False)
    step_to(1e9)
    assert alarm(snapshots, 13).step == 0
    assert weight.item() == 0.0
    for step in range(14, 23):
        step_to(step)
        healthy(snapshots, step)
    assert snapshots.accepted == 0  # nor after it


def test_with_a_lag_only_losses_of_the_candidate_and_later_count():
    _, snapshots, step_to = quadratic(every=10, proof=1)
    accepted = {}
    for now in range(1, 30):
        step_to(now)
        if now > 4:
            snapshots.observed(now - 4, now=now, healthy=True, alarm=False)
        accepted[now] = snapshots.accepted
    # Step 10's weights gave the loss of step 11, which is seen at step 15.
    assert [accepted[now] for now in (4, 5, 14, 15, 24, 25)] == [None, 0, 0, 10, 10, 20]


def test_with_a_lag_losses_of_weights_that_are_gone_are_ignored():
    weight, snapshots, step_to = quadratic(every=1000, proof=1)
    for now in range(1, 11):
        step_to(now)
        if now > 4:
            snapshots.observed(now - 4, now=now, healthy=True, alarm=False)
    step_to(11)
    assert alarm(snapshots, 7, now=11).attempt == 1
    for now in range(12, 16):  # their losses are those of steps 8 to 11
        step_to(now)
        assert alarm(snapshots, now - 4, now=now) is None
        assert weight.item() == now
    step_to(16)
    assert alarm(snapshots, 12, now=16).attempt == 2


@pytest.mark.filterwarnings("ignore:the loss set off the alarm")
def test_attempts_are_bounded_until_enough_losses_have_been_healthy():
    weight, snapshots, step_to = quadratic(every=5, attempts=2)
    step_to(1.0)
    healthy(snapshots, 1)
    outcomes = []
    for step in range(2, 22):
        step_to(step)
        if step in (2, 6, 10, 11, 16, 17, 18):
            outcomes.append(str(alarm(snapshots, step)))
            assert weight.item() == (0.0 if "rolled back to" in outcomes[-1] else step)
        else:
            healthy(snapshots, step)
    assert outcomes == [
        "rolled back to step 0 (attempt 1)",
        "rolled back to step 0 (attempt 2)",
        *["not rolled back: 2 attempts are used up"] * 2,
        "not rolled back: 2 attempts are used up",
        *["not rolled back: 2 attempts are used up"] * 2,
    ]
    for step in range(22, 27):
        step_to(step)
        healthy(snapshots, step)
    assert alarm(snapshots, 27).outcome == "restored"


def test_several_modules_and_optimizers_and_shared_and_foreign_parameters():
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    foreign = nn.Parameter(torch.ones(3))
    optimizers = [
        optim.SGD(first.parameters(), lr=0.1, momentum=0.9),
        optim.AdamW([second.bias, foreign], lr=0.1),
    ]
    snapshots = Snapshots([first, second], optimizers)
    values = [first.weight, first.bias, second.bias, foreign]
    kept = [*map(copied, values)]
    for step in range(1, 4):
        for value in values:
            value.grad = torch.ones_like(value)
        for optimizer in optimizers:
            optimizer.step()
        healthy(snapshots, step)
    alarm(snapshots, 4)
    assert equal([*map(copied, values)], kept)
    assert second.weight is first.weight


def test_parameters_that_joined_after_the_snapshot_are_left_alone():
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    snapshots = Snapshots(model, optimizer)
    train(model, optimizer, range(1))
    healthy(snapshots, 1)
    model.append(nn.Linear(2, 2))
    optimizer.add_param_group({"params": model[-1].parameters()})
    train(model, optimizer, range(1, 3))
    kept = [copied(model[-1].weight), copied(optimizer.state[model[-1].weight])]
    assert alarm(snapshots, 3).outcome == "restored"
    assert equal([copied(model[-1].weight), copied(optimizer.state[model[-1].weight])], kept)


@pytest.mark.filterwarnings("ignore:the loss set off the alarm")
def test_a_layer_that_has_another_shape_than_in_the_snapshot_is_not_put_back():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    snapshots = Snapshots(model, optimizer, proof=1)
    train(model, optimizer, range(1))
    healthy(snapshots, 1)
    model[3] = nn.Linear(4, 7)
    assert alarm(snapshots, 2).outcome == "empty"
    for step in (3, 5):
        snapshots.take(step)
        healthy(snapshots, step + 1)
    assert alarm(snapshots, 7).step == 5


@pytest.mark.filterwarnings("ignore")  # of the compiler's own
@pytest.mark.parametrize("taken", [True, False])
def test_a_compiled_optimizer_step_is_not_recompiled(taken):
    torch._dynamo.reset()
    counters.clear()
    model = network()
    optimizer = OPTIMIZERS["adamw, foreach"](model.parameters())
    snapshots = Snapshots(model, optimizer, every=2, proof=1)
    if taken:
        snapshots.take(0)
    step = torch.compile(optimizer.step, backend="eager")
    graphs = []
    for number in range(1, 9):
        for param in model.parameters():
            param.grad = torch.ones_like(param)
        step()
        if number in (4, 7):
            assert alarm(snapshots, number).outcome == "restored"
        else:
            healthy(snapshots, number)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [1] * 8


def test_shards_come_back_in_place(tmp_path):
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        for where in ("memory", tmp_path / "shards"):
            snapshots = Snapshots(model, optimizer, where=where)
            train(model, optimizer, range(2))
            snapshots.take(2)
            kept = [param.full_tensor().clone() for param in model.parameters()]
            healthy(snapshots, 3)
            saved = snapshots.state_dict()["accepted"].get("weights", {})
            assert {type(value) for value in saved.values()} <= {torch.Tensor}
            train(model, optimizer, range(2, 5))
            before = [param.to_local().data_ptr() for param in model.parameters()]
            assert alarm(snapshots, 5).step == 2
            assert equal([param.full_tensor() for param in model.parameters()], kept)
            assert [param.to_local().data_ptr() for param in model.parameters()] == before
            train(model, optimizer, range(5, 7))
        optimizer = optim.AdamW(model.parameters(), lr=0.01)
        assert alarm(Snapshots(model, optimizer, where=where), 7).step == 2
        train(model, optimizer, range(7, 9))  # on shards of the state too
    finally:
        distributed.destroy_process_group()


def trained(rate: float, batches, *, guarded: bool, where=None) -> float:
    """Loss of a small network on its last batch, after one step on each."""
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    generator = torch.Generator().manual_seed(0)
    for param in model.parameters():
        nn.init.normal_(param, std=0.3, generator=generator)
    optimizer = optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    guard = Guard(OpenLoop(Constant(), total_steps=1000))
    snapshots = None if where is None else Snapshots(model, optimizer, where=where)
    state = guard.init()
    loss = torch.tensor(math.nan)
    for step, inputs in enumerate(batches, 1):
        loss = (model(inputs).squeeze(1) - inputs.sum(dim=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate * state.scale
        optimizer.step()
        before = state
        state = guard.update(state, Signal(loss.item())) if guarded else state
        if snapshots is not None:
            alarmed = state.alarms > before.alarms
            snapshots.observed(step, healthy=state.is_healthy, alarm=alarmed)
    return loss.item()


def batches(number: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(64, 8, generator=generator) for _ in range(number)]


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_rate_thirty_times_too_high_loses_the_run_without_and_not_with(where, tmp_path):
    tuned = trained(0.03, batches(400), guarded=False)
    assert math.isnan(trained(0.9, batches(400), guarded=False))
    assert math.isnan(trained(0.9, batches(400), guarded=True))
    assert trained(0.9, batches(400), guarded=True, where=place(where, tmp_path)) < 2 * tuned


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_poisoned_batch_loses_the_run_without_and_not_with(where, tmp_path):
    stream = batches(400)
    stream[250] = stream[250].clone()
    stream[250][3, 3] = math.nan
    assert math.isnan(trained(0.03, stream, guarded=False))
    assert math.isnan(trained(0.03, stream, guarded=True))
    assert trained(0.03, stream, guarded=True, where=place(where, tmp_path)) < 0.01


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"every": 0}, "every must be at least 1"),
        ({"proof": 0}, "proof must be at least 1"),
        ({"attempts": 0}, "attempts must be at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings, error):
    with pytest.raises(ValueError, match=error):
        quadratic(**settings)


@pytest.mark.parametrize(
    ("model", "optimizer", "error"),
    [
        (None, optim.SGD([torch.zeros(1)], lr=1.0), "model must be a Module or several"),
        (nn.Linear(1, 1), None, "optimizer must be a Optimizer or several"),
        (nn.Linear(1, 1), [], "optimizer must be a Optimizer or several"),
    ],
)
def test_what_is_no_model_or_optimizer_is_refused(model, optimizer, error):
    with pytest.raises(TypeError, match=error):
        Snapshots(model, optimizer)
