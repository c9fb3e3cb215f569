"""What lies between the training loop's losses and the schedule: gathering, ranks, and the lag."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import torch
import torch.distributed as dist
from torch.optim import Optimizer

from lrpilot.schedules.checks import check_count
from lrpilot.torch.losses import NOTHING, Flight, Landed, Losses, depart, lag_of, losses_of
from lrpilot.torch.ranks import How, Ranks, Reduction, ranks_of
from lrpilot.torch.windows import Told

NO_LOSS = (
    "step() came without a loss, and the schedule decides from the loss, so it stands still; call "
    "step(loss), or observe(loss) before a step() that a framework calls"
)


class Intake:
    """Makes one observation per optimizer step of the losses handed in, and releases it late.

    needs: what the schedule reads of a `Signal`.
    lag: see `ScheduledLR`; None until it is known.
    """

    def __init__(self, lag: int | None, how: How, group: dist.ProcessGroup | None) -> None:
        if lag is not None:
            check_count("lag", lag, least=0, cure="it counts optimizer steps")
        if how not in get_args(How):
            raise ValueError(f'ranks must be "mean", "first" or "given", got {how!r}')
        self.needs: tuple[str, ...] = ()
        self.lag = lag
        self.pending = NOTHING  # handed in since the last observation
        self.flying: deque[Landed | Flight | Reduction] = deque()  # observations on their way
        self.carried = NOTHING  # of steps that are no observation, and so part of the next one
        self._how: How = how
        self._group = group
        self._ranks: Ranks | None = None
        self._is_settled = False  # whether lag and ranks are
        self._clock: float | None = None
        self._has_warned = False

    def follow(self, needs: tuple[str, ...]) -> None:
        """Provide for a schedule that reads other fields of a `Signal`."""
        self.needs, self._is_settled = needs, False

    @property
    def is_direct(self) -> bool:
        """Whether the next loss, if on the host, is the next observation, at once."""
        is_at_once = self._is_settled and not self.lag and self._ranks is None
        return is_at_once and self.carried.is_nothing

    def notes(self) -> list[str]:
        """What an account of the decisions leaves out: that some losses have not been seen."""
        count = len(self.flying)
        return [f"losses not seen yet, by the lag of {self.lag}: {count}"] if count else []

    def take(self, loss: object, count: float | None, consumed: Mapping[str, float | None]) -> None:
        """Add a loss, or only what was consumed, to those pending."""
        if loss is None or "loss" not in self.needs:
            losses = losses_of(0.0, 0.0, consumed, waits=True)
        else:
            lag = lag_of(loss) if self.lag is None else self.lag
            losses = losses_of(loss, count, consumed, waits=not lag)
            self.lag = lag
        self.pending = self.pending.plus(losses)

    def send(
        self,
        optimizer: Optimizer,
        skipped: torch.Tensor | None,
        agreed: object,
        told: Told | None = None,
    ) -> Losses:
        """Make an observation of the losses pending; returns them.

        skipped: above 0 if their optimizer step was. told: of gradients and weights.
        agreed: what must be the same on all ranks.
        """
        if not self._is_settled:
            self.lag = self.lag if self.lag is not None else lag_of(skipped) or 0
            device = _device(optimizer)
            self._ranks = ranks_of(self._how, self._group, device) if self.needs else None
            self._is_settled = True
        losses, self.pending = self.pending, NOTHING
        if told is not None:
            losses = losses._replace(**told._asdict())
        if "seconds" in self.needs and not losses.seconds:
            losses = losses._replace(seconds=self._since())
        if self._ranks is None:
            self.flying.append(depart(losses, skipped))
        else:
            self.flying.append(self._ranks.depart(losses, skipped, (agreed, self.lag)))
        return losses

    def arrived(self) -> Iterator[Losses]:
        """The observations that the schedule is to see now, each of at least one step taken."""
        if not self.needs and len(self.flying) <= (self.lag or 0):
            yield NOTHING  # there is nothing to wait for, but steps that turn out to be skipped
        while len(self.flying) > (self.lag or 0):
            losses, is_skipped = self.flying.popleft().land()
            losses = self.carried.plus(losses)
            has_none = "loss" in self.needs and not losses.weight
            self.carried = losses if is_skipped or has_none else NOTHING
            if has_none and not is_skipped:
                self._warn()
            elif not is_skipped:
                self._check_units(losses)
                yield losses

    def land(self) -> list[Landed]:
        """Wait for all that is on its way, and return it."""
        self.pending = self.pending.here()
        landed = [flight.land() for flight in self.flying]
        self.flying.clear()
        self.flying.extend(landed)
        return landed

    def clear(self) -> None:
        """Forget all losses."""
        for flight in self.flying:
            flight.land()  # a reduction that nobody waits for would be left behind
        self.flying.clear()
        self.pending = self.carried = NOTHING

    def saved(self) -> dict[str, Any]:
        """What a checkpoint needs; losses on their way are waited for."""
        in_flight = self.land()
        lists = {"pending": self.pending, "carried": self.carried, "in_flight": in_flight}
        return {"lag": self.lag, **lists}

    def resume(
        self, lag: int | None, pending: Losses, carried: Losses, in_flight: list[Landed]
    ) -> None:
        """Go on from a checkpoint, with its lag if the user has set none."""
        self.lag = lag if self.lag is None else self.lag
        self.pending, self.carried = pending, carried
        self.flying = deque[Landed | Flight | Reduction](in_flight)
        self._clock, self._is_settled = None, False

    def __getstate__(self) -> dict[str, Any]:
        self.land()
        return self.__dict__ | {"_ranks": None, "_is_settled": False}

    def _check_units(self, losses: Losses) -> None:
        for unit in self.needs:
            if unit in ("epochs", "samples", "tokens") and not getattr(losses, unit):
                self._warn(
                    f"the schedule counts {unit} and none came, so it does not move on; call "
                    f"step(loss, {unit}=...) with what the step consumed"
                )

    def _warn(self, message: str = NO_LOSS) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(message, stacklevel=6)

    def _since(self) -> float:
        """Seconds since the last call; 0 the first time."""
        before, self._clock = self._clock, time.perf_counter()
        return 0.0 if before is None else self._clock - before


def _device(optimizer: Optimizer) -> torch.device:
    """Where the parameters are."""
    parameters = (one for group in optimizer.param_groups for one in group["params"])
    return next((one.device for one in parameters), torch.device("cpu"))
