"""What a policy sees of a run: dimensionless numbers, in training and in use alike.

Every function serves one run on Python floats (`Numbers`) and many on NumPy arrays (``numpy``
itself), so that there is one definition. Nothing depends on the unit or the size of the loss
or of the weights, and only "level" on where the zero of the loss is.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

VERSION = 3
"""Rises with every change that alters a feature; a policy is for one version."""

NAMES = (
    "progress",
    "offset",
    "action",
    "evidence",
    "trend",
    "speed",
    "setback",
    "noise",
    "noise growth",
    "level",
    "alignment",
    "persistence",
    "certainty",
    "movement",
    "travel",
    "evenness",
)

MEASURED = {
    "alignment": ("alignment",),
    "persistence": ("persistence", "certainty"),
    "movement": ("movement",),
    "travel": ("travel",),
    "evenness": ("evenness",),
}
"""The features that need each field of a `Signal` but its loss."""

NOTHING = (0.0,) * len(NAMES)
"""The features before the first step."""

FAST, SLOW = 0.5, 0.15  # weights of the newest window in the moving averages
LEAST_ALIGNMENT = 0.01
LARGEST = 8.0  # that a feature can become, in either direction
OF_GAUSSIAN = (2 / math.pi) ** 0.5  # the evenness of numbers that are normally distributed
TINY = 1e-12  # of the first loss: what no difference is divided by less than

Number = Any
"""A float, or an array (runs,)."""


class Numbers:
    """What the functions here need of NumPy, for Python floats."""

    log = staticmethod(math.log)
    log1p = staticmethod(math.log1p)
    copysign = staticmethod(math.copysign)
    minimum = staticmethod(min)
    maximum = staticmethod(max)


class Window(NamedTuple):
    """The losses between two decisions, and what gradients and weights told meanwhile."""

    mean: Number
    noise: Number  # standard deviation of a loss: from differences of successive ones, not a trend
    size: Number
    alignment: Number = 1.0  # mean; 1 where it is not known
    persistence: Number = 0.0  # mean; 0 where it is not known
    certainty: Number = 0.0  # how many standard errors that is
    # Of the weights at its end, as a `Signal` has them; 0 where they are not known:
    movement: Number = 0.0
    travel: Number = 0.0
    evenness: Number = 0.0


class Seen(NamedTuple):
    """What the windows so far have shown: losses, but for what was measured besides."""

    first: Number = 0.0
    last: Number = 0.0
    fast: Number = 0.0  # moving averages
    slow: Number = 0.0
    best: Number = 0.0  # lowest fast average
    noise: Number = 0.0
    noise_slow: Number = 0.0
    before: Number = 0.0  # the window before the last
    alignment: Number = 1.0  # fast average
    # Of the last window:
    persistence: Number = 0.0
    certainty: Number = 0.0
    movement: Number = 0.0
    travel: Number = 0.0
    evenness: Number = 0.0


def begun(window: Window) -> Seen:
    """What the first window shows."""
    mean, noise, _, *measured = window
    return Seen(mean, mean, mean, mean, mean, noise, noise, mean, *measured)


def seen_with(seen: Seen, window: Window, xp: Any) -> Seen:
    """``seen``, and one window more."""
    mean, noise, _, alignment, *latest = window
    fast = seen.fast + FAST * (mean - seen.fast)
    return Seen(
        seen.first,
        mean,
        fast,
        seen.slow + SLOW * (mean - seen.slow),
        xp.minimum(seen.best, fast),
        seen.noise + FAST * (noise - seen.noise),
        seen.noise_slow + SLOW * (noise - seen.noise_slow),
        seen.last,
        seen.alignment + FAST * (alignment - seen.alignment),
        *latest,
    )


def features(
    seen: Seen, count: Number, progress: float, offset: Number, action: Number, xp: Any
) -> tuple[Number, ...]:
    """The numbers of `NAMES`, each within a few units of 0.

    count: losses in the last window. progress: share of the horizon that is over, [0, 1].
    offset: of the log rate from its base, over its largest. action: the last one, [-1, 1].

    *evidence*: by how many standard errors the last window lies below the one before; *trend*: by
    how many the fast average lies below the slow; *speed*: the same difference as a share of all
    that was gained; *setback*: how much of that is lost again; *noise*: deviation of a loss against
    what was gained; *noise growth*: its fast average against the slow; *level*: ln of the loss
    against the first; *alignment*: ln of the share of a gradient that is not noise, from 1 (or not
    known) down to 1 % and below; *movement*, *travel*: ln of how far the weights have come since
    the decision before and since the start, as shares of their size; *evenness*: ln of it against
    that of a Gaussian.
    """
    tiny = TINY * abs(seen.first) + 1e-300
    noise = xp.maximum(seen.noise, tiny)
    gained = xp.maximum(seen.first - seen.best, noise)
    error = noise * (2 / count) ** 0.5
    ahead = seen.slow - seen.fast
    return (
        progress,
        offset,
        action,
        squashed((seen.before - seen.last) / error, xp),
        squashed(ahead / error, xp),
        squashed(20 * ahead / gained, xp),
        xp.minimum((seen.fast - seen.best) / gained, 2.0),
        between(logarithm(noise / gained, xp) / 5, -2.0, 0.0, xp),
        between(logarithm(noise / xp.maximum(seen.noise_slow, tiny), xp), -2.0, 2.0, xp),
        between(xp.log((abs(seen.fast) + tiny) / (abs(seen.first) + tiny)) / 3, -2.0, 2.0, xp),
        xp.log(xp.maximum(seen.alignment, LEAST_ALIGNMENT)) / 2,
        between(seen.persistence, -2.0, 2.0, xp),
        squashed(seen.certainty, xp),
        known(seen.movement, between(logarithm(seen.movement, xp) / 3 + 1, -2.0, 2.0, xp)),
        known(seen.travel, between(logarithm(seen.travel, xp) / 2, -2.0, 2.0, xp)),
        known(
            seen.evenness, between(4 * logarithm(seen.evenness / OF_GAUSSIAN, xp), -2.0, 2.0, xp)
        ),
    )


def known(measured: Number, feature: Number) -> Number:
    """The feature of what was measured, or 0 where it was not."""
    return feature * (measured > 0)


def squashed(x: Number, xp: Any) -> Number:
    """The sign of ``x`` times ln(1 + |x|), at most `LARGEST` in size."""
    return xp.copysign(xp.minimum(xp.log1p(abs(x)), LARGEST), x)


def logarithm(x: Number, xp: Any) -> Number:
    """ln of ``x``, and of 1e-5, below every bound here, if ``x`` is less or 0."""
    return xp.log(xp.maximum(x, 1e-5))


def between(x: Number, low: float, high: float, xp: Any) -> Number:
    """``x``, or the bound that it exceeds."""
    return xp.minimum(xp.maximum(x, low), high)


def has_lost_ground(seen: Seen, retreated: Number, xp: Any) -> Number:
    """Whether half of what was gained is lost again, beyond what noise explains.

    retreated: whether the last decision was a retreat, after which the last window alone tells.
    """
    gained = xp.maximum(seen.first - seen.best, 0.0)
    level = seen.fast + retreated * (seen.last - seen.fast)
    return level - seen.best > xp.maximum(0.5 * gained, 2 * seen.noise_slow)


def standing_at(level: Number, seen: Seen) -> Seen:
    """``seen``, as if the run had never been anywhere better than ``level``, and stood there."""
    here = dict.fromkeys(("last", "fast", "slow", "best", "before"), level)
    return seen._replace(**here, noise=seen.noise_slow)


def has_lost_everything(seen: Seen, xp: Any) -> Number:
    """Whether the losses are back above where they began, beyond what noise explains."""
    gained = xp.maximum(seen.first - seen.best, 0.0)
    return seen.fast > seen.first + 0.5 * gained + 6 * seen.noise


def worst_counted(seen: Seen, xp: Any) -> Number:
    """What larger losses count as: one that explodes must not hide all that come after it.

    As far above the first loss as its size, what was gained, and twelve deviations of a loss.
    """
    size = abs(seen.first) + xp.maximum(seen.first - seen.best, 0.0)
    # A loss that counted as this much has raised the noise, which must not raise this in turn.
    return seen.first + size + 12 * xp.minimum(seen.noise, size)
