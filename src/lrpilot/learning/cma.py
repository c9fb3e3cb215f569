"""CMA-ES: policies by evolution, judged by where whole runs end."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from cmaes import CMA, SepCMA

from lrpilot.learning.episodes import Episodes
from lrpilot.learning.paired import Draw
from lrpilot.learning.runs import Floats, Runs, log_measure
from lrpilot.schedules.checks import check_known
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import Action, Policy

MANY = 40  # parameters from which on covariances between them are not learned
WORST = 3.0  # ln of the factor by which a run counts at most, against the median candidate
SPREAD = 0.02  # ln by which candidates differ at least when differences are made comparable


class Layers(NamedTuple):
    """The layers of one policy, or of many along a leading dimension."""

    weights: tuple[Floats, ...]  # (..., inputs, outputs)
    biases: tuple[Floats, ...]  # (..., outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to evolve.

    hidden: sizes of the hidden layers; none makes an action linear in the features, before tanh.
    population: candidates of a generation. stacks: of problems that each generation is judged on.
    sigma: deviation of the first generation's parameters, around 0.
    unseen: features by name that the policies do not read, for ablations.
    """

    base: str
    action: Action
    hidden: tuple[int, ...] = ()
    population: int = 14
    stacks: int = 4
    sigma: float = 0.3
    seed: int = 0
    unseen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.unseen:
            check_known("feature", name, NAMES)


class Generation(NamedTuple):
    """A generation that has been judged.

    scores: of the candidates, lower is better; that of the same problems at other candidates is not
        comparable. mean: parameters of the distribution after it. lost: runs that diverged.
    """

    number: int
    scores: tuple[float, ...]
    mean: Floats
    lost: int


def evolve(
    draw: Draw, plan: Plan, past: Sequence[Sequence[float]] = ()
) -> Generator[Generation, None, None]:
    """Generation after generation, without end.

    past: scores of the generations that have been judged before, which are not judged again; so
        that a list of scores is all that an interrupted evolution has to keep.

    Each generation is judged on fresh problems, all candidates on the same ones. On each stack of
    problems a run's ln of the measure is taken against the median candidate's on the same problem,
    and the means are divided by the candidates' spread, so that hard and easy stacks count alike.
    """
    count = parameters_of(plan.hidden)
    kind = SepCMA if count > MANY else CMA
    optimizer = kind(
        mean=np.zeros(count), sigma=plan.sigma, seed=plan.seed, population_size=plan.population
    )
    for number in itertools.count():
        candidates = np.stack([optimizer.ask() for _ in range(plan.population)])
        scores, lost = np.zeros(plan.population), 0
        if number < len(past):
            scores = np.asarray(past[number])
        else:
            for stack in range(plan.stacks):
                rng = np.random.default_rng([plan.seed, number, stack])
                finals = play(draw(rng, plan.population), candidates, plan)
                scores += judged(finals)
                lost += int(np.isinf(finals).sum())
        optimizer.tell([(x, float(score)) for x, score in zip(candidates, scores, strict=True)])
        yield Generation(number, tuple(scores.tolist()), optimizer.mean.copy(), lost)


def play(runs: Runs, parameters: Floats, plan: Plan) -> Floats:
    """ln of the measure at the end (copies, problems), each copy under a policy of its own.

    parameters: (copies, parameters). Diverged runs count infinite.
    """
    layers, copies = layers_of(parameters, plan), len(parameters)
    episodes = Episodes(runs, plan.base, plan.action)
    while not episodes.over:
        seen = episodes.observe().reshape(copies, -1, len(NAMES))
        episodes.act(act(layers, seen).reshape(-1))
    return np.where(episodes.lost, np.inf, log_measure(runs)).reshape(copies, -1)


def judged(finals: Floats) -> Floats:
    """How good candidates are (copies,), lower is better, from finals (copies, problems)."""
    centre = np.median(finals, axis=0)
    centred = finals - np.where(np.isfinite(centre), centre, 0.0)
    centred = np.clip(centred, -WORST, WORST)
    spread = max(float(np.median(centred.std(axis=0))), SPREAD)
    return centred.mean(axis=1) / spread


def act(layers: Layers, seen: Floats) -> Floats:
    """Actions (..., problems) for what is seen (..., problems, features)."""
    x = seen
    for weight, bias in zip(*layers, strict=True):
        x = np.tanh(x @ weight + bias[..., None, :])
    return x[..., 0]


def sizes_of(hidden: Sequence[int]) -> list[tuple[int, int]]:
    """Inputs and outputs of each layer."""
    return list(itertools.pairwise([len(NAMES), *hidden, 1]))


def parameters_of(hidden: Sequence[int]) -> int:
    """How many numbers such a policy has."""
    return sum((inputs + 1) * outputs for inputs, outputs in sizes_of(hidden))


def layers_of(parameters: Floats, plan: Plan) -> Layers:
    """The layers in a flat vector (..., parameters), without weights for what is not seen."""
    weights: list[Floats] = []
    biases: list[Floats] = []
    at = 0
    for inputs, outputs in sizes_of(plan.hidden):
        flat = parameters[..., at : at + inputs * outputs]
        weights.append(flat.reshape(*parameters.shape[:-1], inputs, outputs))
        at += inputs * outputs
        biases.append(parameters[..., at : at + outputs])
        at += outputs
    is_seen = np.array([name not in plan.unseen for name in NAMES], dtype=np.float64)
    weights[0] = weights[0] * is_seen[:, None]
    return Layers(tuple(weights), tuple(biases))


def as_policy(name: str, mean: Floats, plan: Plan, about: dict[str, str]) -> Policy:
    """The policy with the parameters ``mean``."""
    layers = layers_of(mean, plan)
    return Policy(
        name=name,
        weights=tuple(weight.astype(np.float32) for weight in layers.weights),
        biases=tuple(bias.astype(np.float32) for bias in layers.biases),
        base=plan.base,
        action=plan.action,
        about=about,
    )
