"""What counts as a better loss."""

from __future__ import annotations

import math


def improves(loss: float, best: float, threshold: float) -> bool:
    """Whether ``loss`` is below ``best`` by more than a fraction ``threshold`` of its size.

    The margin is a decrease for losses of either sign, so a worse loss never improves; torch's and
    transformers' ``best * (1 - threshold)`` is an increase for negative ones. NaN never improves.

    >>> improves(0.9, best=1.0, threshold=0.05)
    True
    >>> improves(-0.99, best=-1.0, threshold=0.05)
    False
    """
    return loss < best - threshold * abs(best)


def windowed(window: tuple[float, ...], loss: float, size: int) -> tuple[float, ...]:
    """The last ``size`` losses once ``loss`` has been seen.

    >>> windowed((3.0, 2.0), 1.0, size=2)
    (2.0, 1.0)
    """
    return (*window[1 - size :], loss) if size > 1 else (loss,)


def mean(window: tuple[float, ...]) -> float:
    """Mean of a window of finite losses, correctly rounded and never outside its range.

    Recomputed at each step: a running sum would keep the rounding error of every spike it has
    seen.

    >>> mean((0.1, 0.1, 0.1))
    0.1
    """
    if len(window) == 1:
        return window[0]
    try:
        level = math.fsum(window) / len(window)
    except OverflowError:  # losses near the largest float
        level = 2 * math.fsum(loss / (2 * len(window)) for loss in window)
    # Rounding alone could call a constant loss an improvement.
    return min(max(level, min(window)), max(window))
