"""GreedyLR decided on the device: inside a compiled step or a CUDA graph, without the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from lrpilot.schedules import pack, unpack
from lrpilot.schedules.greedy import Greedy, NoiseGreedy
from lrpilot.schedules.greedy.arrays import packed, unpacked, update
from lrpilot.schedules.greedy.noise import NoiseState
from lrpilot.torch.saved import fingerprint, warn_of_settings

STATE_VERSION = 1


class InGraphGreedyLR:
    """GreedyLR whose state is a tensor and whose step is tensor operations only.

    ``step(loss)`` reads no value on the host, so it may stand inside ``torch.compile``, be captured
    in a CUDA graph together with a capturable optimizer, and never waits for the device. It makes
    the decisions of `GreedyLR` for the same losses, bit for bit. On a CPU the host's rule is many
    times faster: use this one where a host read costs more than some hundred small kernels, or
    where a graph leaves no choice.

    The optimizer's rates must be tensors (``lr=torch.tensor(1e-3)``), since they are written in
    place; all on one device, where the losses are too. Call once per optimizer step, after it.

    greedy: settings of the default rule, ``Greedy(variant="blog", test="noise")``.

    >>> weight = torch.nn.Parameter(torch.zeros(1))
    >>> optimizer = torch.optim.SGD([weight], lr=torch.tensor(0.1))
    >>> scheduler = InGraphGreedyLR(optimizer, Greedy(factor=0.5, window=1))
    >>> for loss in torch.arange(8.0).flip(0):
    ...     scheduler.step(loss)
    >>> optimizer.param_groups[0]["lr"], scheduler.state.reason
    (tensor(0.2000), 'raise')
    """

    def __init__(self, optimizer: Optimizer, greedy: Greedy | NoiseGreedy | None = None) -> None:
        rule = Greedy().rule if greedy is None else getattr(greedy, "rule", greedy)
        if not isinstance(rule, NoiseGreedy):
            raise TypeError(
                f"only the default rule has a twin in tensors, got {greedy!r}; use "
                f"Greedy(test='noise', ...) or, on the host, GreedyLR"
            )
        self.optimizer = optimizer
        self.rule = rule
        rates = [_tensor_rate(at, group) for at, group in enumerate(optimizer.param_groups)]
        devices = {rate.device for rate in rates}
        if len(devices) > 1:
            raise ValueError(f"the rates must be on one device, got {sorted(map(str, devices))}")
        # The base may be what an earlier scheduler left, as in torch.
        self.bases = [
            torch.as_tensor(group.setdefault("initial_lr", rate.detach().clone())).to(rate).clone()
            for group, rate in zip(optimizer.param_groups, rates, strict=True)
        ]
        numbers = packed(rule.init())
        self._state = torch.tensor(numbers, dtype=torch.float64, device=rates[0].device)

    def step(self, loss: torch.Tensor) -> None:
        """Observe one optimizer step's loss, a tensor of one element, and set the next rates."""
        if not isinstance(loss, torch.Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"loss must be a tensor, as in a graph, got {loss!r}; see GreedyLR")
        loss = loss.detach().reshape(()).to(self._state)
        self._state.copy_(update(self.rule, self._state, loss, torch))
        self._write()

    @property
    def state(self) -> NoiseState:
        """The rule's state, read from the device, which waits for it."""
        return unpacked(self._state.tolist())

    def state_dict(self) -> dict[str, Any]:
        """The state as strict JSON-able data without settings; waits for the device."""
        return {
            "version": STATE_VERSION,
            "schedule": type(self.rule).__name__,
            "settings": fingerprint(self.rule),
            "state": pack(self.state),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume from ``state_dict()``: in place, so that captured graphs go on with it.

        Raises ValueError if the state is another schedule's or damaged; then nothing has changed.
        Warns if the settings were others when it was saved; those in the code win.
        """
        name = type(self.rule).__name__
        if state_dict.get("version") != STATE_VERSION or state_dict.get("schedule") != name:
            raise ValueError(
                f"this is not a version {STATE_VERSION} state of an in-graph scheduler over "
                f"{name}: {state_dict!r}; load what the same scheduler saved"
            )
        state = unpack(self.rule, state_dict.get("state", {}))
        warn_of_settings(self.rule, state_dict)
        self._state.copy_(torch.tensor(packed(state), dtype=torch.float64))
        self._write()

    def _write(self) -> None:
        scale = self._state[0]
        # In float64 first, as on the host; a tensor that two groups share is written twice.
        for group, base in zip(self.optimizer.param_groups, self.bases, strict=True):
            group["lr"].copy_(base * scale)


def _tensor_rate(at: int, group: dict[str, Any]) -> torch.Tensor:
    rate = group["lr"]
    if not isinstance(rate, torch.Tensor):
        raise TypeError(
            f"the rate of parameter group {at} is {rate!r}, and a graph can write into tensors "
            f"only; make the optimizer with lr=torch.tensor({rate!r})"
        )
    return rate
