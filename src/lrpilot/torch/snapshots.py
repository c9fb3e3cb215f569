"""Snapshots of weights and optimizer state, put back in place when training goes wrong."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta, Adam, Adamax, Optimizer, RAdam, RMSprop

from lrpilot.schedules.checks import check_count
from lrpilot.torch.snapshot_stores import Contents, Folder, Memory, Slot, local

STATE_VERSION = 1
PROOF, ATTEMPTS = 10, 5  # defaults

# Their state starts from zero, so that a zeroed one is as good as none.
_START_AT_ZERO = (Adadelta, Adam, Adamax, RAdam, RMSprop, SGD)
_COUNTS = ("now", "replaced", "proven", "healthy", "rollbacks")


class Rollback(NamedTuple):
    """What an alarm led to."""

    outcome: Literal["restored", "exhausted", "empty"]
    step: int | None  # the weights put back are those after so many optimizer steps
    attempt: int  # rollbacks without `every` healthy losses in between, this one included

    def __str__(self) -> str:
        if self.outcome == "restored":
            return f"rolled back to step {self.step} (attempt {self.attempt})"
        if self.outcome == "exhausted":
            return f"not rolled back: {self.attempt} attempts are used up"
        return "not rolled back: there is no accepted snapshot of this model"


class Snapshots:
    """Keep the last weights known to be good, and put them back on an alarm.

    A snapshot holds every parameter and buffer of the modules, the optimizers' parameters that are
    not among them, and the optimizers' state; not the rates, gradients, random state or place in
    the data. It is a *candidate* until ``proof`` healthy losses have been computed on its weights
    and later ones; then it is *accepted*, and only accepted ones are put back. One healthy loss
    will do while there is no accepted one. An alarm throws the candidate away.

    The first candidate is taken just before the first optimizer step to come, so whatever a run
    resumes from may be loaded before or after the snapshots are made. The next ones follow every
    ``every`` optimizer steps. A compiled or captured ``optimizer.step()`` cannot be watched; call
    ``take(step)`` before the first one.

    Putting back writes into the tensors that are there, so compiled and captured steps go on.
    State that did not exist at the snapshot is zeroed where it starts from zero, as Adam's does,
    and else removed. Parameters that joined after the snapshot are left alone. Of sharded
    parameters (DTensor) each rank keeps its shard, so all ranks must observe the same.

    model: a module or several; an averaged copy of the weights is one.
    optimizer: an optimizer or several; of a wrapped one, the torch optimizer inside.
    every: at least 1, in optimizer steps.
    proof: at least 1, in losses. A divergence shows some losses after it has begun.
    where: "memory" (on the device of the weights), "cpu" (pinned if the weights are on a GPU) or a
        folder, in which the accepted snapshot outlives the process. There are two snapshots; with
        Adam each is three times the size of the weights.
    attempts: at least 1. So many rollbacks without ``every`` healthy losses in between, and there
        is no further one: the weights or the data are at fault, and the brake acts alone. Once
        ``every`` losses have been healthy, counting starts anew.
    """

    def __init__(
        self,
        model: nn.Module | Iterable[nn.Module],
        optimizer: Optimizer | Iterable[Optimizer],
        *,
        every: int = 100,
        proof: int = PROOF,
        where: str | os.PathLike[str] = "memory",
        attempts: int = ATTEMPTS,
    ) -> None:
        check_count("every", every, least=1, cure="100 takes one every 100 optimizer steps")
        check_count("proof", proof, least=1, cure="1 accepts at the first healthy loss")
        check_count("attempts", attempts, least=1, cure="without any, leave the snapshots out")
        self.every = every
        self.proof = proof
        self.attempts = attempts
        self._modules = _all_of("model", model, nn.Module)
        self._optimizers = _all_of("optimizer", optimizer, Optimizer)
        self._store: Memory | Folder = (
            Memory(on_cpu=where == "cpu") if where in ("memory", "cpu") else Folder(where)
        )
        self._steps: dict[Slot, int | None] = {"accepted": None, "candidate": None}
        self._now = 0  # optimizer steps taken, as far as known
        self._last: int | None = None  # step of the last candidate or rollback
        self._replaced = 0  # the losses up to this step are of weights that are gone
        self._proven = 0  # healthy losses of the candidate and what came of it
        self._healthy = 0  # healthy losses since the last alarm
        self._rollbacks = 0  # without `every` healthy losses in between
        kept = self._store.read("accepted")
        if kept is not None:
            self._check(kept, f"the snapshot in {os.fspath(where)}")
            self._steps["accepted"] = kept.step
        self._awaits_start = True
        self._hooks = [each.register_step_pre_hook(self._before_step) for each in self._optimizers]

    def observed(
        self, step: int, *, healthy: bool, alarm: bool, now: int | None = None
    ) -> Rollback | None:
        """Learn how the loss of optimizer step ``step`` looked; call it after each observation.

        step: counted from 1; its loss was computed on the weights after ``step - 1`` steps.
        healthy: the loss was finite and not suspicious.
        alarm: the loss set off the alarm, on which the accepted snapshot is put back.
        now: optimizer steps taken; ``step`` if nothing is given, as where losses have no lag.

        Returns what an alarm led to, and None without one. Losses of weights that a rollback has
        replaced are ignored, alarms included.
        """
        now = step if now is None else now
        if now < self._now or now <= (self._steps["accepted"] or 0):
            self._forget_from(now)
        self._now = now
        if step <= self._replaced:
            return None
        if alarm:
            return self._rolled_back()
        if not healthy:
            return None
        self._healthy += 1
        if self._healthy >= self.every:
            self._rollbacks = 0
        candidate = self._steps["candidate"]
        if candidate is not None and step > candidate:
            self._proven += 1
            if self._proven >= self.proof or self._steps["accepted"] is None:
                self._store.accept()
                self._steps = {"accepted": candidate, "candidate": None}
        due = self._last is None or now - self._last >= self.every
        if due and self._steps["candidate"] is None:
            self.take(now)
        return None

    @property
    def accepted(self) -> int | None:
        """Step of the snapshot that an alarm would put back."""
        return self._steps["accepted"]

    def take(self, step: int) -> None:
        """Make the present weights, those after ``step`` optimizer steps, the candidate."""
        self._unhook()
        self._take(step)

    def _take(self, step: int) -> None:
        named = self._named()
        states = {
            key: {name: local(value) for name, value in optimizer.state[param].items()}
            for key, optimizer, _, param in self._optimized(named)
            if param in optimizer.state
        }
        weights = {name: local(tensor) for name, tensor in named.items()}
        self._store.write("candidate", Contents(step, weights, states))
        self._steps["candidate"] = self._last = step
        self._proven = 0

    def start_at(self, step: int) -> None:
        """Say that the run has taken ``step`` optimizer steps already, as after a resume."""
        if step < self._now:
            self._forget_from(step + 1)
        self._now = step

    def state_dict(self) -> dict[str, Any]:
        """What an exact resume needs, for ``torch.save``; loads with ``weights_only=True``.

        From memory it refers to the snapshots' own tensors: save it before training goes on. From
        a folder it has no tensors, and the folder must not have moved on when it is loaded.
        """
        return {
            "version": STATE_VERSION,
            "last": self._last,
            **{name: getattr(self, f"_{name}") for name in _COUNTS},
            **{
                slot: None if step is None else self._store.saved(slot, step)
                for slot, step in self._steps.items()
            },
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Resume from ``state_dict()``; the settings stay those of these snapshots.

        Raises ValueError if the state is damaged or of another model; then nothing has changed.
        """
        last, counts = state_dict.get("last"), [state_dict.get(name) for name in _COUNTS]
        slots: dict[Slot, Any] = {
            "accepted": state_dict.get("accepted"),
            "candidate": state_dict.get("candidate"),
        }
        if (
            state_dict.get("version") != STATE_VERSION
            or not all(type(count) is int for count in counts)
            or not (last is None or type(last) is int)
            or not all(saved is None or isinstance(saved, Mapping) for saved in slots.values())
        ):
            raise ValueError(
                f"this is not a version {STATE_VERSION} state of Snapshots: version is "
                f"{state_dict.get('version')!r}, last {last!r}, {', '.join(_COUNTS)} {counts}; "
                f"load what state_dict() gave"
            )
        found: dict[Slot, Contents | None] = {
            slot: None if saved is None else self._store.find(slot, saved)
            for slot, saved in slots.items()
        }
        for contents in found.values():
            if contents is not None:
                self._check(contents, "the state")
        self._unhook()
        for slot, contents in found.items():
            self._steps[slot] = None if contents is None else contents.step
            if contents is not None and "weights" in slots[slot]:
                self._store.write(slot, contents)
        self._last = last
        for name, count in zip(_COUNTS, counts, strict=True):
            setattr(self, f"_{name}", count)
        for slot, contents in found.items():
            if contents is None and slots[slot] is not None:
                warnings.warn(
                    f"the {slot} snapshot of step {slots[slot].get('step')} is no longer there",
                    stacklevel=2,
                )

    def _before_step(self, *_: object) -> None:
        # A copy captured in a graph would be made anew at each replay, of whatever is there then.
        capturing = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
        if self._awaits_start and not torch.compiler.is_compiling() and not capturing:
            self._awaits_start = False
            self._take(self._now)  # unhooking has to wait: torch is going through its hooks

    def _unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._awaits_start = [], False

    def _forget_from(self, now: int) -> None:
        """Drop what is from a later part of a run resumed earlier, or from another run."""
        for slot, step in self._steps.items():
            self._steps[slot] = step if step is not None and step < now else None
        self._last, self._replaced = None, 0

    def _rolled_back(self) -> Rollback:
        self._healthy = 0
        self._last, self._steps["candidate"] = self._now, None
        contents = None if self._steps["accepted"] is None else self._store.read("accepted")
        if contents is None or self._misfit(contents):
            return _in_vain(Rollback("empty", None, self._rollbacks))
        if self._rollbacks >= self.attempts:
            return _in_vain(Rollback("exhausted", None, self._rollbacks))
        self._put_back(contents)
        self._rollbacks += 1
        self._replaced = self._now
        return Rollback("restored", contents.step, self._rollbacks)

    def _put_back(self, contents: Contents) -> None:
        named = self._named()
        for name, saved in contents.weights.items():
            local(named[name]).copy_(saved)
        for key, optimizer, group, param in self._optimized(named):
            if key.partition("/")[2] not in contents.weights:
                continue  # it joined after the snapshot
            state, saved = optimizer.state[param], contents.states.get(key, {})
            for name, value in saved.items():
                state[name] = _put(value, state.get(name), name, group, param)
            new = {name: value for name, value in state.items() if name not in saved}
            if (
                isinstance(optimizer, _START_AT_ZERO)
                and not group.get("dampening")  # the first gradient enters momentum undampened
                and all(isinstance(value, Tensor) for value in new.values())
            ):
                for value in new.values():
                    local(value).zero_()
            else:
                for name in new:
                    del state[name]

    def _named(self) -> dict[str, Tensor]:
        """Parameters and buffers by name, each once."""
        named: dict[int, tuple[str, Tensor]] = {}
        for number, module in enumerate(self._modules):
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                named.setdefault(id(tensor), (f"{number}.{name}", tensor))
        for number, optimizer in enumerate(self._optimizers):
            params = (param for group in optimizer.param_groups for param in group["params"])
            for place, param in enumerate(params):
                named.setdefault(id(param), (f"optimizer{number}.{place}", param))
        return dict(named.values())

    def _optimized(
        self, named: dict[str, Tensor]
    ) -> Iterator[tuple[str, Optimizer, dict[str, Any], Tensor]]:
        """Every optimizer's every parameter, with the key of its state."""
        names = {id(tensor): name for name, tensor in named.items()}
        for number, optimizer in enumerate(self._optimizers):
            for group in optimizer.param_groups:
                for param in group["params"]:
                    yield f"{number}/{names[id(param)]}", optimizer, group, param

    def _misfit(self, contents: Contents) -> str:
        """A weight of the snapshot that this model has not, or in another shape; "" if none."""
        live = {name: local(tensor).shape for name, tensor in self._named().items()}
        for name, saved in contents.weights.items():
            if live.get(name) != saved.shape:
                shape = tuple(live[name]) if name in live else "none"
                return f"{name} has shape {tuple(saved.shape)} there and {shape} here"
        return ""

    def _check(self, contents: Contents, origin: str) -> None:
        misfit = self._misfit(contents)
        if misfit:
            raise ValueError(
                f"{origin} is of another model: {misfit}; use another folder, or the same model"
            )


