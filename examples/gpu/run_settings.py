"""Settings of a run from environment variables, and the device, precision and memory they ask for.

Each field of a settings class is the variable of its name: ``batch`` is ``LRPILOT_BATCH``.
"""

import difflib
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from typing import TypeVar

import torch

PREFIX = "LRPILOT_"
PRECISIONS = ("bf16", "fp32")
MAY_BE_ZERO = ("clip", "dropout", "momentum", "positions", "vocabulary", "weight_decay")

S = TypeVar("S", bound="RunSettings")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What every training here can be told.

    data: where the data lie; has no default.
    batch: samples per pass through the model; an optimizer step takes ``accumulate`` passes.
    precision: "bf16" (autocast; the weights stay fp32) or "fp32".
    evaluations: how often the validation loss is taken, evenly spread, the last at the end.
    deterministic: on CUDA, ask torch for kernels that compute the same every time.
    """

    data: str = ""
    device: str = "cuda"
    precision: str = "bf16"
    batch: int = 128
    accumulate: int = 1
    compile: bool = False
    evaluations: int = 20
    deterministic: bool = True


def read_settings(kind: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """The settings of ``kind`` that the environment gives, the others at their defaults.

    Raises ValueError for a variable that is no setting of ``kind``, and for a value that is none.
    """
    defaults = {field.name: field.default for field in fields(kind)}
    given = {
        variable.removeprefix(PREFIX).lower(): value
        for variable, value in environment.items()
        if variable.startswith(PREFIX)
    }
    for name in given:
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            rather = f"; did you mean {PREFIX}{near[0].upper()}?" if near else "."
            names = ", ".join(PREFIX + known.upper() for known in defaults)
            raise ValueError(
                f"{PREFIX}{name.upper()} is no setting of this training{rather} "
                f"Unset it; the settings are {names}"
            )
    settings = kind(**{name: _value(name, text, defaults[name]) for name, text in given.items()})
    if settings.precision not in PRECISIONS:
        raise ValueError(
            f"LRPILOT_PRECISION must be {' or '.join(PRECISIONS)}, got {settings.precision!r}"
        )
    return settings


def _value(name: str, text: str, default: object) -> object:
    variable = PREFIX + name.upper()
    if isinstance(default, bool):
        if text not in ("0", "1"):
            raise ValueError(f"{variable} must be 0 or 1, got {text!r}")
        return text == "1"
    if isinstance(default, str):
        return text
    least = 0 if name in MAY_BE_ZERO else 1 if isinstance(default, int) else None
    what = "a whole number" if isinstance(default, int) else "a number"
    rule = f"{what}, {'above 0' if least is None else f'at least {least}'}"
    try:
        number = int(text) if isinstance(default, int) else float(text)
    except ValueError:
        raise ValueError(f"{variable} must be {rule}, got {text!r}") from None
    if not math.isfinite(number) or (number <= 0 if least is None else number < least):
        raise ValueError(f"{variable} must be {rule}, got {text!r}")
    return number


def ready_device(settings: RunSettings) -> torch.device:
    """The device that the settings ask for, checked, with determinism as they ask.

    Raises ValueError if it is not there, or cannot compute in the precision asked for.
    """
    try:
        device = torch.device(settings.device)
    except RuntimeError:
        raise ValueError(
            f"LRPILOT_DEVICE must be a device of torch, got {settings.device!r}; cuda, cuda:1 and "
            f"cpu are some"
        ) from None
    if device.type != "cuda":
        return device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if (device.index or 0) >= count:
        raise ValueError(
            f"LRPILOT_DEVICE is {settings.device}, and torch {torch.__version__} sees {count} CUDA "
            f"devices; install a CUDA build of torch and a driver, or set LRPILOT_DEVICE=cpu "
            f"with a small model"
        )
    if settings.precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"LRPILOT_PRECISION is bf16, which {torch.cuda.get_device_name(device)} does not "
            f"compute in; set LRPILOT_PRECISION=fp32"
        )
    if settings.deterministic:
        # cuBLAS reads it when its context is made, which is after this.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.utils.deterministic.fill_uninitialized_memory = False  # it costs time, and is unread
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def autocast(settings: RunSettings, device: torch.device) -> AbstractContextManager[object]:
    """Where a forward pass computes in the precision that the settings ask for."""
    is_on = settings.precision == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_on)


@contextmanager
def memory_hint(settings: RunSettings) -> Iterator[None]:
    """Running out of device memory names the settings that use it."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        half = max(settings.batch // 2, 1)
        raise RuntimeError(
            f"{settings.device} ran out of memory with LRPILOT_BATCH={settings.batch} and "
            f"LRPILOT_ACCUMULATE={settings.accumulate}; LRPILOT_BATCH={half} with "
            f"LRPILOT_ACCUMULATE={settings.accumulate * 2} needs less for the same step. Give "
            f"`lrpilot compare` --workers 1, or several trials share the device. ({error})"
        ) from error
