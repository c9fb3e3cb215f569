"""Everything that training changes, put back as it was."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer


@contextmanager
def as_before(
    model: nn.Module, optimizer: Optimizer, scaler: GradScaler | None
) -> Generator[Before]:
    """Leave everything as it was, bit for bit and in place, whatever happens inside.

    That is parameters, buffers, gradients, train and eval mode, the optimizer's state and groups,
    the scaler, and the global random generators of Python, NumPy and PyTorch.
    """
    before, restore_generators = Before(model, optimizer, scaler), _generators()
    try:
        yield before
    finally:
        before.restore()
        restore_generators()


def seed_generators(seed: int) -> None:
    """Seed the same global generators, which `as_before` puts back."""
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(seed % 2**32)
    if (device := _device_generators()) is not None:
        device.seed(seed)


class Before:
    """What training changes, as it is when this is made; ``restore`` keeps every object."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, scaler: GradScaler | None) -> None:
        self._optimizer = optimizer
        self._tensors: dict[int, tuple[Tensor, Tensor]] = {}
        self._containers: list[tuple[Any, Any]] = []
        self._attributes: list[tuple[object, str, object]] = []
        for module in model.modules():
            # The dictionaries, since a module may put a new tensor in a buffer's place.
            self._keep(module._parameters)  # pyright: ignore[reportPrivateUsage]
            self._keep(module._buffers)  # pyright: ignore[reportPrivateUsage]
            self._attributes.append((module, "training", module.training))
        self._keep(optimizer.state)
        self._keep(optimizer.param_groups)
        if scaler is not None:
            self._keep(vars(scaler))
        for tensor, _ in [*self._tensors.values()]:
            if tensor.is_leaf:
                self._attributes.append((tensor, "grad", tensor.grad))
                self._keep(tensor.grad)

    def restore(self) -> None:
        """Put everything back, in place."""
        for container, contents in self._containers:
            container.clear()
            (container.update if isinstance(container, dict) else container.extend)(contents)
        for owner, name, value in self._attributes:
            setattr(owner, name, value)
        with torch.no_grad():
            for tensor, contents in self._tensors.values():
                _without_repeats(tensor).copy_(contents)

    def parameters_changed(self) -> bool:
        """Whether a parameter of the optimizer is now another."""
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        return not all(torch.equal(p, self._tensors[id(p)][1]) for p in parameters)

    def _keep(self, value: object) -> None:
        if isinstance(value, Tensor):
            if is_lazy(value):
                raise ValueError(
                    "a parameter of the model has no shape yet; run one batch through the model "
                    "before the range test"
                )
            if id(value) not in self._tensors:  # tied parameters stand in several places
                contents = _without_repeats(value.detach()).clone()
                self._tensors[id(value)] = value, contents
        elif isinstance(value, (dict, list)):
            held = cast("dict[object, object] | list[object]", value)
            self._containers.append((held, held.copy()))
            for item in held.values() if isinstance(held, dict) else held:
                self._keep(item)
        elif isinstance(value, tuple):
            for item in cast("tuple[object, ...]", value):
                self._keep(item)


def _without_repeats(tensor: Tensor) -> Tensor:
    """An expanded tensor's own elements; it has one in several places and refuses a copy."""
    strides = tensor.stride() if tensor.layout is torch.strided else ()
    for dim, stride in enumerate(strides):
        if stride == 0 and tensor.shape[dim] > 1:
            tensor = tensor.narrow(dim, 0, 1)
    return tensor


def _generators() -> Callable[[], None]:
    """Remember the state of all global generators; the function returned puts it back."""
    python, cpu = random.getstate(), torch.get_rng_state()
    numpy = sys.modules.get("numpy")
    legacy = None if numpy is None else numpy.random.get_state()
    device = _device_generators()
    states = None if device is None else device.get()

    def restore() -> None:
        random.setstate(python)
        torch.set_rng_state(cpu)
        if numpy is not None:
            numpy.random.set_state(legacy)
        if device is not None:
            device.set(states)

    return restore


class _DeviceGenerators(NamedTuple):
    """How to read, write and seed the generators of all devices of a kind."""

    get: Callable[[], Any]
    set: Callable[[Any], None]
    seed: Callable[[int], None]


def _device_generators() -> _DeviceGenerators | None:
    """Those of the accelerator in use; None if there is none, or nobody has touched it yet."""
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None:
        return None
    module: Any = torch.get_device_module(accelerator)
    if accelerator.type == "mps":  # one device, and nothing that tells whether it is in use
        mine = _DeviceGenerators(module.get_rng_state, module.set_rng_state, module.manual_seed)
        return mine if module.is_available() else None
    return (
        _DeviceGenerators(
            module.get_rng_state_all, module.set_rng_state_all, module.manual_seed_all
        )
        if module.is_initialized()
        else None
    )
