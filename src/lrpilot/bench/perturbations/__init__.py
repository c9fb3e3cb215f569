"""What may disturb a run, by name: gradients, minibatches, weights, rates, the signal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lrpilot.bench.perturbations.gradient_noise import (
    ADVERSARIAL,
    ADVERSARIAL_SHARE,
    BURST_STRETCH,
    FLAT_STRETCH,
    SPIKE,
    SPIKE_SHARE,
    Direction,
    Sizes,
    at_random,
    burst,
    drift,
    gradient_noise,
    oscillation,
    periodic,
    plateau,
    steady,
)
from lrpilot.bench.perturbations.minibatches import (
    bad_batches,
    distribution_shift,
    label_noise,
    last_bad_batch,
)
from lrpilot.bench.perturbations.shocks import (
    kick_step,
    last_shock,
    placebo,
    rate_shock,
    signal_noise,
    weight_kick,
)
from lrpilot.bench.perturbations.stages import Chance, Moment, Perturbation

__all__ = ["PERTURBATIONS", "Chance", "Kind", "Moment", "Perturbation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A perturbation as a study names it.

    summary: what it does, with its strength.
    make: the perturbation for runs of these seeds over so many steps.
    ends: the last step that it disturbs, where it ends for good before the run does.
    signal_only: whether it is invisible to schedules that do not read the loss.
    """

    summary: str
    make: Callable[[Sequence[int], int], Perturbation]
    ends: Callable[[int], int] | None = None
    signal_only: bool = False


def _noise(
    name: str, sizes: Sizes, direction: Direction = "fresh"
) -> Callable[[Sequence[int], int], Perturbation]:
    return lambda seeds, total_steps: gradient_noise(name, seeds, total_steps, sizes, direction)


PERTURBATIONS: Mapping[str, Kind] = {
    "": Kind(summary="nothing", make=lambda seeds, total_steps: Perturbation()),
    **{
        f"gradient-noise-{size:g}": Kind(
            summary=f"isotropic noise in the gradient, {size:g} times its norm",
            make=_noise(f"gradient-noise-{size:g}", steady(size)),
        )
        for size in (0.5, 1.0, 3.0)
    },
    "periodic-spikes": Kind(
        summary="at every twentieth of the budget, noise of 10 times the gradient's norm",
        make=_noise("periodic-spikes", periodic),
    ),
    "random-spikes": Kind(
        summary="at 5 % of the steps, noise of 10 times the gradient's norm",
        make=_noise("random-spikes", at_random(SPIKE, SPIKE_SHARE)),
    ),
    "burst": Kind(
        summary="noise of 5 times the gradient's norm, from 50 % to 60 % of the budget",
        make=_noise("burst", burst),
        ends=lambda total_steps: round(BURST_STRETCH[1] * total_steps),
    ),
    "drift": Kind(
        summary="a bias in one direction that grows from 0 to half the gradient's norm",
        make=_noise("drift", drift, "fixed"),
    ),
    "oscillation": Kind(
        summary="a bias to and fro, ten times, up to 2 times the gradient's norm",
        make=_noise("oscillation", oscillation, "fixed"),
    ),
    "plateau": Kind(
        summary="slopes of 1 % and a loss to match, from 30 % to 50 % of the budget",
        make=lambda seeds, total_steps: plateau(total_steps),
        ends=lambda total_steps: round(FLAT_STRETCH[1] * total_steps),
    ),
    "adversarial": Kind(
        summary="at 25 % of the steps, the gradient turned round",
        make=_noise("adversarial", at_random(ADVERSARIAL, ADVERSARIAL_SHARE), "against"),
    ),
    "label-noise": Kind(
        summary="20 % of the targets wrong",
        make=lambda seeds, total_steps: label_noise("label-noise", seeds),
    ),
    "bad-batches": Kind(
        summary="all targets wrong for 3 steps, after each fifth of the budget but the last",
        make=lambda seeds, total_steps: bad_batches("bad-batches", seeds, total_steps),
        ends=last_bad_batch,
    ),
    "distribution-shift": Kind(
        summary="each feature scaled by a factor exp N(0, 1), from 50 % of the budget on",
        make=lambda seeds, total_steps: distribution_shift(
            "distribution-shift", seeds, total_steps
        ),
    ),
    "weight-kick": Kind(
        summary="weights moved by 5 % of their norm, at 60 % of the budget",
        make=lambda seeds, total_steps: weight_kick("weight-kick", seeds, total_steps),
        ends=kick_step,
    ),
    "rate-shock": Kind(
        summary="ten times the rate for 20 steps, at 60 % of the budget",
        make=lambda seeds, total_steps: rate_shock(total_steps),
        ends=last_shock,
    ),
    "signal-noise": Kind(
        summary="noise of half the loss's size in what the schedule sees, nowhere else",
        make=lambda seeds, total_steps: signal_noise("signal-noise", seeds),
        signal_only=True,
    ),
    "placebo-gaussian": Kind(
        summary="a normal number added to the loss that is differentiated",
        make=lambda seeds, total_steps: placebo("placebo-gaussian", seeds),
    ),
}
