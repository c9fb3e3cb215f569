"""The branch-free twin of GreedyLR's default rule, over any array library.

For where a Python ``if`` cannot go: inside ``torch.compile`` or a CUDA graph, under ``jax.jit``,
and for thousands of runs at once. It shares settings, state and arithmetic with `NoiseGreedy`, and
a test feeds both the same losses: in float64 they agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lrpilot.schedules.greedy.noise import (
    FIRST_LOOK,
    LARGEST,
    LAST_LOOK,
    LONGEST_MEMORY,
    SPIKE,
    Memory,
    NoiseGreedy,
    NoiseState,
)
from lrpilot.schedules.greedy.trend import FEWEST, TINY, Evidence, critical, fit

REASONS = (
    *("start", "hold", "ignore", "raise", "lower", "revert"),
    *("brake", "recover", "warmup", "cooldown"),
)
START, HOLD, IGNORE, RAISE, LOWER, REVERT, BRAKE, RECOVER, WARMUP, COOLDOWN = range(len(REASONS))

# The packed state: scale, reason as its place in REASONS, and the other numbers in their order.
WIDTH = 5 + len(Evidence._fields) + len(Memory._fields)


def packed(state: NoiseState) -> tuple[float, ...]:
    """The state as ``WIDTH`` numbers; the first is the scale.

    >>> len(packed(NoiseState())) == WIDTH
    True
    """
    scale, reason, seen, total, hot, evidence, memory = state
    numbers = (scale, REASONS.index(reason), seen, total, hot, *evidence, *memory)
    return tuple(float(number) for number in numbers)


def unpacked(numbers: Sequence[float]) -> NoiseState:
    """The state that ``packed`` wrote; ``numbers`` is a list or tuple of ``WIDTH`` floats.

    >>> unpacked(packed(NoiseState())) == NoiseState()
    True
    """
    like = NoiseState()
    cut = 5 + len(Evidence._fields)
    return NoiseState(
        float(numbers[0]),
        REASONS[int(numbers[1])],
        int(numbers[2]),
        float(numbers[3]),
        int(numbers[4]),
        Evidence(*_typed(like.evidence, numbers[5:cut])),
        Memory(*_typed(like.memory, numbers[cut:])),
    )


def _typed(like: Iterable[float], numbers: Iterable[float]) -> list[Any]:
    return [type(kind)(number) for kind, number in zip(like, numbers, strict=True)]


def update(rule: NoiseGreedy, state: Any, loss: Any, xp: Any) -> Any:
    """The state after one more loss, without a branch.

    state: array (..., ``WIDTH``), float64 for bit equality with the rule on Python floats.
    loss: array (...), of the same type.
    xp: the array library's namespace: torch, numpy or jax.numpy.
    """
    pick = xp.where
    columns = [state[..., k] for k in range(WIDTH)]
    scale, _, seen, total, hot = columns[:5]
    evidence = Evidence(*columns[5:13])
    memory = Memory(*columns[13:])
    n, first, last, sum_u, sum_tu, sum_uu, sum_dd, climbs = evidence
    alarm, z, look, good, bad, trend, left, speed, mark, deadline = memory[:10]
    ceiling, wait, backoff, braked = memory[10:]
    zero = scale * 0.0
    one = zero + 1.0

    # Of an array and a number: torch takes arrays alone.
    def larger(a: Any, b: Any) -> Any:
        return xp.maximum(a, zero + b)

    def smaller(a: Any, b: Any) -> Any:
        return xp.minimum(a, zero + b)

    loss = loss if rule.mode == "min" else -loss
    usable = (loss > -LARGEST) & (loss < LARGEST)
    loss = pick(usable, loss, zero)
    above = loss > alarm
    brakes = usable & above & (hot > 0)
    seen, total = seen + 1, total + loss
    full = usable & ~brakes & (seen >= rule.window)
    going_on = full & (left > 0)
    block = full & ~going_on

    # with_block
    mean = total / seen
    first = pick(n > 0, first, mean)
    u, d = mean - first, pick(n > 0, mean - last, zero)
    sum_u, sum_tu, sum_uu, sum_dd = sum_u + u, sum_tu + n * u, sum_uu + u * u, sum_dd + d * d
    climbs = climbs + pick(d > 0, one, zero) - pick(d < 0, one, zero)
    n = n + 1

    looks = block & ((n == look) | (n == FEWEST))
    enough = pick(looks, n, zero + FEWEST)  # a count for which the fit is defined
    sums = Evidence(enough, first, mean, sum_u, sum_tu, sum_uu, sum_dd, climbs)
    line = fit(sums, xp.sqrt, larger, smaller)
    needed = critical(rule.evidence, enough - 2)
    margin = rule.threshold * xp.abs(line.level)
    noise = line.deviation * rule.window**0.5 * needed / rule.evidence
    travelled = larger(xp.abs(line.slope) * (enough - 1), margin)
    alarm_now = larger(line.level, mean) + SPIKE * noise + travelled

    tested = looks & (n >= look)
    doubt = needed * line.slope_error
    falls = ((-line.slope > doubt) | (climbs == 1 - n)) & (-line.slope * (n - 1) > margin)
    rises = ((line.slope > doubt) | (climbs == n - 1)) & (line.slope * (n - 1) > margin)
    steepness = larger(line.slope_error, 1e-9 * xp.abs(line.slope))
    z_now = line.slope / larger(steepness, TINY)
    wait_now = larger(wait - n, 0)
    ceiling_now = pick(wait_now > 0, ceiling, zero + LARGEST)
    higher = line.level - mark > larger(1.5 * needed * line.level_error, margin)
    slower = pick(falls, -line.slope < speed, n >= deadline)

    # What happens, one of these at most
    recovers = tested & (braked > 0) & (line.level <= mark)
    tested_on = tested & ~recovers
    reverts = tested_on & (speed > 0) & (rises | higher | slower)
    better = tested_on & ~reverts & falls
    worse = tested_on & ~reverts & ~falls & rises
    undecided = tested_on & ~reverts & ~falls & ~rises
    cools = better & (trend < 0)
    warms = worse & (trend > 0)
    continues = going_on | cools | warms
    ceiling = pick(tested, ceiling_now, ceiling)
    highest = smaller(smaller(scale / rule.factor, rule.max_scale), ceiling)
    lowest = smaller(scale, larger(scale * rule.factor, rule.min_scale))
    raises = better & ~cools & (good + 1 > rule.patience) & (highest > scale)
    lowers = worse & ~warms & (bad + 1 > rule.patience)
    waits_up, waits_down = better & ~cools & ~raises, worse & ~warms & ~lowers
    fails = reverts | brakes

    start = pick(cools, zero + rule.cooldown, pick(warms, zero + rule.warmup, left))
    upwards = trend > 0
    moved = pick(upwards, larger(highest, scale), lowest)
    cut = smaller(scale, larger(scale * rule.factor**2, rule.min_scale))
    new_scale = pick(raises, highest, pick(lowers | reverts, lowest, scale))
    new_scale = pick(brakes, cut, pick(continues, moved, new_scale))
    new_reason = pick(raises, RAISE * one, pick(lowers, LOWER * one, HOLD * one))
    new_reason = pick(reverts, REVERT * one, pick(brakes, BRAKE * one, new_reason))
    recovered = smaller(braked, rule.max_scale)
    new_scale = pick(recovers, recovered, new_scale)
    new_reason = pick(recovers, RECOVER * one, new_reason)
    new_reason = pick(continues, pick(upwards, WARMUP * one, COOLDOWN * one), new_reason)

    later = undecided & (n < LAST_LOOK)
    fresh = (tested & ~later) | brakes | going_on
    ends = block | going_on | brakes
    keeps_hot = ~fails & ~recovers & ~better & ~worse & ~going_on
    new_hot = pick(above & keeps_hot, one, zero)
    kept_n = pick(block, n, evidence.blocks)
    kept_sums = (first, mean, sum_u, sum_tu, sum_uu, sum_dd, climbs)
    new_evidence = [
        pick(fresh, zero, pick(block, now, before))
        for now, before in zip((kept_n, *kept_sums), evidence, strict=True)
    ]
    excess = pick(evidence.blocks > 0, loss - last, zero)
    spiked = smaller(loss + larger(excess, 0), LARGEST)
    back_below = evidence.first + (alarm - evidence.first) / SPIKE
    is_first = (evidence.blocks > 0) & (wait == 0)
    counted = raises | lowers | fails
    new_memory = [
        pick(brakes, spiked, pick(looks, alarm_now, alarm)),
        pick(tested, z_now, z),
        pick(later, look + look // 2, pick((tested & ~later) | brakes, zero + FIRST_LOOK, look)),
        pick(counted | waits_down, zero, pick(waits_up, good + 1, good)),
        pick(counted | waits_up, zero, pick(waits_down, bad + 1, bad)),
        _trend(rule, pick, zero, trend, continues & (start - 1 <= 0) | brakes, raises, lowers),
        pick(brakes, zero, pick(continues, start - 1, left)),
        pick(
            raises & (rule.warmup == 0),
            -line.slope,
            pick(fails | raises | waits_up, zero, speed),
        ),
        pick(brakes, back_below, pick(raises, line.level, mark)),
        pick(raises, smaller(2 * n, LAST_LOOK), deadline),
        pick(
            recovers,
            recovered,
            pick(fails, smaller(ceiling, lowest), pick(later, memory.ceiling, ceiling)),
        ),
        pick(fails, backoff, pick(tested & ~later, wait_now, wait)),
        pick(fails, smaller(2 * backoff, LONGEST_MEMORY), backoff),
        pick(brakes & is_first, scale, pick(tested | brakes, zero, braked)),
    ]
    new = [
        new_scale,
        new_reason,
        pick(ends, zero, seen),
        pick(ends, zero, total),
        new_hot,
        *new_evidence,
        *new_memory,
    ]
    ignored = [scale, IGNORE * one, *columns[2:]]
    pairs = zip(new, ignored, strict=True)
    return xp.stack([pick(usable, now, before) for now, before in pairs], -1)


def _trend(
    rule: NoiseGreedy, pick: Any, zero: Any, trend: Any, over: Any, raises: Any, lowers: Any
) -> Any:
    """Which move may be continued: the last, unless its continuation is over or there is none."""
    after_raise = zero + (1.0 if rule.warmup else 0.0)
    after_cut = zero - (1.0 if rule.cooldown else 0.0)
    return pick(over, zero, pick(raises, after_raise, pick(lowers, after_cut, trend)))