def _put(saved: Any, live: Any, name: str, group: Mapping[str, Any], param: Tensor) -> Any:
    """The state entry ``saved``, in the tensor ``live`` if there is one."""
    if not isinstance(saved, Tensor):
        return copy.deepcopy(saved)
    if isinstance(live, Tensor) and local(live).shape == saved.shape:
        local(live).copy_(saved)
        return live
    # As in torch's load_state_dict, a step count stays on the host unless a kernel reads it.
    on_host = name == "step" and not (group.get("capturable") or group.get("fused"))
    made = saved.to("cpu" if on_host else local(param).device, copy=True)
    mesh, kind = getattr(param, "device_mesh", None), cast("Any", type(param.data))
    if mesh is None or saved.shape != local(param).shape:
        return made
    placements = cast("Any", param).placements
    return kind.from_local(made, mesh, placements, shape=param.shape, stride=param.stride())


def _all_of(name: str, value: object, kind: type[Any]) -> list[Any]:
    values = [value] if isinstance(value, kind) else value
    listed = list(cast("Iterable[object]", values)) if isinstance(values, Iterable) else []
    if not listed or not all(isinstance(each, kind) for each in listed):
        raise TypeError(f"{name} must be a {kind.__name__} or several, got {value!r}")
    return listed


def _in_vain(rollback: Rollback) -> Rollback:
    # Training goes on with weights that may be lost, which a log alone would not tell in time.
    warnings.warn(f"the loss set off the alarm; {rollback}", stacklevel=6)
    return rollback
