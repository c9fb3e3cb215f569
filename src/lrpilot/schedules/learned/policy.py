"""A policy: a small network from features to how the rate leaves its base, in NumPy."""

from __future__ import annotations

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
from lrpilot.schedules.openloop import WSD, Cosine, Linear, OneCycle, Shape

FORMAT = "lrpilot-policy"
FORMAT_VERSION = 1
SHIPPED = ("net", "nmf")

Array = NDArray[np.float32]
Kind = Literal["steps", "anchored"]
Squash = Literal["tanh", "clip"]

BASES: Mapping[str, Shape] = {
    "linear": Linear(),
    "cosine": Cosine(),
    "warmup-linear": WSD(warmup=0.05, decay=0.95, shape=Linear()),
    "warmup-cosine": WSD(warmup=0.05, decay=0.95, shape=Cosine()),
    "one-cycle": OneCycle(),
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
        sizes = [len(features.NAMES), *(len(bias) for bias in self.biases)]
        shapes = [weight.shape for weight in self.weights]
        if not shapes or shapes != list(itertools.pairwise(sizes)) or sizes[-1] != 1:
            raise ValueError(
                f"policy {self.name}: layers of the shapes {shapes} do not lead from "
                f"{len(features.NAMES)} features to one action"
            )
        for array in (*self.weights, *self.biases):
            if not np.isfinite(array).all():
                raise ValueError(f"policy {self.name} has weights that are not finite")

    @cached_property
    def sees_alignment(self) -> bool:
        """Whether any weight reads the alignment of gradients, which costs something to collect."""
        return bool(self.weights[0][features.NAMES.index("alignment")].any())

    def act(self, seen: tuple[float, ...]) -> float:
        """The action in [-1, 1] for the features of one run."""
        x = np.array(seen, dtype=np.float32)
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            x = np.tanh(x @ weight + bias)
        out = float((x @ last[0] + last[1])[0])
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

    A file is read, never run, and checked throughout. Raises ValueError if it is damaged, or for
    other features than this release has; FileNotFoundError if there is none.
    """
    if isinstance(source, Policy):
        return source
    if isinstance(source, str) and source in SHIPPED:
        return _shipped(source)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"no policy {str(source)!r}: it is neither a file nor one of those that come with "
            f"lrpilot ({', '.join(SHIPPED)}); lrpilot train makes one"
        )
    return from_tensors(path.stem, read_tensors(path.read_bytes(), str(path)))


def from_tensors(name: str, file: TensorFile) -> Policy:
    """The policy that a file holds."""
    about = dict(file.metadata)
    where = f"policy {name}"
    _expect(where, about, "format", FORMAT, "it is no policy of lrpilot")
    _expect(where, about, "format_version", str(FORMAT_VERSION), "another release wrote it")
    _expect(
        where,
        about,
        "features",
        f"{features.VERSION}: {', '.join(features.NAMES)}",
        "it was trained on other features; train it again with this release",
    )
    layers = sorted(name for name in file.tensors if name.endswith(".weight"))
    try:
        action = Action(
            kind=about.pop("action_kind"),  # pyright: ignore[reportArgumentType]
            size=float(about.pop("action_size")),
            limit=float(about.pop("action_limit")),
        )
        return Policy(
            name=name,
            weights=tuple(file.tensors[layer] for layer in layers),
            biases=tuple(file.tensors[layer.replace("weight", "bias")] for layer in layers),
            squash=about.pop("squash"),  # pyright: ignore[reportArgumentType]
            base=about.pop("base"),
            action=action,
            about=about,
        )
    except KeyError as error:
        raise ValueError(f"{where} is damaged: {error} is missing") from None


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


def _expect(where: str, about: dict[str, str], key: str, value: str, meaning: str) -> None:
    found = about.pop(key, None)
    if found != value:
        raise ValueError(f"{where} has {key} {found!r} instead of {value!r}: {meaning}")


@cache
def _shipped(name: str) -> Policy:
    file = resources.files("lrpilot.schedules.learned") / "policies" / f"{name}.safetensors"
    return from_tensors(name, read_tensors(file.read_bytes(), f"the shipped policy {name}"))
