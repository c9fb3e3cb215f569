"""A schedule refined from one past run: what its gradient norms say of when to lower the rate."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrpilot.bench.replay.recorded import as_number, read_rows
from lrpilot.learning.past.run import KNOWN
from lrpilot.schedules import OpenLoop
from lrpilot.schedules.checks import check_known

Kind = Literal["sgd", "adam"]
# w = norm to this power: the squared 2-norm for SGD, the 1-norm for Adam.
POWERS = {"sgd": -2.0, "adam": -1.0}
FILTER = 0.05  # share of the norms within the median filter


@dataclass(frozen=True, slots=True)
class Refined:
    """A shape given by its values at equal distances of progress, linear between them; 0 at 1.

    scales: the first at progress 0, in [0, 1].
    """

    scales: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.scales or not all(0 <= scale <= 1 for scale in self.scales):
            raise ValueError("scales must be one or more numbers between 0 and 1")

    def __call__(self, progress: float) -> float:
        """Scale at ``progress``."""
        position = progress * len(self.scales)
        at = min(int(position), len(self.scales) - 1)
        here = self.scales[at]
        after = self.scales[at + 1] if at + 1 < len(self.scales) else 0.0
        return here + (after - here) * (position - at)


def refined(norms: Iterable[float], *, kind: Kind = "sgd", window: int | None = None) -> Refined:
    """The schedule that a run's gradient norms suggest for the next run (arXiv 2310.07831).

    With median-filtered norms, ``w_t = 1 / norm_t**2`` for SGD or ``1 / norm_t`` for Adam, and
    ``lr_t`` is proportional to ``w_t`` times the sum of the ``w_p`` from ``p = t`` on. The paper's
    sum begins at ``t + 1``, which makes the last rate 0; here progress 1, past the last step, is
    where the rate is 0, so equal norms give `Linear` exactly. The largest scale is 1.

    norms: one per optimizer step or per equal stretch of steps; the 2-norm for "sgd", the 1-norm
        for "adam". Their unit does not matter.
    window: norms within the filter, odd; None for a twentieth of them. 1 does not filter.

    Raises ValueError for fewer than two norms, and for one that is not positive and finite.

    >>> refined([3.0, 3.0, 3.0, 3.0]).scales
    (1.0, 0.75, 0.5, 0.25)
    """
    check_known("kind", kind, POWERS)
    found = list(norms)
    if len(found) < 2:
        raise ValueError(f"norms must be two or more, got {len(found)}; log the gradient norm")
    for at, norm in enumerate(found):
        if not 0 < norm < math.inf:
            raise ValueError(f"norm {at} is {norm}; leave out steps without a gradient")
    window = 2 * int(FILTER * len(found) / 2) + 1 if window is None else window
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and at least 1, got {window}")
    smooth = medians(found, window)
    least = min(smooth)  # of the ratios, none overflows
    weights = [(norm / least) ** POWERS[kind] for norm in smooth]
    rates: list[float] = []
    left = 0.0
    for weight in reversed(weights):
        left += weight
        rates.append(weight * left)
    largest = max(rates)
    return Refined(tuple(rate / largest for rate in reversed(rates)))


def refined_from(
    path: Path, total_steps: int, *, column: str | None = None, kind: Kind = "sgd"
) -> OpenLoop:
    """`refined` over ``total_steps``, from the column of a CSV or JSON Lines log.

    column: None takes the first usual name of a gradient norm, such as ``grad_norm``.

    Raises ValueError, with the line, for what is no such log.
    """
    rows = read_rows(path)
    columns = dict.fromkeys(name for _, values in rows for name in values)
    if column is None:
        usual = KNOWN["gradient_norms"]
        column = next((name for name in columns if name.split("/")[-1] in usual), None)
        if column is None:
            raise ValueError(
                f"{path} has no column {' or '.join(usual)}; name one (it has: "
                f"{', '.join(columns)})"
            )
    check_known("column", column, columns)
    norms = [
        as_number(path, where, values[column], column)
        for where, values in rows
        if values.get(column) not in (None, "")
    ]
    return OpenLoop(refined(norms, kind=kind), total_steps)


def medians(values: Sequence[float], window: int) -> list[float]:
    """The running median, of as much of the window as there is at either end.

    >>> medians([1.0, 9.0, 2.0, 3.0], 3)
    [5.0, 2.0, 3.0, 2.5]
    """
    half = window // 2
    return [
        statistics.median(values[max(at - half, 0) : at + half + 1]) for at in range(len(values))
    ]
