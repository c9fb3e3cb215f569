"""The trainings of the GPU tier, small and on the CPU."""

import json
import math
import os
import sys
from pathlib import Path

import cifar_resnet
import gpt2_lora
import gpt2_pretrain
import numpy as np
import pytest
import torch
import training_loop
from cifar_files import Images
from gpt2 import GPT2, Shape
from torch.utils._python_dispatch import TorchDispatchMode
from typer.testing import CliRunner

from cifar_archives import files_of, write_archive
from lrpilot.bench import TrainingTrial, training_function
from lrpilot.cli import app
from lrpilot.torch import losses

GPU = Path(__file__).parents[2] / "examples" / "gpu"
CPU = {"device": "cpu", "precision": "fp32", "evaluations": 2}
SMALL_RESNET = {"width": 8, "blocks": 1, "stages": 2, "batch": 16, "validation": 40, "subset": 1}
SMALL_GPT2 = {"layers": 1, "heads": 2, "width": 32, "context": 16, "batch": 8, "held_out": 8}
SENTENCES = {
    "fox": "the quick brown fox jumps over the lazy dog. ",
    "cat": "a cat that sat on a mat had a hat and that was that. ",
}


@pytest.fixture(autouse=True)
def _no_settings_of_before(monkeypatch):
    for name in [name for name in os.environ if name.startswith("LRPILOT_")]:
        monkeypatch.delenv(name)
    for name, value in CPU.items():
        monkeypatch.setenv(f"LRPILOT_{name.upper()}", str(value))


@pytest.fixture
def configure(monkeypatch):
    """Sets settings for the rest of the test."""

    def _configure(**settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"LRPILOT_{name.upper()}", str(value))

    return _configure


@pytest.fixture
def texts(tmp_path):
    """Folder with one text per name of `SENTENCES`."""
    for name, sentence in SENTENCES.items():
        (tmp_path / f"{name}.txt").write_text(sentence * 80)
    return tmp_path


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    path = tmp_path_factory.mktemp("cifar") / "cifar-10-binary.tar.gz"
    return write_archive(path, "cifar-10-batches-bin", files_of("cifar-10-batches-bin"))


def trained(train, *, lr, steps, seed=0, schedule="cosine"):
    """The trial after the training."""
    trial = TrainingTrial(
        seed=seed, lr=lr, steps=steps, schedule=schedule, on_share=lambda share: None
    )
    train(trial)
    trial.land()
    assert len(trial.losses) == len(trial.rates)
    return trial


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resnet_learns_the_classes(configure, cifar, precision):
    configure(data=cifar, precision=precision, **SMALL_RESNET)
    trial = trained(cifar_resnet.train, lr=0.05, steps=40)
    assert len(trial.losses) == 40
    assert [step for step, _ in trial.evaluations] == [20, 40]
    assert np.mean(trial.losses[:3]) > 2.0  # chance is 2.3
    assert np.mean(trial.losses[-3:]) < 1.2
    assert trial.evaluations[-1][1] < 1.2
    assert trial.test_loss < 1.2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpt2_learns_a_text(configure, texts, precision):
    configure(data=texts / "fox.txt", precision=precision, **SMALL_GPT2, accumulate=1)
    trial = trained(gpt2_pretrain.train, lr=0.01, steps=100)
    assert trial.losses[0] == pytest.approx(math.log(256), rel=0.02)
    assert np.mean(trial.losses[-3:]) < 0.6
    assert trial.evaluations[-1][1] < 0.6
    assert trial.test_loss < 0.6


@pytest.fixture
def base(configure, texts, monkeypatch, capsys):
    """A checkpoint that has learned the fox, written by the script."""
    configure(data=texts / "fox.txt", **SMALL_GPT2)
    arguments = ["gpt2_pretrain.py", str(texts / "base"), "--steps", "60", "--lr", "0.01"]
    monkeypatch.setattr(sys, "argv", arguments)
    gpt2_pretrain.main()
    assert f"saved in {texts / 'base'}" in capsys.readouterr().out
    return texts / "base"


def test_adapters_learn_another_text_than_their_base(configure, texts, base):
    configure(data=texts / "fox.txt", base=base, adapt="c_attn,c_proj,c_fc")
    known = trained(gpt2_lora.train, lr=1e-9, steps=1)
    assert known.losses[0] < 1.6  # it begins where its base has ended
    configure(data=texts / "cat.txt")
    trial = trained(gpt2_lora.train, lr=0.02, steps=60)
    assert trial.losses[0] > 3.0
    assert np.mean(trial.losses[-3:]) < 1.8
    assert trial.evaluations[-1][1] < 1.8


