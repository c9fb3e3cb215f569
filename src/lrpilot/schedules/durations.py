"""How long something lasts: optimizer steps, a share of the horizon, or an amount with a unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, NamedTuple

from lrpilot.schedules.checks import check_count, check_number
from lrpilot.schedules.protocol import Signal

Unit = Literal["steps", "epochs", "tokens", "samples", "seconds"]

TOLERANCE = 1e-9
"""Share of an amount by which it may be missed, so that rounding never costs a step."""


@dataclass(frozen=True, slots=True, repr=False)
class Amount:
    """So many of a unit; how much of it a step consumes, its `Signal` tells."""

    count: float
    unit: Unit

    def __post_init__(self) -> None:
        check_number(self.unit, self.count)
        if not 0 <= self.count < math.inf:
            raise ValueError(f"{self.unit} must be at least 0 and finite, got {self.count}")
        object.__setattr__(self, "count", float(self.count))  # whatever kind of number it was

    def __repr__(self) -> str:
        return f"{self.unit}({repr(self.count).removesuffix('.0')})"


Duration = float | Amount
"""A whole number of optimizer steps, a share of the horizon (a float below 1), or an amount."""


def steps(count: float) -> Amount:
    """So many optimizer steps; a bare whole number says the same.

    A fraction is what a share may come to; the next phase begins with the step after it.
    """
    return Amount(count, "steps")


def epochs(count: float) -> Amount:
    """So many passes over the data, as the ``epochs`` of the signals add up."""
    return Amount(count, "epochs")


def tokens(count: float) -> Amount:
    """So many tokens, as the ``tokens`` of the signals add up."""
    return Amount(count, "tokens")


def samples(count: float) -> Amount:
    """So many samples, as the ``samples`` of the signals add up."""
    return Amount(count, "samples")


def seconds(count: float) -> Amount:
    """So many seconds of training, as the ``seconds`` of the signals add up."""
    return Amount(count, "seconds")


def amount_or_share(lasts: Duration) -> Duration:
    """An amount with its unit, or a share of the horizon, from what a user may write.

    >>> amount_or_share(500), amount_or_share(0.2), amount_or_share(tokens(1e9))
    (steps(500), 0.2, tokens(1000000000))
    """
    if isinstance(lasts, Amount):
        return lasts
    if isinstance(lasts, bool) or not isinstance(lasts, Real):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"a phase lasts a whole number of steps, a share of the horizon such as 0.2, or an "
            f"amount such as tokens(1e9); got {lasts!r}"
        )
    if isinstance(lasts, Integral):
        return steps(int(lasts))
    if not 0 <= lasts < 1:
        raise ValueError(
            f"a float is a share of the horizon and lies from 0 to below 1, got {lasts!r}; write "
            f"steps as a whole number, or an amount such as tokens(1e9)"
        )
    return float(lasts)


def horizon(total: int | Amount) -> Amount:
    """The length of a whole training, from what a user may write."""
    if not isinstance(total, Amount):
        check_count("total", total, least=1, cure="count the steps, or write tokens(1e9)")
        return steps(total)
    if total.count <= 0:
        raise ValueError(f"total must be positive, got {total}")
    return total


class Length(NamedTuple):
    """How long a phase lasts, worked out."""

    amount: float  # of the phase; of the whole horizon until its end, if the phase is open-ended
    unit: Unit
    is_open: bool

    @property
    def end(self) -> float:
        """What of ``amount`` must have been consumed for the phase to be over."""
        return self.amount * (1 - TOLERANCE)


def lengths(lasts: Sequence[Duration | None], total: Amount | None) -> tuple[Length, ...]:
    """How long phases that follow each other last; None is open-ended: what the horizon leaves.

    Without a horizon an open-ended phase lasts until somebody ends it. Raises ValueError if the
    phases are longer than the horizon, or need one.

    >>> lengths([500, None, 0.2], steps(10_000))[1]
    Length(amount=8000.0, unit='steps', is_open=True)
    """
    amounts = [None if one is None else fixed(one, total) for one in lasts]
    if total is None:
        return tuple(
            Length(math.inf, "steps", True) if one is None else Length(one.count, one.unit, False)
            for one in amounts
        )
    _check_fit(amounts, total)
    close = total.count
    if None in amounts:
        close -= _sum(amounts[amounts.index(None) + 1 :], total.unit)
    return tuple(
        Length(close, total.unit, True) if one is None else Length(one.count, one.unit, False)
        for one in amounts
    )


def fixed(lasts: Duration, total: Amount | None) -> Amount:
    """The amount that ``lasts`` is, a share being one of the horizon ``total``."""
    lasts = amount_or_share(lasts)
    if isinstance(lasts, Amount):
        return lasts
    if total is None:
        raise ValueError(
            f"a phase lasts the share {lasts:g} of a horizon that nobody has set; set it by "
            f".over(total_steps) or .over(tokens(1e9)), or give the phase a number of steps"
        )
    return Amount(lasts * total.count, total.unit)


def field_of(unit: Unit) -> int | None:
    """Where in a `Signal` its consumption of ``unit`` stands; None for steps, always one."""
    return None if unit == "steps" else Signal._fields.index(unit)


def consumed(signal: Signal, field: int | None) -> float:
    """How much the step of ``signal`` consumed of the unit at ``field``."""
    if field is None:
        return 1.0
    amount = signal[field]
    if not 0 <= amount < math.inf:
        raise ValueError(
            f"a step cannot consume {amount} {Signal._fields[field]}; pass what this step alone "
            f"consumed"
        )
    return amount


def check_filled(lengths: Sequence[Length], total: Amount) -> None:
    """The phases last until the horizon, as far as their units can tell."""
    if any(one.is_open or one.unit != total.unit for one in lengths):
        return
    together = math.fsum(one.amount for one in lengths)
    if together < total.count * (1 - TOLERANCE):
        raise ValueError(
            f"the phases last {together:g} {total.unit} and the horizon {total.count:g}; leave out "
            f"the length of the phase that shall fill it"
        )


def _check_fit(amounts: Sequence[Amount | None], total: Amount) -> None:
    together = _sum(amounts, total.unit)
    if together > total.count * (1 + TOLERANCE):
        raise ValueError(
            f"the phases last {together:g} {total.unit} and the horizon {total.count:g}; shorten a "
            f"phase or lengthen the horizon"
        )
    if None in amounts:
        for one in amounts[amounts.index(None) + 1 :]:
            if one is not None and one.count > 0 and one.unit != total.unit:
                raise ValueError(
                    f"when to begin the last {one.count:g} {one.unit} of a horizon in "
                    f"{total.unit} cannot be known; give phases after the open-ended one in "
                    f"{total.unit}, or as a share"
                )


def _sum(amounts: Sequence[Amount | None], unit: Unit) -> float:
    return math.fsum(one.count for one in amounts if one is not None and one.unit == unit)
