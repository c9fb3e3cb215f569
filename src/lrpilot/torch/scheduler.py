"""A real ``LRScheduler`` over any lrpilot schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast
from weakref import ref

import torch
import torch.distributed as dist
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lrpilot.schedules import Schedule, Signal
from lrpilot.schedules.decisions import DecisionLog, notable
from lrpilot.schedules.durations import Amount, Duration
from lrpilot.schedules.explanation import explain
from lrpilot.schedules.horizon import How as HowLong
from lrpilot.schedules.horizon import cool_down, extend
from lrpilot.schedules.openloop import Shape
from lrpilot.schedules.preview import lr_at, preview
from lrpilot.torch.course import Course
from lrpilot.torch.intake import Intake
from lrpilot.torch.losses import OneLoss, at_hand, unread
from lrpilot.torch.ranks import How
from lrpilot.torch.rates import Rates
from lrpilot.torch.saved import Saved, Trial, from_data, to_data, warn_of_changes
from lrpilot.torch.snapshots import Snapshots
from lrpilot.torch.steps import OptimizerSteps, hooked
from lrpilot.torch.windows import OptimizerWindows


class ScheduledLR(LRScheduler):
    """Multiply every parameter group's base rate by the schedule's scale.

    Call ``step(loss)`` once per optimizer step or once per micro-batch, before or after
    ``optimizer.step()``: the losses handed in since the optimizer last stepped are one observation,
    and a step that a ``GradScaler`` skips is none. While no step of the optimizer has been seen,
    each call counts as one; what these calls decided is taken back when the first is seen.

    The base rate of a group is its ``initial_lr``, or the rate it had when the scheduler was made;
    groups keep their ratios. Rates are written when the schedule moves, tensors in place. A rate
    that somebody else has set meanwhile is respected: the group's base rate changes in proportion,
    and the log says so.

    base_lr: of every group instead of its own: 1 for a schedule whose scale is the rate itself.
    lag: after step ``t`` the schedule sees the loss of step ``t - lag``, which by then has come
        without anybody waiting for the device; before, it decides nothing. None is 0 for losses on
        the host and 4 for losses on a device, fixed at the first. A schedule that needs nothing is
        not delayed.
    ranks: in distributed training the observation is the "mean" over all ranks, weighted by count,
        or that of the "first"; "given" says that every rank hands in the same already.
    process_group: the ranks in question; None is all.
    snapshots: weights to go back to when a `Guard` brakes or a policy retreats.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedule: Schedule[Any],
        *,
        base_lr: float | None = None,
        lag: int | None = None,
        ranks: How = "mean",
        process_group: dist.ProcessGroup | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        # LRScheduler's constructor refuses wrapped optimizers, and replaces optimizer.step to warn
        # of an order of calls that does not matter here.
        self.optimizer = optimizer
        self._intake = Intake(lag, ranks, process_group)
        self._windows = OptimizerWindows()
        self._follow(schedule)
        self._step_count = 1  # Accelerate adds to it; nobody reads it
        self.log = DecisionLog()
        self.snapshots = snapshots
        self._rates = Rates(optimizer, self.state.scale, base_lr)
        self._scale, self._reason = self._rates.scale, self.state.reason
        self._steps = OptimizerSteps()
        self._is_watched = self._watch()
        self._trial: Trial | None = None
        if self._is_watched:
            self._trial = Trial(self.state, self.last_epoch, self.log.state_dict())

    @property
    def schedule(self) -> Schedule[Any]:
        """What decides."""
        return self._course.schedule

    @property
    def state(self) -> Any:
        """The schedule's named tuple."""
        return self._course.state

    @state.setter
    def state(self, state: Any) -> None:
        self._course.state = state

    @property
    def last_epoch(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Optimizer steps that the schedule has seen."""
        return self._course.steps

    @last_epoch.setter
    def last_epoch(self, steps: int) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._course.steps = steps

    @property
    def lag(self) -> int | None:
        """Steps after which a loss is seen; None while that is open."""
        return self._intake.lag

    @property
    def base_lrs(self) -> list[float]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Each group's rate at scale 1."""
        return self._rates.base

    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,  # what follows the loss is not keyword-only, which would cost a tenth of a call
        loss: float | torch.Tensor | None = None,
        count: float | None = None,
        epochs: float | None = None,
        tokens: float | None = None,
        samples: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Hand in a loss and, if the optimizer has stepped, set the rates of its next step.

        However often it has stepped since the last call, the schedule moves on by one step.

        loss: mean training loss of a batch, a number or a tensor of one element, on any device; its
            graph is not kept. A schedule that needs no loss does not read it. None if `observe` was
            told; if that was not either, a schedule that decides from the loss stands still.
        count: how many samples or tokens it is the mean of, to weight it; None is 1.
        epochs, tokens, samples, seconds: what the batch consumed, for a schedule that counts them.
            Seconds are measured if None.
        """
        steps = self._steps
        if steps.quick and (count is epochs is tokens is samples is seconds is None):
            # All of `_tick` where one loss at hand is one observation.
            number = loss if type(loss) is float else self._at_hand(loss)
            if number is not None:
                steps.waiting, steps.quick = 0, steps.each_call
                course = self._course
                if course.low < number < course.high:
                    course.held.append(number)
                    course.room -= 1
                    if not course.room:
                        course.low = math.inf
                    return
                signal = self._signal
                signal[0] = signal.loss = number
                before, after = course.advance(cast("Signal", signal))
                is_same = after.scale == self._scale and after.reason is self._reason
                if not is_same or course.has_phases:
                    self._moved(before, after)
                course.look_ahead()
                return
        self.observe(loss, count, epochs=epochs, tokens=tokens, samples=samples, seconds=seconds)
        if steps.due:
            self._tick()

    def observe(
        self,
        loss: float | torch.Tensor | None,
        count: float | None = None,
        *,
        epochs: float | None = None,
        tokens: float | None = None,
        samples: float | None = None,
        seconds: float | None = None,
    ) -> None:
        """Hand in a loss, for a ``step()`` that a framework calls without one.

        The arguments are those of `step`.
        """
        consumed = {"epochs": epochs, "tokens": tokens, "samples": samples, "seconds": seconds}
        self._settle()
        self._intake.take(loss, count, consumed)
        self._steps.plain = self._steps.quick = False

    def get_last_lr(self) -> list[float | torch.Tensor]:
        """The rate in force of each parameter group, as floats."""
        self._heed()
        return list(self._rates.current)

    get_lr = get_last_lr  # the schedule asks for no other

    def explain(self) -> str:
        """Why the rates are what they are: the decisions as a table, in words."""
        text = explain(self._told(), base_lr=self._rates.one, schedule=self.schedule)
        return "\n".join([text, *self._rates.notes(), *self._intake.notes()])

    def lr_at(self, t: int) -> list[float]:
        """The rate of each group at optimizer step ``t``, counted from 0, if no loss decides it.

        For a schedule that counts other units see `lrpilot.schedules.preview`.
        """
        return [lr_at(self.schedule, t, base) for base in self._rates.base]

    def preview(self, n: int) -> list[list[float]]:
        """The rates of the first ``n`` optimizer steps, by step and group; see `lr_at`."""
        scales = preview(self.schedule, n)
        return [[base * scale for base in self._rates.base] for scale in scales]

    def extend(self, total: int | Amount, how: HowLong = "keep") -> None:
        """Change the horizon from now on; see `lrpilot.schedules.extend`.

        Resume what is saved afterwards with the new plan in the code: the new horizon and, after
        "keep" or "recool", lengths as amounts instead of shares.
        """
        self._settle()
        self._replan("extend", *extend(self.schedule, self.state, total, how))

    def cool_down(
        self,
        lasts: Duration | None = None,
        shape: Shape | None = None,
        end_scale: float | None = None,
    ) -> None:
        """Begin the cooldown now; see `lrpilot.schedules.cool_down`."""
        self._settle()
        plan = cool_down(self.schedule, self.state, lasts, shape, end_scale)
        self._replan("cooldown begins", *plan)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs, as strict JSON-able data without settings.

        Of the settings there is a fingerprint, by which a resume under others is noticed. Losses
        that are on their way are waited for.
        """
        self._settle()
        log, trial = self._told(), self._trial
        saved = Saved(
            state=self.state,
            steps=self.last_epoch,
            trial=trial and trial._replace(losses=trial.losses.here()),
            log=log,
            windows=self._windows.pack(),
            **self._intake.saved(),
            **self._rates.saved(),
            **self._steps.saved(),
        )
        return to_data(self.schedule, saved)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Resume from ``state_dict()``; settings and base rates stay those of this scheduler.

        Raises ValueError if the state is of another schedule, another version, or damaged; then
        nothing has changed. Warns if the settings or base rates were others when it was saved.
        """
        saved, rates = from_data(self.schedule, state_dict), self._rates
        rates.adopt(writing=self.last_epoch >= 0)
        if len(saved.lrs) != len(rates.initial):
            raise ValueError(
                f"the state has {len(saved.lrs)} parameter groups and this optimizer "
                f"{len(rates.initial)}; add or remove groups before loading"
            )
        self._windows.resume(saved.windows, self.optimizer)
        warn_of_changes(self.schedule, rates.initial, state_dict, saved)
        self.state, self.last_epoch, self.log = saved.state, saved.steps, saved.log
        self._intake.resume(saved.lag, saved.pending, saved.carried, saved.in_flight)
        if self.snapshots is not None:
            self.snapshots.start_at(max(self.last_epoch, 0) + len(saved.in_flight))
        self._trial = saved.trial if self._is_watched else None
        is_seen = saved.is_seen and self._is_watched
        self._steps.resume(is_seen=is_seen, is_due=saved.is_due, is_skipped=saved.is_skipped)
        if self.last_epoch >= 0:
            rates.resume(self.state.scale, saved.initial_lrs, saved.base_lrs, saved.lrs)
        self._scale, self._reason = rates.scale, self.state.reason

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        self._heed()
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._is_watched = self._watch()  # hooks are not copied

    def _initial_step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Set the first rates; SequentialLR's constructor calls it."""
        self._update_lr(self.last_epoch + 1)

    def _update_lr(self, epoch: int | None = None) -> None:
        """Begin: SequentialLR calls it where this scheduler's turn comes, instead of ``step()``."""
        self.last_epoch = epoch or 0
        self._intake.clear()  # of losses of another's turn
        self._steps.observed()
        self._rates.adopt(writing=False)
        self._write()

    def _follow(self, schedule: Schedule[Any]) -> None:
        self._course = Course(schedule)
        needs = tuple(schedule.needs)
        self._intake.follow(needs)
        self._windows.follow(needs)
        self._is_simple, self._signal = needs in ((), ("loss",)), OneLoss()
        self._at_hand = at_hand if needs else unread

    def _tick(self) -> None:
        """Observe one optimizer step."""
        intake, steps, trial = self._intake, self._steps, self._trial
        self._rates.adopt()
        agreed = self.last_epoch, self.state.scale
        losses = intake.send(self.optimizer, steps.skipped, agreed, self._windows.take())
        steps.observed()
        self._trial = trial and trial.after(losses)
        for losses in intake.arrived():
            self._moved(*self._course.advance(losses.signal()))
            if self.snapshots is not None:
                self._keep(self.snapshots, losses.signal().loss)
        self._windows.heed(self.state, late=len(intake.flying))
        steps.groups = len(self._rates.base)
        is_alone = self._trial is None and self.snapshots is None
        steps.plain = is_alone and self._is_simple and intake.is_direct
        steps.quick = steps.plain and steps.due

    def _keep(self, snapshots: Snapshots, loss: float) -> None:
        """Tell the snapshots how the loss looked, on which they may put weights back."""
        step, scale, reason = self.last_epoch, self.state.scale, self.state.reason
        is_healthy = getattr(self.state, "is_healthy", math.isfinite(loss))
        now = step + len(self._intake.flying)
        alarm = reason in ("brake", "retreat")
        done = snapshots.observed(step, healthy=is_healthy, alarm=alarm, now=now)
        if done is not None:
            event = "rollback" if done.outcome == "restored" else str(done)
            self.log.note(step, event, scale, scale, to=done.step or 0, attempt=done.attempt)

    def _replan(self, reason: str, schedule: Schedule[Any], state: Any) -> None:
        """Follow another schedule from now on, and have no way back to the one before."""
        self._heed()
        self.log.note(self.last_epoch, reason, self.state.scale, state.scale)
        self._trial = None
        steps = self.last_epoch
        self._follow(schedule)
        self.state, self.last_epoch, self._reason = state, steps, state.reason
        self._steps.plain = self._steps.quick = False
        self._write()

    def _moved(self, before: Any, after: Any) -> None:
        self._reason = after.reason
        if after.scale != self._scale:
            self._heed()
            self._write()
        is_plan = before.reason == after.reason == "plan" and not self._course.has_phases
        if not is_plan and notable(before, after):
            self.log.record(self.last_epoch, before, after)

    def _write(self) -> None:
        self._scale = self.state.scale
        self._rates.write(self._scale)

    def _heed(self) -> None:
        """Adopt new groups, and rates that somebody else has set."""
        if self.last_epoch < 0:
            return  # it is another's turn, by SequentialLR
        self._rates.adopt()
        for group, old, new, base in self._rates.heed():
            was, now = (old / base, new / base) if base else (self._scale, self._scale)
            self.log.note(self.last_epoch, "manual", was, now, group=group, lr=new)

    def _told(self) -> DecisionLog:
        """The log, told of what is not worth an entry."""
        self._heed()
        self.log.scale = self.state.scale
        return self.log.up_to(max(self.last_epoch, 0))

    def _settle(self) -> None:
        """Once the optimizer has been seen: what came before it were micro-batches."""
        trial = self._trial
        if trial is None or self._steps.each_call:
            return
        self._trial = None
        if trial.calls:
            pending = trial.losses.plus(self._intake.pending)
            self._intake.clear()
            self._intake.pending = pending
            self.state, self.last_epoch = trial.state, trial.steps
            self.log = DecisionLog.from_state(trial.log)
            self._reason = self.state.reason
            self._heed()
            self._write()

    def _watch(self) -> bool:
        """Have the optimizer tell of its steps; its rates stay when its state is loaded."""
        optimizer, alive = hooked(self.optimizer), ref(self)
        if optimizer is None:
            return False

        def loaded(optimizer: Optimizer) -> None:
            scheduler = alive()
            if scheduler is not None and scheduler.last_epoch >= 0:
                scheduler._rates.restore()

        self._steps.watch(optimizer)
        self._windows.watch(optimizer)
        optimizer.register_load_state_dict_post_hook(loaded)
        return True
