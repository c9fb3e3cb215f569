"""Where snapshots are kept: bounded in memory, whole on disk, exact on resume."""

import io
import math

import pytest
import torch
from torch import nn, optim

from lrpilot.schedules import Constant, OpenLoop, Signal
from lrpilot.schedules.guard import Guard
from lrpilot.torch.snapshots import Snapshots
from rollbacks import OPTIMIZERS, alarm, contents, equal, healthy, network, place, quadratic, train


@pytest.mark.parametrize("where", ["memory", "cpu"])
def test_many_snapshots_take_no_more_memory_than_two(where):
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    snapshots = Snapshots(model, optimizer, every=1, proof=1, where=where)
    taken = set()
    for step in range(1, 30):
        train(model, optimizer, [step])
        healthy(snapshots, step)
        for slot in ("accepted", "candidate"):
            weights = snapshots.state_dict()[slot]["weights"]
            taken |= {tensor.data_ptr() for tensor in weights.values()}
    assert snapshots.accepted == 28
    assert len(taken) == 2 * len(weights)


def test_a_new_process_finds_the_accepted_snapshot_in_the_folder(tmp_path):
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    snapshots = Snapshots(model, optimizer, every=5, proof=1, where=tmp_path)
    for step in range(1, 9):
        train(model, optimizer, [step])
        healthy(snapshots, step)
        if step == 5:
            kept = contents(model, optimizer)

    model = network(seed=1)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    again = Snapshots(model, optimizer, where=tmp_path)
    again.start_at(8)
    train(model, optimizer, [9])
    assert alarm(again, 9).step == 5
    assert equal(contents(model, optimizer), kept)
    train(model, optimizer, [10])


def test_state_is_put_back_where_the_optimizer_has_none_yet(tmp_path):
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    snapshots = Snapshots(model, optimizer, where=tmp_path)
    train(model, optimizer, range(3))
    snapshots.take(3)
    healthy(snapshots, 4)
    kept = contents(model, optimizer)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    assert alarm(Snapshots(model, optimizer, where=tmp_path), 4).outcome == "restored"
    assert equal(contents(model, optimizer), kept)


@pytest.mark.filterwarnings("ignore:the loss set off the alarm")
def test_a_snapshot_from_a_later_part_of_an_earlier_life_is_not_used(tmp_path):
    weight, snapshots, _ = quadratic(every=5, where=tmp_path)
    snapshots.take(600)
    healthy(snapshots, 601)
    again = Snapshots(nn.ParameterList([weight]), optim.SGD([weight], lr=1.0), where=tmp_path)
    assert again.accepted == 600
    again.start_at(500)
    assert alarm(again, 501).outcome == "empty"
    healthy(snapshots, *range(602, 620))
    assert alarm(snapshots, 501).outcome == "empty"  # nor when the same process goes back


@pytest.mark.parametrize("is_said", [True, False])
def test_a_candidate_from_a_part_of_the_run_that_was_undone_is_not_used(is_said):
    _, snapshots, _ = quadratic(proof=3)
    snapshots.take(0)
    healthy(snapshots, 1)
    snapshots.take(40)
    healthy(snapshots, 41)
    if is_said:
        snapshots.start_at(29)
    healthy(snapshots, 30)
    assert snapshots.state_dict()["candidate"]["step"] == 30


def test_state_is_put_back_onto_the_devices_where_the_optimizer_wants_it(tmp_path):
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    snapshots = Snapshots(model, optimizer, where=tmp_path)
    train(model, optimizer, range(2))
    snapshots.take(2)
    healthy(snapshots, 3)
    elsewhere = network().to("meta")
    optimizer = OPTIMIZERS["adamw"](elsewhere.parameters())
    assert alarm(Snapshots(elsewhere, optimizer, where=tmp_path), 4).outcome == "restored"
    for state in optimizer.state.values():
        assert {name: value.device.type for name, value in state.items()} == {
            "step": "cpu",
            "exp_avg": "meta",
            "exp_avg_sq": "meta",
        }


@pytest.mark.parametrize("where", ["memory", "folder"])
def test_a_state_survives_a_save_and_a_load(where, tmp_path):
    weight, snapshots, step_to = quadratic(every=5, where=place(where, tmp_path))
    for now in range(1, 20):
        step_to(now)
        bad = now == 13
        snapshots.observed(max(now - 2, 1), now=now, healthy=not bad, alarm=bad)
    saved = through_torch(snapshots.state_dict())
    counts = [saved[name] for name in ("now", "last", "replaced", "proven", "healthy")]
    assert counts == [19, 18, 13, 0, 4]
    again = Snapshots(
        nn.ParameterList([weight]), optim.SGD([weight], lr=1.0), where=place(where, tmp_path)
    )
    again.load_state_dict(saved)
    assert equal(through_torch(again.state_dict()), saved)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.7, 0.9, None])
