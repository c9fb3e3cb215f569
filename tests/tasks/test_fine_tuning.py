"""Fine-tuning adds to one trained model, and leaves that as it is."""

import torch

from lrpilot.bench.suite import TORCH_OPTIMIZERS
from lrpilot.tasks import find_task
from lrpilot.tasks.data import stdlib_source
from lrpilot.tasks.fine_tuning import manual
from lrpilot.tasks.next_byte import predict_bytes
from lrpilot.tasks.pretraining import pretrain, read_or_make, source_model, source_weights
from lrpilot.tasks.training import apply

TASK = find_task("bytes-lora")
WEIGHTS = {"w": torch.tensor([1.0, 2.0])}


def on_text(text):
    """What predicts it from all the weights; nothing is drawn."""
    model = source_model()
    return predict_bytes(lambda values, text: apply(model, values, text), {}, text, None)


def refuse():
    raise AssertionError("made again")


def test_every_run_begins_at_the_trained_model():
    with torch.no_grad():
        loss = on_text(manual()).held_out_loss(source_weights(), "validation").item()
    for seed in (0, 1):
        assert TASK.start(seed, TORCH_OPTIMIZERS["adamw"]).evaluate() == loss


def test_the_trained_model_is_frozen():
    before = {name: weight.clone() for name, weight in source_weights().items()}
    run = TASK.start(0, TORCH_OPTIMIZERS["adamw"])
    for _ in range(5):
        run.step(0.1)
    assert all(torch.equal(weight, before[name]) for name, weight in source_weights().items())
    assert not before.keys() & run.values.keys()
    assert all(value.requires_grad for value in run.values.values())


def test_the_trained_model_knows_source_code():
    judged = on_text(stdlib_source())
    with torch.no_grad():
        assert judged.held_out_loss(source_weights(), "validation") < 2.1


def test_training_the_model_again_gives_the_same_weights():
    first, second = pretrain(steps=3), pretrain(steps=3)
    assert first.keys() == source_model().state_dict().keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_are_made_once_and_read_from_then_on(tmp_path):
    path = tmp_path / "folder" / "weights.pt"
    assert read_or_make(path, lambda: WEIGHTS) is WEIGHTS
    assert torch.equal(read_or_make(path, refuse)["w"], WEIGHTS["w"])
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_weights_that_cannot_be_read_are_made_again(tmp_path):
    path = tmp_path / "weights.pt"
    for rubbish in (b"", b"rubbish"):
        path.write_bytes(rubbish)
        assert read_or_make(path, lambda: WEIGHTS) is WEIGHTS
        assert torch.equal(read_or_make(path, refuse)["w"], WEIGHTS["w"])


def test_a_folder_that_cannot_be_written_to_is_no_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert read_or_make(tmp_path / "file" / "weights.pt", lambda: WEIGHTS) is WEIGHTS