def test_only_the_adapters_are_trained_and_they_begin_at_zero():
    torch.manual_seed(0)
    model = GPT2(Shape(vocab_size=9, n_positions=4, n_embd=8, n_layer=2, n_head=2))
    tokens = torch.tensor([[1, 2, 3, 4]])
    before = model(tokens).detach()
    gpt2_lora.adapt(model, ["c_attn", "c_proj"], rank=2, alpha=4.0)
    torch.testing.assert_close(model(tokens), before, rtol=0, atol=0)
    names = [name for name, one in model.named_parameters() if one.requires_grad]
    layers = [
        f"h.{at}.{one}" for at in (0, 1) for one in ("attn.c_attn", "attn.c_proj", "mlp.c_proj")
    ]
    assert names == [f"{layer}.{matrix}" for layer in layers for matrix in "AB"]


def test_an_adapted_layer_is_the_layer_with_the_product_added():
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 3)
    adapted = gpt2_lora.Adapted(layer, rank=2, alpha=6.0)
    torch.nn.init.normal_(adapted.B)
    x = torch.randn(7, 5)
    merged = torch.nn.functional.linear(x, layer.weight + 3.0 * adapted.B @ adapted.A, layer.bias)
    torch.testing.assert_close(adapted(x), merged)


@pytest.mark.parametrize("train", [cifar_resnet.train, gpt2_pretrain.train])
def test_the_seed_decides_everything_and_the_schedule_nothing_of_it(configure, cifar, texts, train):
    is_resnet = train is cifar_resnet.train
    configure(data=cifar if is_resnet else texts, **(SMALL_RESNET if is_resnet else SMALL_GPT2))
    first, again = (trained(train, lr=0.01, steps=4, seed=1) for _ in range(2))
    other = trained(train, lr=0.01, steps=4, seed=2)
    greedy = trained(train, lr=0.01, steps=4, seed=1, schedule="greedy")
    assert first.losses == again.losses
    assert (first.evaluations, first.test_loss) == (again.evaluations, again.test_loss)
    assert first.losses[0] != other.losses[0]
    assert first.losses[0] == greedy.losses[0]
    assert first.losses[-1] != greedy.losses[-1]


def test_accumulation_takes_the_step_of_one_large_batch(configure, texts):
    configure(data=texts, **SMALL_GPT2, accumulate=1)
    whole = trained(gpt2_pretrain.train, lr=0.01, steps=5)
    configure(batch=4, accumulate=2)
    parts = trained(gpt2_pretrain.train, lr=0.01, steps=5)
    assert parts.losses == pytest.approx(whole.losses, rel=1e-5)