def test_a_damaged_file_is_refused_by_name(place, tmp_path):
    weight, snapshots, _ = quadratic(where=tmp_path)
    snapshots.take(1)
    healthy(snapshots, 2)
    path = tmp_path / "accepted.pt"
    data = bytearray(path.read_bytes())
    if place is None:
        del data[len(data) // 2 :]
    else:
        data[int(place * len(data))] ^= 0xFF
    path.write_bytes(data)
    optimizer = optim.SGD([weight], lr=1.0)
    with pytest.raises(ValueError, match=r"accepted\.pt is damaged .*; delete it to go on"):
        Snapshots(nn.ParameterList([weight]), optimizer, where=tmp_path)


def test_a_file_that_holds_something_else_is_refused_by_name(tmp_path):
    torch.save({"version": 2, "step": 1, "weights": {}, "states": {}}, tmp_path / "accepted.pt")
    with pytest.raises(ValueError, match=r"accepted\.pt is damaged \(no snapshot in it\)"):
        quadratic(where=tmp_path)


def test_the_snapshot_of_another_model_is_refused(tmp_path):
    _, snapshots, _ = quadratic(where=tmp_path)
    snapshots.take(1)
    healthy(snapshots, 2)
    model = network()
    with pytest.raises(
        ValueError, match=r"another model: 0\.0 has shape \(1,\) there and none here"
    ):
        Snapshots(model, OPTIMIZERS["sgd"](model.parameters()), where=tmp_path)


def through_torch(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


BAD = {23: math.nan, 24: 1e9, 31: math.nan, 55: math.nan, 61: math.nan}


def guarded(steps, saved=None, where="memory"):
    """Train with a few bad losses; what was decided, the weights, and all there is to save."""
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    snapshots = Snapshots(model, optimizer, every=7, proof=3, where=where)
    guard = Guard(OpenLoop(Constant(), total_steps=100), recovery=5)
    state = guard.init()
    if saved is not None:
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        snapshots.load_state_dict(saved["snapshots"])
        state = saved["state"]
    decided = []
    for step in steps:
        optimizer.param_groups[0]["lr"] = 0.01 * state.scale
        train(model, optimizer, [step])
        before, state = state, guard.update(state, Signal(BAD.get(step, 1.0)))
        alarmed = state.alarms > before.alarms
        result = snapshots.observed(step, healthy=state.is_healthy, alarm=alarmed)
        decided.append((result, snapshots.accepted))
    saved = through_torch(
        {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "snapshots": snapshots.state_dict(),
        }
    )
    return decided, contents(model, optimizer), {**saved, "state": state}


@pytest.mark.parametrize("where", ["memory", "cpu", "folder"])
@pytest.mark.parametrize("cut", [1, 8, 16, 22, 24, 30, 54])
def test_interrupted_guarded_training_equals_uninterrupted(cut, where, tmp_path):
    decided, weights, _ = guarded(range(1, 71), where=place(where, tmp_path / "whole"))
    assert [result.step for result, _ in decided if result] == [14, 14, 45, 45]
    folder = place(where, tmp_path / "parts")
    first, _, saved = guarded(range(1, cut + 1), where=folder)
    second, resumed, _ = guarded(range(cut + 1, 71), saved, where=folder)
    assert first + second == decided
    assert equal(resumed, weights)


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: {},
        lambda state: state | {"version": 2},
        lambda state: state | {"healthy": 1.5},
        lambda state: state | {"last": "never"},
        lambda state: state | {"accepted": 3},
        lambda state: state | {"accepted": state["accepted"] | {"states": None}},
        lambda state: state | {"accepted": state["accepted"] | {"weights": {"0.0": 1.0}}},
        lambda state: state | {"accepted": state["accepted"] | {"step": None}},
        lambda state: state | {"candidate": {**state["accepted"], "weights": {"x": torch.ones(1)}}},
    ],
)
def test_a_foreign_or_damaged_state_is_refused_and_changes_nothing(damage):
    weight, snapshots, _ = quadratic()
    snapshots.take(1)
    healthy(snapshots, 2)
    sound = through_torch(snapshots.state_dict())
    with pytest.raises(ValueError, match=r"state of Snapshots|damaged|another model"):
        snapshots.load_state_dict(damage(sound))
    assert through_torch(snapshots.state_dict()) == sound
    assert weight.item() == 0.0


def test_a_folder_that_has_moved_on_is_said_aloud(tmp_path):
    _, snapshots, _ = quadratic(where=tmp_path, proof=1)
    snapshots.take(1)
    healthy(snapshots, 2)
    saved = snapshots.state_dict()
    snapshots.take(5)
    healthy(snapshots, 6)
    with pytest.warns(UserWarning, match="accepted snapshot of step 1 is no longer there"):
        snapshots.load_state_dict(saved)
    assert snapshots.accepted is None
