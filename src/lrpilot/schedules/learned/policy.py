"""A policy: a small network from features to how the rate leaves its base, in NumPy."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lrpilot.schedules.checks import check_known
from lrpilot.schedules.learned import features
from lrpilot.schedules.learned.features import Number
from lrpilot.schedules.learned.tensor_file import TensorFile, read_tensors, write_tensors
from lrpilot.schedules.named import SHIPPED
from lrpilot.schedules.openloop import WSD, Cosine, Linear, Shape

FORMAT = "lrpilot-policy"
FORMAT_VERSION = 1
LARGEST_WEIGHT = 1e6  # in size; a sum of products of larger ones may overflow
LARGEST_FILE = 10_000_000  # bytes; a policy's is below 100,000

Array = NDArray[np.float32]
Kind = Literal["steps", "anchored"]
Squash = Literal["tanh", "clip"]

RISE = 30.0


def ramp_linear(progress: float) -> float:
    """Up to 1 by factors, `RISE` in all, over a tenth of the horizon, then linear to 0.

    A rate that is many times too high has been watched at every lower one before it is reached.

    >>> [round(ramp_linear(at), 3) for at in (0.0, 0.05, 0.1, 0.55, 1.0)]
    [0.033, 0.183, 1.0, 0.5, 0.0]
    """
    return RISE ** (progress / 0.1 - 1) if progress < 0.1 else (1 - progress) / 0.9


def inverse_linear(progress: float) -> float:
    """Inverse time decay, as noise wants it (Bottou, Curtis and Nocedal 2018, theorem 4.7), to 0.

    It begins at 2, so that its mean is about 1/2, that of linear decay and of cosine annealing.

    >>> [round(inverse_linear(at), 3) for at in (0.0, 0.25, 0.5, 1.0)]
    [2.0, 0.75, 0.333, 0.0]
    """
    return 2 * (1 - progress) / (1 + 4 * progress)


BASES: Mapping[str, Shape] = {
    "linear": Linear(),
    "cosine": Cosine(),
    "warmup-linear": WSD(warmup=0.1, decay=0.9, shape=Linear()),
    "ramp-linear": ramp_linear,
    "inverse-linear": inverse_linear,
    "warmup-cosine": WSD(warmup=0.1, decay=0.9, shape=Cosine()),
}
"""What a policy's actions depart from, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """How an action in [-1, 1] moves the offset, the logarithm of the rate over its base.

    kind: "steps": an action adds ``size`` times itself to the offset. "anchored": the offset is
        ``size`` times the action.
    size: natural logarithm, above 0.
    limit: largest offset in either direction, natural logarithm.
    """

    kind: Kind = "steps"
    size: float = math.log(1.5)
    limit: float = math.log(30)

    def __post_init__(self) -> None:
        if self.kind not in ("steps", "anchored"):
            raise ValueError(f"the kind of an action must be steps or anchored, got {self.kind!r}")
        for name in ("size", "limit"):
            value = getattr(self, name)
            if not 0 < value < 20:
                raise ValueError(f"{name} of an action must lie in (0, 20), got {value!r}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Policy:
    """Weights, and what is needed to use them.

    weights: (inputs, outputs) of each layer; biases: (outputs,). Between layers stands tanh.
    squash: what bounds the action at the end: "tanh", or "clip" at -1 and 1.
    base: one of `BASES`; what the rate follows where the actions are 0.
    about: what it was trained on and how, as text by name.
    """

    name: str
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    squash: Squash = "tanh"
    base: str = "warmup-linear"
    action: Action = field(default_factory=Action)
    about: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_known("base schedule", self.base, BASES)
        check_known("squash", self.squash, ("tanh", "clip"))
        for name in ("weights", "biases"):
            object.__setattr__(self, name, tuple(map(_frozen, getattr(self, name))))
        shapes = [array.shape for array in self.weights]
        sizes = [len(features.NAMES), *(array.size for array in self.biases)]
        is_flat = all(array.ndim == 1 for array in self.biases)
        if not (is_flat and shapes == list(itertools.pairwise(sizes)) and sizes[1:][-1:] == [1]):
            raise ValueError(
                f"layers with weights of the shapes {shapes} and biases of the shapes "
                f"{[array.shape for array in self.biases]} do not lead from {sizes[0]} features "
                f"to one action"
            )
        for array in (*self.weights, *self.biases):
            if not (np.abs(array) <= LARGEST_WEIGHT).all():
                raise ValueError(
                    f"weights must be finite and at most {LARGEST_WEIGHT:g} in size, got "
                    f"{array.flat[np.argmin(np.abs(array) <= LARGEST_WEIGHT)]:g}"
                )

    @cached_property
    def sees(self) -> tuple[str, ...]:
        """The fields of a `Signal` that any weight reads, but for the loss; they cost something."""
        first = self.weights[0]
        fields = features.MEASURED.items()
        return tuple(
            name for name, read in fields if first[[*map(features.NAMES.index, read)]].any()
        )

    @cached_property
    def _layers(self) -> list[tuple[Array, Array]]:
        return list(zip(self.weights, self.biases, strict=True))

    def act(self, seen: tuple[float, ...]) -> float:
        """The action in [-1, 1] for the features of one run."""
        x = np.array(seen, dtype=np.float32)
        *hidden, (weight, bias) = self._layers
        for inner, shift in hidden:
            x = np.tanh(x.dot(inner) + shift)
        out = (x.dot(weight) + bias).item()
        return math.tanh(out) if self.squash == "tanh" else min(max(out, -1.0), 1.0)

    def moved(self, offset: float, action: float) -> float:
        """The offset after ``action``."""
        return moved(self.action, offset, action, features.Numbers)

    @cached_property
    def fingerprint(self) -> str:
        """Ten digits of the hash of all that decides, which its name and history do not."""
        data = write_tensors(as_tensors(replace(self, about={})))
        return hashlib.sha256(data).hexdigest()[:10]

    def __repr__(self) -> str:
        return f"Policy({self.name!r}, {self.fingerprint})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Policy) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def moved(action: Action, offset: Number, a: Number, xp: Any) -> Number:
    """The offset after the action ``a``."""
    wanted = action.size * a if action.kind == "anchored" else offset + action.size * a
    return features.between(wanted, -action.limit, action.limit, xp)


def load_policy(source: str | Path | Policy) -> Policy:
    """The policy called ``source``, one of `SHIPPED`, or the one in a file.

    A file is read, never run, and checked throughout. Raises ValueError, which names the file, if
    there is none, if it is damaged, or if it is for other features than this release has.
    """
    if isinstance(source, Policy):
        return source
    if isinstance(source, str) and source in SHIPPED:
        return _shipped(source)
    return from_bytes(Path(source).stem, _content(source), str(source))


def from_bytes(name: str, data: bytes, where: str) -> Policy:
    """The policy in the bytes of a file; ``where`` is what an error calls it."""
    file = read_tensors(data, where)
    try:
        return from_tensors(name, file)
    except KeyError as error:
        raise ValueError(f"{where} is no policy, or damaged: it has no {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"{where} is no policy, or damaged: {str(error)[:500]}") from None


def from_tensors(name: str, file: TensorFile) -> Policy:
    """The policy that a file holds. Raises ValueError, or KeyError for what it lacks."""
    about, tensors = dict(file.metadata), dict(file.tensors)
    _expect(about, "format", FORMAT, "it is another kind of file")
    _expect(about, "format_version", str(FORMAT_VERSION), "another release wrote it")
    meaning = "it was trained on other features; train it again with this release"
    _expect(about, "features", f"{features.VERSION}: {', '.join(features.NAMES)}", meaning)
    action = Action(
        kind=about.pop("action_kind"),  # pyright: ignore[reportArgumentType]
        size=float(about.pop("action_size")),
        limit=float(about.pop("action_limit")),
    )
    layers = range(-(-len(tensors) // 2))
    return Policy(
        name=name,
        weights=tuple(tensors.pop(f"layer{at}.weight") for at in layers),
        biases=tuple(tensors.pop(f"layer{at}.bias") for at in layers),
        squash=about.pop("squash"),  # pyright: ignore[reportArgumentType]
        base=about.pop("base"),
        action=action,
        about=about,
    )


def as_tensors(policy: Policy) -> TensorFile:
    """What a file of ``policy`` holds."""
    tensors: dict[str, Array] = {}
    for at, (weight, bias) in enumerate(zip(policy.weights, policy.biases, strict=True)):
        tensors |= {f"layer{at}.weight": weight, f"layer{at}.bias": bias}
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "features": f"{features.VERSION}: {', '.join(features.NAMES)}",
        "squash": policy.squash,
        "base": policy.base,
        "action_kind": policy.action.kind,
        "action_size": repr(policy.action.size),
        "action_limit": repr(policy.action.limit),
    }
    return TensorFile(tensors, {**policy.about, **metadata})


def save_policy(policy: Policy, path: Path) -> None:
    """Write the file of ``policy``: whole, or, if that is interrupted, what was there stays."""
    part = path.with_suffix(".part")
    part.write_bytes(write_tensors(as_tensors(policy)))
    part.replace(path)


def _expect(about: dict[str, str], key: str, value: str, meaning: str) -> None:
    found = about.pop(key)
    if found != value:
        raise ValueError(f"its {key} is {found[:200]!r} instead of {value!r}: {meaning}")


def _content(source: str | Path) -> bytes:
    """The bytes of the file, never more than a policy may have."""
    name, path = str(source), Path(source)
    try:
        if path.is_file():
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
            if len(data) > LARGEST_FILE:
                raise ValueError(f"{name} is no policy: it has more than {LARGEST_FILE:,} bytes")
            return data
    except OSError as error:
        raise ValueError(f"cannot read the policy {name!r}: {error.strerror}") from None
    nearest = difflib.get_close_matches(name, SHIPPED, n=1, cutoff=0.4)
    hint = f"did you mean {nearest[0]!r}? " if nearest else ""
    raise ValueError(
        f"no policy {name!r}; {hint}(known: {', '.join(SHIPPED)}, or the path of a file)"
    )


def _frozen(array: Array) -> Array:
    """A copy that nobody can change, since the policy's fingerprint is computed once."""
    copy = np.array(array, dtype="<f4")
    copy.setflags(write=False)
    return copy


@cache
def _shipped(name: str) -> Policy:
    file = resources.files("lrpilot.schedules.learned") / "policies" / f"{name}.safetensors"
    return from_bytes(name, file.read_bytes(), f"the policy {name!r} that comes with lrpilot")
