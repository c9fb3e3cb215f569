"""The GPT-2 here is the published one, and its checkpoints are."""

import json
import os
import pickle

import pytest
import torch
from gpt2 import GPT2, Shape, load_checkpoint, save_checkpoint
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

SHAPE = Shape(vocab_size=50, n_positions=12, n_embd=16, n_layer=2, n_head=4)
TOKENS = torch.arange(24).reshape(2, 12) * 2


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    sizes = {name: getattr(SHAPE, name) for name in SHAPE.__slots__}
    return GPT2LMHeadModel(GPT2Config(**sizes)).eval()


def logits(model):
    with torch.no_grad():
        found = model.eval()(TOKENS)
    return found if isinstance(found, torch.Tensor) else found.logits


def loaded(path, shape=SHAPE):
    torch.manual_seed(1)
    model = GPT2(shape)
    load_checkpoint(model, path)
    return model


def test_published_weights_yield_the_published_logits(published, tmp_path):
    weights = {name: tensor.clone() for name, tensor in published.state_dict().items()}
    plain = {name.removeprefix("transformer."): one for name, one in weights.items()}
    plain |= {"h.0.attn.bias": torch.ones(1, 1, 12, 12)}  # the mask, as in the oldest files
    torch.save(weights, tmp_path / "weights.pt")
    save_file(plain, tmp_path / "model.safetensors")
    for path in (tmp_path / "weights.pt", tmp_path / "model.safetensors", tmp_path):
        torch.testing.assert_close(logits(loaded(path)), logits(published))


def test_a_saved_checkpoint_is_read_here_and_by_transformers(tmp_path):
    torch.manual_seed(2)
    model = GPT2(SHAPE)
    save_checkpoint(model, tmp_path / "base")
    assert (logits(loaded(tmp_path / "base")) == logits(model)).all()
    theirs = GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    torch.testing.assert_close(logits(theirs), logits(model))


def test_a_prediction_depends_on_what_came_before_alone():
    torch.manual_seed(0)
    model = GPT2(SHAPE)
    other = TOKENS.clone()
    other[:, 7:] = 1
    with torch.no_grad():
        before, after = model(TOKENS), model(other)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7], after[:, 7])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vocab_size": 60},
            r"wte.weight is \(50, 16\) there and \(60, 16\) here; set LRPILOT_TOK",
        ),
        ({"n_positions": 8}, r"wpe.weight is \(12, 16\) .*; set LRPILOT_POSITIONS=12"),
        ({"n_embd": 32}, r"differ in width: .* there and .* here; set LRPILOT_WIDTH to the"),
        ({"n_layer": 3}, "has 2 layers, and the model 3; set LRPILOT_LAYERS=2"),
        ({"n_head": 2}, "says 4 heads, and LRPILOT_HEADS is 2; set LRPILOT_HEADS=4"),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused_with_the_setting(tmp_path, changes, message):
    save_checkpoint(GPT2(SHAPE), tmp_path)
    sizes = {name: getattr(SHAPE, name) for name in SHAPE.__slots__}
    with pytest.raises(ValueError, match=message):
        loaded(tmp_path, Shape(**sizes | changes))


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    torch.save({"wte.weight": torch.zeros(50, 16)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"lacks the weight 'h.0.attn.c_attn.bias'"):
        loaded(tmp_path / "a.pt")
    torch.save({"steps": 3}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match=r"b.pt must be a dict of tensors"):
        loaded(tmp_path / "b.pt")


class Hostile:
    """Runs a command when an ordinary unpickler reads it."""

    def __reduce__(self):
        return os.system, ("touch was-run",)


def test_a_hostile_checkpoint_is_refused_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"wte.weight": Hostile()}, "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ValueError, match=f"{name} is refused, as it is no plain state dict"):
            loaded(tmp_path / name)
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_cut_checkpoint_is_named(tmp_path, name):
    weights = GPT2(SHAPE).state_dict()
    if name.endswith("bin"):
        torch.save(weights, tmp_path / name)
    else:
        save_file(weights, tmp_path / name)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-500])
    with pytest.raises(ValueError, match=f"{name} is truncated or damaged"):
        loaded(tmp_path)


def test_a_place_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match="which does not exist; correct the path"):
        loaded(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"a folder without model.safetensors or pytorch_model.b"):
        loaded(tmp_path)


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    save_checkpoint(GPT2(SHAPE), tmp_path)
    for text in ("{", json.dumps([1])):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config.json is not a config.json of GPT-2"):
            loaded(tmp_path)


def test_a_width_that_the_heads_do_not_share_is_refused():
    with pytest.raises(ValueError, match=r"LRPILOT_WIDTH \(16\) must be a multiple of LRPILOT_HEA"):
        GPT2(Shape(vocab_size=9, n_positions=4, n_embd=16, n_layer=1, n_head=3))
