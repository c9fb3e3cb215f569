"""Settings come from the environment, and the device that they ask for must be there."""

import re
from dataclasses import fields
from pathlib import Path

import cifar_resnet
import gpt2_lora
import gpt2_pretrain
import pytest
import torch
from run_settings import PREFIX, RunSettings, autocast, read_settings, ready_device
from training_loop import evaluation_steps

ROOT = Path(__file__).parents[2]
KINDS = [cifar_resnet.Settings, gpt2_pretrain.Settings, gpt2_lora.Settings]
CPU = torch.device("cpu")


def test_a_setting_is_the_variable_of_its_name_in_its_type():
    environment = {
        "LRPILOT_DATA": "/a b",
        "LRPILOT_BATCH": "32",
        "LRPILOT_WEIGHT_DECAY": "0",
        "LRPILOT_COMPILE": "1",
        "HOME": "/root",
    }
    settings = read_settings(cifar_resnet.Settings, environment)
    expected = {"data": "/a b", "batch": 32, "weight_decay": 0.0, "compile": True}
    assert settings == cifar_resnet.Settings(**expected)
    assert type(settings.batch) is int


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BATCH", "0", "LRPILOT_BATCH must be a whole number, at least 1, got '0'"),
        ("BATCH", "1.5", "LRPILOT_BATCH must be a whole number, at least 1, got '1.5'"),
        ("MOMENTUM", "nan", "LRPILOT_MOMENTUM must be a number, at least 0, got 'nan'"),
        ("COMPILE", "yes", "LRPILOT_COMPILE must be 0 or 1, got 'yes'"),
        ("PRECISION", "fp8", "LRPILOT_PRECISION must be bf16 or fp32, got 'fp8'"),
        ("WITDH", "8", r"LRPILOT_WITDH is no setting .*; did you mean LRPILOT_WIDTH\? Unset it"),
        ("COLOUR", "8", r"LRPILOT_COLOUR is no setting of this training\. Unset it; the settings"),
    ],
)
def test_a_setting_that_is_none_is_named_with_its_rule(name, value, message):
    with pytest.raises(ValueError, match=message):
        read_settings(cifar_resnet.Settings, {PREFIX + name: value})


def test_a_rate_of_adapters_must_be_above_zero():
    with pytest.raises(ValueError, match="LRPILOT_ALPHA must be a number, above 0, got '0'"):
        read_settings(gpt2_lora.Settings, {"LRPILOT_ALPHA": "0"})


def test_a_device_that_is_not_there_is_named_with_what_to_do(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    message = r"LRPILOT_DEVICE is cuda, and torch .* sees 0 CUDA devices; install a CUDA build"
    with pytest.raises(ValueError, match=message):
        ready_device(RunSettings())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"LRPILOT_DEVICE is cuda:1, and torch .* sees 1 CUDA dev"):
        ready_device(RunSettings(device="cuda:1"))
    with pytest.raises(ValueError, match="must be a device of torch, got 'gpu'; cuda, cuda:1 and"):
        ready_device(RunSettings(device="gpu"))


def test_a_device_that_does_not_compute_in_bf16_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "an old card")
    with pytest.raises(ValueError, match="bf16, which an old card does not compute in; set LRPIL"):
        ready_device(RunSettings())
    settings = RunSettings(precision="fp32", deterministic=False)
    assert ready_device(settings) == torch.device("cuda")


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_precision_is_that_of_a_matrix_product(precision):
    settings = RunSettings(device="cpu", precision=precision)
    with autocast(settings, CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


@pytest.mark.parametrize(("total_steps", "evaluations"), [(1, 20), (7, 3), (1000, 20), (5, 5)])
def test_evaluations_are_spread_and_the_last_is_at_the_end(total_steps, evaluations):
    steps = sorted(evaluation_steps(total_steps, evaluations))
    assert len(steps) == min(total_steps, evaluations)
    assert steps[-1] == total_steps
    assert steps[0] >= 1


def test_the_page_has_every_setting_with_its_default():
    rows = re.findall(
        r"^\| `(LRPILOT_\w+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|",
        (ROOT / "docs" / "gpu-tier.md").read_text(),
        flags=re.MULTILINE,
    )
    said = {name: [cell.strip() for cell in cells] for name, *cells in rows}
    names = {PREFIX + field.name.upper() for kind in KINDS for field in fields(kind)}
    assert said.keys() == names
    for at, kind in enumerate(KINDS):
        for name, cells in said.items():
            default = getattr(kind(), name.removeprefix(PREFIX).lower(), None)
            assert cells[at] == as_written(default), (kind, name)


def as_written(default):
    """A default as the page writes it; None is no setting of that training."""
    if isinstance(default, str):
        return f"`{default}`" if default else "none"
    return "" if default is None else f"{default:g}"


def test_no_file_is_longer_than_400_lines():
    for path in (ROOT / "examples").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
