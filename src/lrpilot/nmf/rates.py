"""From a schedule's scale to the rate of a step, never above its share of the bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from lrpilot.nmf.checks import check_count, check_number, check_positive

Units = Literal["columns", "entries", "all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a step is taken. Its rate is clipped at ``ceiling`` times the bound, whatever the rest.

    units: what a minibatch consists of: "columns" of V, each once per pass; "entries" of V, drawn
        with replacement; or "all" of V.
    batch: units in a minibatch.
    rate: "anchored": ``anchor`` / (curvature at the start) times the scale. This is the default,
        since a rate relative to the current bound alone feeds on noise (noise inflates a factor,
        which lowers the bound of the other). "bound": the scale times the ceiling. Or a number, an
        absolute rate that the scale multiplies.
    ceiling: the largest share of the bound that is ever taken, in (0, 1]; infinite to take whatever
        rate is asked for, which no theorem covers, for studies.
    simultaneous: whether W and H step from the same point, under the bound of theorem T4, instead
        of H first and then W. Entries always step in turn.
    h_steps: steps of H before each step of W, in turn.
    cap: the largest change of an entry in a step, in units of √V; None for no cap.
    noise: norm of the noise added to each gradient, relative to the gradient at the start; for
        studies.
    shared_noise: whether problems along the first dimension get the same noise; for paired studies.
    mends: whether what went wrong in a pass is mended after it. If not, runs of one batch do not
        know of each other, and show what the rate alone makes of them.
    """

    units: Units = "columns"
    batch: int = 128
    rate: Literal["anchored", "bound"] | float = "anchored"
    anchor: float = 10.0
    ceiling: float = 0.75
    simultaneous: bool = False
    h_steps: int = 4
    cap: float | None = None
    noise: float = 0.0
    shared_noise: bool = False
    mends: bool = True

    def __post_init__(self) -> None:
        if self.units not in ("columns", "entries", "all"):
            raise ValueError(f"units must be columns, entries or all, got {self.units!r}")
        if isinstance(self.rate, str) and self.rate not in ("anchored", "bound"):
            raise ValueError(f'rate must be "anchored", "bound" or a number, got {self.rate!r}')
        for name in ("batch", "h_steps"):
            check_count(name, getattr(self, name))
        check_positive("anchor", self.anchor)
        if not isinstance(self.rate, str):
            check_positive("rate", self.rate)
        if self.cap is not None:
            check_positive("cap", self.cap)
        check_number("ceiling", self.ceiling)
        check_number("noise", self.noise)
        if not (0 < self.ceiling <= 1 or self.ceiling == math.inf):
            raise ValueError(
                f"ceiling must lie in (0, 1], got {self.ceiling}; above 1 no theorem holds, and "
                f"math.inf clips nothing"
            )
        if self.rate == "bound" and self.ceiling == math.inf:
            raise ValueError('rate="bound" is a share of the ceiling; give one in (0, 1]')
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be finite and at least 0, got {self.noise}")
        if self.simultaneous and self.units == "entries":
            raise ValueError("entries step W and H in turn; leave simultaneous at False")


def noisy_anchor(rank: int, noise: float, total_steps: int) -> float:
    """The anchor for gradients with noise of a known size: min(10, rank / (noise √steps)).

    noise: as `Settings` has it. With noise of variance σ², a smooth loss f of curvature L and a
    horizon of T steps, the guarantee of stochastic gradient descent is best at the rate
    √(2 f / (L σ² T)), where 1/L is not less (Ghadimi and Lan, SIAM J. Optim. 23:4, 2013, corollary
    2.2). Here σ² is noise² times the first gradient's square, which is at most 2 L f, so that the
    rate is 1 / (noise √T L); and for L stands the mean eigenvalue of HHᵀ, about 1 / rank of the
    largest, at which the guarantee would be too careful: `benchmarks/nmf_noise.py`.
    """
    check_count("rank", rank)
    check_count("total_steps", total_steps)
    settings = Settings(noise=noise)
    noisy = noise * math.sqrt(total_steps)
    return min(settings.anchor, rank / noisy) if noisy else settings.anchor


class Rate(NamedTuple):
    """The rate of a step and the largest stable one: (...)."""

    lr: Tensor
    bound: Tensor


def clipped_rate(
    settings: Settings,
    scale: Tensor | float,
    *,
    anchor: Tensor,
    sharpness: Tensor,
    ceiling: Tensor,
) -> Rate:
    """What ``scale`` asks for, or the ceiling if that is less; 0 if it asks for less, or for NaN.

    anchor: curvature at the start (...). sharpness: curvature now (...), of which 2 / sharpness is
        the bound. Where it is 0 there is no gradient either, and the bound is taken as 0.
    ceiling: share of the bound (...).
    """
    bound = 2 * inverse(sharpness)
    if settings.rate == "bound":
        base = ceiling * bound
    else:
        base = settings.anchor * inverse(anchor) if settings.rate == "anchored" else settings.rate
    asked = torch.as_tensor(scale * base, dtype=bound.dtype, device=bound.device)
    asked = asked.nan_to_num(nan=0.0).clamp(min=0)
    if settings.ceiling == math.inf:
        return Rate(asked.expand_as(bound), bound)
    return Rate(torch.minimum(asked, ceiling * bound), bound)


def inverse(sharpness: Tensor) -> Tensor:
    """1 / sharpness; 0 where nothing curves, since nothing is to be gained there either."""
    return torch.where(sharpness > 0, sharpness.reciprocal(), 0.0)
