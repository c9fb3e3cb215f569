"""GreedyLR's default rule: better, worse, or no evidence, and then it holds the rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from lrpilot.schedules.checks import (
    Mode,
    check_bounds,
    check_count,
    check_evidence,
    check_factor,
    check_mode,
    check_threshold,
)
from lrpilot.schedules.greedy.trend import (
    FEWEST,
    TINY,
    Evidence,
    Fit,
    critical,
    fit,
    with_block,
)
from lrpilot.schedules.protocol import Calm, Signal

# A loss beyond this is no measurement: it is ignored like one that is not finite, and squares of
# the others stay finite.
LARGEST = 1e150

# The trend is tested when so many block means are there, then at each half as many again: few
# looks keep false alarms rare, and a weak trend gets the time it needs. After the last look the
# count starts anew, so that the reference is recent.
FIRST_LOOK = 8
LAST_LOOK = 90

SPIKE = 10.0  # standard deviations of single losses; two losses in a row above it are a spike
MEMORY = 50  # blocks for which the first failed raise is remembered; doubled at each further one
LONGEST_MEMORY = 1_000_000


class Memory(NamedTuple):
    """What changes at a look or a move only."""

    alarm: float = LARGEST  # two losses in a row above this are a spike
    z: float = 0.0  # slope at the last test in standard errors; negative: the loss falls
    look: int = FIRST_LOOK  # block count of the next test
    good: int = 0  # verdicts "better" in a row
    bad: int = 0  # verdicts "worse" in a row
    trend: int = 0  # +1 while warm-up may continue a raise, -1 while cooldown may continue a cut
    left: int = 0  # blocks for which that continuation still runs
    speed: float = 0.0  # of the descent before the raise that is on trial; 0: none is
    mark: float = 0.0  # the loss at that raise; after a brake, below which it is back
    deadline: int = 0  # block count by which the raise must have paid
    ceiling: float = LARGEST  # highest scale that a raise may reach
    wait: int = 0  # blocks until the ceiling is forgotten, counted at verdicts
    backoff: int = MEMORY  # the next such wait
    braked: float = 0.0  # scale before the brake that may be taken back; 0: there is none


class NoiseState(NamedTuple):
    """What the rule remembers between two observations."""

    scale: float = 1.0
    reason: str = "start"
    seen: int = 0  # losses in the block under way
    total: float = 0.0  # their sum (in mode "max": of the negated scores)
    hot: int = 0  # 1 if the last loss was above the alarm
    evidence: Evidence = Evidence()
    memory: Memory = Memory()


_new = tuple.__new__
_critical = cache(critical)  # a handful of block counts


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseGreedy:
    """Raise the rate while the loss falls beyond doubt, lower it while it rises beyond doubt.

    The losses are averaged in blocks of ``window``. After 8, 12, 18, 27, 40, 60 and 90 blocks
    since the last verdict a straight line through the block means is tested: if its slope is more
    than ``evidence`` standard errors below zero, the verdict is "better", above zero "worse"; so it
    is if each block mean is below (above) the one before, as where there is no noise. Otherwise
    there is no verdict and the rate holds. ``patience + 1`` equal verdicts in a row move it.

    A raise is on trial: unless the loss then falls at least as fast as before, or if it stands
    higher than before, the raise is taken back ("revert") and remembered as a ceiling, for 50
    blocks the first time and twice as long each further time. Two losses in a row that stand
    above the line by more than it has travelled and 10 standard deviations of the noise cut the
    rate at once by ``factor ** 2`` ("brake"). If the loss is back at the next look the cut is taken
    back ("recover"), unless there was another failure of late.
    """

    factor: float = 0.7
    patience: int = 0
    window: int = 10
    evidence: float = 4.0
    threshold: float = 1e-4
    warmup: int = 0
    cooldown: int = 0
    min_scale: float = 0.1
    max_scale: float = 10.0
    mode: Mode = "min"

    def __post_init__(self) -> None:
        check_factor(self.factor)
        check_count("patience", self.patience, least=0, cure="0 acts on the first verdict")
        check_count("window", self.window, least=1, cure="1 does not average")
        check_evidence(self.evidence)
        check_threshold(self.threshold)
        check_count("warmup", self.warmup, least=0, cure="0 turns it off")
        check_count("cooldown", self.cooldown, least=0, cure="0 turns it off")
        check_bounds(self.min_scale, self.max_scale)
        check_mode(self.mode)

    @property
    def needs(self) -> tuple[str, ...]:
        """The loss alone."""
        return ("loss",)

    def init(self) -> NoiseState:
        """State before the first observation: the base rate."""
        return NoiseState()

    def update(self, state: NoiseState, signal: Signal) -> NoiseState:
        """State after one more loss."""
        loss = signal.loss if self.mode == "min" else -signal.loss
        if not -1e150 < loss < 1e150:  # LARGEST, spelt out: this line runs at every step
            return state._replace(reason="ignore")
        scale, _, seen, total, hot, evidence, memory = state
        seen += 1
        total += loss
        if loss <= memory.alarm:
            hot = 0
        elif hot:
            return self._brake(scale, loss, evidence, memory)
        else:
            hot = 1
        if seen < self.window:
            # Not by name: a named tuple's constructor costs as much as all of the above.
            return _new(NoiseState, (scale, "hold", seen, total, hot, evidence, memory))
        if memory.left:
            return self._continue(scale, memory)
        evidence = with_block(evidence, total / seen)
        n = evidence.blocks
        if n == memory.look or n == FEWEST:
            return self._look(scale, hot, evidence, memory)
        return _new(NoiseState, (scale, "hold", 0, 0.0, hot, evidence, memory))

    def calm(self, state: NoiseState) -> Calm:
        """The coming losses that change sums alone; `absorb` takes them in together."""
        _, reason, seen, _, _, _, memory = state
        room = self.window - 1 - seen if reason == "hold" else 0
        if self.mode == "min":
            return _new(Calm, (room, -LARGEST, memory.alarm))
        return _new(Calm, (room, -memory.alarm, LARGEST))

    def absorb(self, state: NoiseState, losses: Sequence[float]) -> NoiseState:
        """The state after ``losses``, all of them calm: what ``update`` makes of one by one."""
        scale, reason, seen, total, _, evidence, memory = state
        if self.mode == "min":
            for loss in losses:
                total += loss
        else:
            for loss in losses:
                total -= loss
        seen += len(losses)
        return _new(NoiseState, (scale, reason, seen, total, 0, evidence, memory))

    def _look(self, scale: float, hot: int, evidence: Evidence, memory: Memory) -> NoiseState:
        """Fit the trend: its noise sets the alarm, and if it is time it is tested."""
        n = evidence.blocks
        line, needed = fit(evidence), _critical(self.evidence, n - 2)
        margin = self.threshold * abs(line.level)
        noise = line.deviation * self.window**0.5 * needed / self.evidence
        travelled = max(abs(line.slope) * (n - 1), margin)
        alarm = max(line.level, evidence.last) + SPIKE * noise + travelled
        _, z, look, *others = memory
        if n == look:
            # Bounded, where noise-free losses have no standard error.
            z = line.slope / max(line.slope_error, 1e-9 * abs(line.slope), TINY)
            look += look // 2
        looked = _new(Memory, (alarm, z, look, *others))
        if n < memory.look:
            return NoiseState(scale, "hold", 0, 0.0, hot, evidence, looked)
        return self._verdict(scale, hot, evidence, looked, line, needed, margin)

    def _verdict(
        self,
        scale: float,
        hot: int,
        evidence: Evidence,
        memory: Memory,
        line: Fit,
        needed: float,
        margin: float,
    ) -> NoiseState:
        n, slope = evidence.blocks, line.slope
        doubt = needed * line.slope_error
        climbs = evidence.climbs
        falls = (-slope > doubt or climbs == 1 - n) and -slope * (n - 1) > margin
        rises = (slope > doubt or climbs == n - 1) and slope * (n - 1) > margin
        is_settled = not (falls or rises or memory.speed or memory.braked)
        if is_settled and n < LAST_LOOK:
            return NoiseState(scale, "hold", 0, 0.0, hot, evidence, memory)
        wait = max(memory.wait - n, 0)
        fresh = memory._replace(
            look=FIRST_LOOK,
            ceiling=memory.ceiling if wait else LARGEST,
            wait=wait,
        )
        if memory.braked:
            if line.level <= memory.mark:
                recovered = min(memory.braked, self.max_scale)
                fresh = fresh._replace(ceiling=recovered, braked=0.0)
                return NoiseState(recovered, "recover", memory=fresh)
            memory, fresh = memory._replace(braked=0.0), fresh._replace(braked=0.0)
        if memory.speed:  # a raise is on trial
            higher = line.level - memory.mark > max(1.5 * needed * line.level_error, margin)
            slower = -slope < memory.speed if falls else n >= memory.deadline
            if rises or higher or slower:
                reverted = self._lowered(scale)
                return NoiseState(reverted, "revert", memory=_failed(fresh, reverted))
        if falls:
            return self._better(scale, fresh, line, n)
        if rises:
            return self._worse(scale, fresh)
        if n >= LAST_LOOK:
            return NoiseState(scale, "hold", hot=hot, memory=fresh)
        return NoiseState(scale, "hold", 0, 0.0, hot, evidence, memory)

    def _better(self, scale: float, memory: Memory, line: Fit, n: int) -> NoiseState:
        if memory.trend < 0:
            return self._continue(scale, memory._replace(left=self.cooldown))
        good = memory.good + 1
        raised = min(scale / self.factor, self.max_scale, memory.ceiling)
        if good <= self.patience or raised <= scale:
            memory = memory._replace(good=good, bad=0, speed=0.0)
            return NoiseState(scale, "hold", memory=memory)
        memory = memory._replace(
            good=0,
            bad=0,
            trend=1 if self.warmup else 0,
            speed=0.0 if self.warmup else -line.slope,
            mark=line.level,
            deadline=min(2 * n, LAST_LOOK),
        )
        return NoiseState(raised, "raise", memory=memory)

    def _worse(self, scale: float, memory: Memory) -> NoiseState:
        if memory.trend > 0:
            return self._continue(scale, memory._replace(left=self.warmup))
        bad = memory.bad + 1
        if bad <= self.patience:
            return NoiseState(scale, "hold", memory=memory._replace(good=0, bad=bad))
        memory = memory._replace(good=0, bad=0, trend=-1 if self.cooldown else 0)
        return NoiseState(self._lowered(scale), "lower", memory=memory)

    def _continue(self, scale: float, memory: Memory) -> NoiseState:
        """Move on against the trend, by one factor a block, and begin the evidence anew."""
        if memory.trend > 0:
            raised = min(scale / self.factor, self.max_scale, memory.ceiling)
            moved, reason = max(raised, scale), "warmup"
        else:
            moved, reason = self._lowered(scale), "cooldown"
        left = memory.left - 1
        trend = memory.trend if left else 0
        return NoiseState(moved, reason, memory=memory._replace(left=left, trend=trend))

    def _brake(self, scale: float, loss: float, evidence: Evidence, memory: Memory) -> NoiseState:
        """Cut at once, and again only if the loss then doubles its excess."""
        failed = _failed(memory, self._lowered(scale))
        excess = loss - evidence.last if evidence.blocks else 0.0
        is_first = evidence.blocks and not memory.wait
        memory = failed._replace(
            # A standard deviation above where the evidence began, and below the spike: a loss that
            # only ever rises is never taken for one that is back.
            mark=evidence.first + (memory.alarm - evidence.first) / SPIKE,
            braked=scale if is_first else 0.0,
            alarm=min(loss + max(excess, 0.0), LARGEST),
            look=FIRST_LOOK,
            trend=0,
            left=0,
        )
        return NoiseState(self._lowered(scale, self.factor**2), "brake", memory=memory)

    def _lowered(self, scale: float, factor: float | None = None) -> float:
        """A cut never raises a rate that bounds tightened on resume have left below the floor."""
        return min(scale, max(scale * (factor or self.factor), self.min_scale))


def _failed(memory: Memory, ceiling: float) -> Memory:
    """A raise has failed: no other may go above ``ceiling`` for a while."""
    return memory._replace(
        good=0,
        bad=0,
        speed=0.0,
        ceiling=min(memory.ceiling, ceiling),
        wait=memory.backoff,
        backoff=min(2 * memory.backoff, LONGEST_MEMORY),
    )
