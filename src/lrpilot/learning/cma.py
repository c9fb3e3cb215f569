"""CMA-ES: policies by evolution, judged by where whole runs end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from cmaes import CMA, SepCMA

from lrpilot.learning.episodes import Episodes
from lrpilot.learning.runs import Floats, Runs
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import Action

MANY = 40  # parameters from which on covariances between them are not learned
WORST = 3.0  # ln of the worst that a run counts for, in either direction
SPREAD = 0.02  # what candidates differ by at least, when their differences are made comparable


class Layers(NamedTuple):
    """The layers of one policy, or of many along a leading dimension."""

    weights: tuple[Floats, ...]  # (..., inputs, outputs)
    biases: tuple[Floats, ...]  # (..., outputs)


def sizes_of(hidden: Sequence[int]) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer."""
    sizes = [len(NAMES), *hidden, 1]
    return list(itertools.pairwise(sizes))


def parameters_of(hidden: Sequence[int]) -> int:
    """How many numbers such a policy has."""
    return sum((inputs + 1) * outputs for inputs, outputs in sizes_of(hidden))


def layers_of(parameters: Floats, hidden: Sequence[int]) -> Layers:
    """The layers in a flat vector (..., parameters)."""
    weights: list[Floats] = []
    biases: list[Floats] = []
    at = 0
    for inputs, outputs in sizes_of(hidden):
        flat = parameters[..., at : at + inputs * outputs]
        weights.append(flat.reshape(*parameters.shape[:-1], inputs, outputs))
        at += inputs * outputs
        biases.append(parameters[..., at : at + outputs])
        at += outputs
    return Layers(tuple(weights), tuple(biases))


def act(layers: Layers, seen: Floats) -> Floats:
    """Actions (..., problems) for what is seen (..., problems, features)."""
    x = seen
    for weight, bias in zip(*layers, strict=True):
        x = np.tanh(x @ weight + bias[..., None, :])
    return x[..., 0]


def play(runs: Runs, layers: Layers, copies: int, base: str, action: Action) -> Floats:
    """ln of what is left at the end (copies, problems), each copy under a policy of its own.

    Diverged runs count infinite.
    """
    episodes = Episodes(runs, base, action)
    while not episodes.over:
        seen = episodes.observe()
        seen = seen.reshape(copies, -1, seen.shape[-1])
        episodes.act(act(layers, seen).reshape(-1))
    left = np.where(episodes.lost, np.inf, runs.measure())
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(left), np.log(np.maximum(left, 1e-30)), np.inf).reshape(
            copies, -1
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """What one generation showed.

    gain: mean ln of what the mean policy left over what the base left; negative is better.
    """

    number: int
    gain: float
    lost: int


def judged(finals: Floats) -> Floats:
    """How good candidates are (copies,), lower is better, from finals (copies, problems)."""
    centred = finals - np.median(finals, axis=0)
    centred = np.clip(np.nan_to_num(centred, nan=WORST, posinf=WORST), -WORST, WORST)
    spread = max(float(np.median(centred.std(axis=0))), SPREAD)
    return centred.mean(axis=1) / spread


MakeRuns = Callable[[np.random.Generator, int], Runs]


def evolve(
    make: MakeRuns,
    *,
    hidden: Sequence[int],
    base: str,
    action: Action,
    generations: int,
    population: int,
    stacks: int,
    seed: int,
    start: Floats | None = None,
    sigma: float = 0.3,
    report: Callable[[Generation, Floats], bool | None],
) -> Floats:
    """The mean of the last distribution."""
    count = parameters_of(hidden)
    mean = np.zeros(count) if start is None else start
    kind = SepCMA if count > MANY else CMA
    optimizer = kind(mean=mean, sigma=sigma, seed=seed, population_size=population)
    for generation in range(generations):
        candidates = np.stack([optimizer.ask() for _ in range(population)])
        # Besides the candidates: the mean of the distribution, and the base.
        tried = np.concatenate([candidates, optimizer.mean[None], np.zeros((1, count))])
        scores, gains, lost = np.zeros(population), [], 0
        for stack in range(stacks):
            rng = np.random.default_rng([seed, generation, stack])
            runs = make(rng, len(tried))
            finals = play(runs, layers_of(tried, hidden), len(tried), base, action)
            scores += judged(finals[:-2])
            ended = np.nan_to_num(finals[-2:], posinf=WORST)
            gains.append(np.clip(ended[0] - ended[1], -WORST, WORST).mean())
            lost += int(np.isinf(finals[:-1]).sum())
        optimizer.tell([(c, float(s)) for c, s in zip(candidates, scores, strict=True)])
        shown = Generation(generation, float(np.mean(gains)), lost)
        if report(shown, optimizer.mean.copy()):
            break
    return optimizer.mean.copy()