class Reads(TorchDispatchMode):
    """Counts where a program would wait for a device to tell it something."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        self.count += name in ("_local_scalar_dense", "is_nonzero", "equal", "nonzero")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("schedule", ["cosine", "greedy"])
@pytest.mark.parametrize("train", [cifar_resnet.train, gpt2_pretrain.train])
def test_nothing_is_read_from_the_device_but_at_an_evaluation(
    configure, cifar, texts, train, schedule, monkeypatch
):
    for module in (losses, training_function):
        monkeypatch.setattr(module, "is_host", lambda tensor: False)
    is_resnet = train is cifar_resnet.train
    configure(data=cifar if is_resnet else texts, **(SMALL_RESNET if is_resnet else SMALL_GPT2))
    configure(evaluations=1)
    counts = []
    for steps in (6, 12):
        with Reads() as reads:
            trained(train, lr=0.01, steps=steps, schedule=schedule)
        counts.append(reads.count)
    assert counts[0] == counts[1] >= 2  # a validation loss and a test loss


def test_crops_are_the_image_moved_by_up_to_four_pixels_and_flipped_every_other_time():
    rows, columns = np.mgrid[1:33, 1:33]
    image = np.stack([rows, columns, np.full((32, 32), 9)]).astype(np.uint8)
    part = Images(np.stack([image] * 300), np.arange(300))
    batches = cifar_resnet.augmented(part, 100, np.random.default_rng(0), torch.device("cpu"))
    drawn = [next(batches) for _ in range(3)]
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
    possible = {
        np.ascontiguousarray(crop[:, :, ::way]).tobytes()
        for down in range(9)
        for right in range(9)
        for crop in [padded[:, down : down + 32, right : right + 32]]
        for way in (1, -1)
    }
    found = [one.numpy().tobytes() for images, _ in drawn for one in images.contiguous()]
    assert set(found) <= possible
    assert len(set(found)) > 100  # of 162
    assert sorted(torch.cat([classes for _, classes in drawn]).tolist()) == list(range(300))


def test_images_are_normalised_by_the_images_that_are_trained_on():
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32)).astype(np.uint8)
    normalise = cifar_resnet.Normalise(images, torch.device("cpu"))
    found = normalise(torch.from_numpy(images))
    assert found.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert found.std((0, 2, 3), unbiased=False).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_the_default_sizes_are_the_published_ones():
    settings = cifar_resnet.Settings()
    resnet = cifar_resnet.ResNet(settings.width, settings.blocks, settings.stages, 10)
    assert sum(one.numel() for one in resnet.parameters()) == 11_173_962
    sizes = {"vocab_size": 50_257, "n_positions": 1024}
    language = gpt2_pretrain.Settings()
    with torch.device("meta"):
        shape = Shape(
            **sizes, n_embd=language.width, n_layer=language.layers, n_head=language.heads
        )
        assert sum(one.numel() for one in GPT2(shape).parameters()) == 124_439_808


def test_a_run_that_diverges_ends_at_the_next_evaluation(configure, texts):
    configure(data=texts, **SMALL_GPT2, clip=0, evaluations=10)
    trial = trained(gpt2_pretrain.train, lr=1e30, steps=20)
    assert not math.isfinite(trial.evaluations[-1][1])
    assert len(trial.losses) < 20


def test_running_out_of_memory_names_the_settings_that_use_it(configure, texts, monkeypatch):
    def run_out(*arguments):
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr(training_loop, "mean_loss", run_out)
    configure(data=texts, **SMALL_GPT2)
    message = "ran out of memory with LRPILOT_BATCH=8 and LRPILOT_ACCUMULATE=4; LRPILOT_BATCH=4 w"
    with pytest.raises(RuntimeError, match=message):
        trained(gpt2_pretrain.train, lr=0.01, steps=1)


def test_too_few_images_for_a_step_are_named(configure, cifar):
    configure(data=cifar, **SMALL_RESNET)
    configure(validation=190)
    with pytest.raises(ValueError, match="10 images are left to train on, fewer than a step's 16"):
        trained(cifar_resnet.train, lr=0.1, steps=1)


def test_adapters_without_a_base_or_a_place_are_refused(configure, texts, base):
    configure(data=texts / "cat.txt")
    with pytest.raises(ValueError, match="LRPILOT_BASE is not set; set it to a GPT-2 checkpoint"):
        trained(gpt2_lora.train, lr=0.01, steps=1)
    configure(base=base, adapt="c_attn,attention")
    with pytest.raises(ValueError, match="LRPILOT_ADAPT names 'attention', which is no linear"):
        trained(gpt2_lora.train, lr=0.01, steps=1)
    configure(adapt="c_attn", layers=2)
    with pytest.raises(ValueError, match="has 1 layers, and the model 2; set LRPILOT_LAYERS=1"):
        trained(gpt2_lora.train, lr=0.01, steps=1)
    configure(positions=8)
    with pytest.raises(ValueError, match=r"LRPILOT_POSITIONS \(8\) must be at least LRPILOT_CON"):
        trained(gpt2_lora.train, lr=0.01, steps=1)


def test_the_script_says_in_one_line_what_is_wrong(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gpt2_pretrain.py", str(tmp_path / "base")])
    with pytest.raises(SystemExit, match="gpt2_pretrain: LRPILOT_DATA is not set"):
        gpt2_pretrain.main()


def test_compare_runs_them_as_a_user_would(configure, texts, monkeypatch):
    monkeypatch.chdir(texts)
    configure(data=texts / "fox.txt", **SMALL_GPT2, accumulate=1)
    command = ["compare", f"{GPU / 'gpt2_pretrain.py'}:train", "--seeds", "1", "--workers", "1"]
    settings = ["--schedule", "cosine", "--schedule", "greedy", "--lr", "0.01", "--steps", "100"]
    result = CliRunner().invoke(app, [*command, *settings, "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)
    assert [(row["name"], row["failed"], row["diverged"]) for row in rows] == [
        ("cosine", 0, 0),
        ("greedy", 0, 0),
    ]
    assert rows[0]["mean"] < 0.6
    assert rows[1]["mean"] < 1.2
    assert (texts / "report.html").exists()
