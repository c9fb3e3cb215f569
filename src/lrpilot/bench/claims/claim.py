"""The claims themselves, from the one file that has them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from lrpilot.bench.claims.findings import Entrant

Metric = Literal[
    "share not worse",
    "budget-equivalent",
    "faster",
    "faster per compute",
    "usable decades",
    "expected best of 3",
    "penalty under perturbation",
    "loss under perturbation",
    "runs above their start",
    "loss on held-out problems",
    "none",
]
UNITS: Mapping[str, str] = {
    "share not worse": "of cells",
    "budget-equivalent": "x the budget",
    "faster": "chance to be there first",
    "faster per compute": "chance to be there first",
    "usable decades": "decades more",
    "expected best of 3": "x the budget",
    "penalty under perturbation": "x the penalty",
    "loss under perturbation": "x the loss",
    "runs above their start": "of runs",
    "loss on held-out problems": "x the loss",
    "none": "",
}
TRACKS = ("T0", "T1", "T2", "T3", "study")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim, and what would decide it.

    kind: "claim", or "control" for what must come out as stated if the bench is sound.
    quote, source: who says so, and where.
    track: T0 as shipped, T1 tuned, T2 the response to the rate, T3 expected best of a few trials.
    method: a schedule, or a name of `names`. comparators: what it is compared with, cell by cell.
    families: of optimizers in which it is tested; all that the suite has, if empty.
    study: whose rows decide it: "nmf"; "learned-nmf" or "learned-net", where families are groups of
        held-out sets; or those of the suite at hand if empty.
    threshold: of the metric; direction: "above" or "below", on which side the claim places it, or,
        for a control alone, "around": the interval has the threshold within it.
    margin: which share of the budget counts as equal within a cell, where budgets are compared.
    target: to be reached fastest: the loss that the tuned reference reaches with this share of
        the budget.
    refuted_by: what would refute it, in words.
    untested: why no row can decide it yet; empty if one can.
    """

    id: str
    kind: str
    statement: str
    quote: str
    source: str
    track: str
    metric: Metric
    method: str
    comparators: tuple[str, ...]
    families: tuple[str, ...]
    study: str
    threshold: float
    direction: str
    margin: float
    target: float
    refuted_by: str
    untested: str

    def __post_init__(self) -> None:
        for name, value, known in (
            ("kind", self.kind, ("claim", "control")),
            ("track", self.track, TRACKS),
            ("metric", self.metric, get_args(Metric)),
            ("direction", self.direction, ("above", "below", "around")),
            ("study", self.study, ("", "nmf", "learned-nmf", "learned-net")),
        ):
            if value not in known:
                raise ValueError(
                    f"{name} of claim {self.id} must be one of {', '.join(known)}, got {value!r}"
                )
        if self.direction == "around" and self.kind != "control":
            raise ValueError(
                f"direction of claim {self.id} is around, which lack of evidence would support; "
                f"say above or below, or make it a control"
            )
        if self.metric == "none" and not self.untested:
            raise ValueError(
                f"metric of claim {self.id} is none, which nothing can decide; give one, or say in "
                f"untested why there is none yet"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimsFile:
    """All claims, and the names that they use.

    names: of entrants that differ by family, each a mapping of family to "optimizer/schedule".
    """

    claims: tuple[Claim, ...]
    names: Mapping[str, Mapping[str, str]]

    def entrant(self, name: str, family: str) -> Entrant | None:
        """Who is called ``name`` in ``family``; None if the family has no such entrant."""
        if name not in self.names:
            return Entrant(family, name)
        found = self.names[name].get(family)
        if found is None:
            return None
        optimizer, schedule = found.split("/")
        return Entrant(optimizer, schedule)


@cache
def load_claims() -> ClaimsFile:
    """What claims.toml says.

    Raises ValueError, naming the claim and the field, if the file is not well-formed.
    """
    return read_claims((files("lrpilot.bench.claims") / "claims.toml").read_text(encoding="utf-8"))


def read_claims(text: str) -> ClaimsFile:
    """The claims in a text of TOML, with sets of comparators spelt out."""
    data = tomllib.loads(text)
    sets: dict[str, list[str]] = data.get("sets", {})
    defaults: dict[str, Any] = data.get("defaults", {})
    claims = tuple(_claim({**defaults, **entry}, sets) for entry in data["claim"])
    ids = [claim.id for claim in claims]
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        raise ValueError(f"each claim needs an id of its own; twice: {', '.join(twice)}")
    return ClaimsFile(claims=claims, names=data.get("names", {}))


def _claim(entry: dict[str, Any], sets: Mapping[str, Sequence[str]]) -> Claim:
    wanted = {field.name for field in fields(Claim)}
    name = entry.get("id", "without id")
    for problem, found in (("lacks", wanted - set(entry)), ("must not have", set(entry) - wanted)):
        if found:
            raise ValueError(f"claim {name} {problem} {', '.join(sorted(found))}")
    named: list[str] = entry["comparators"]
    comparators = [one for each in named for one in sets.get(each, [each])]
    entry["comparators"] = tuple(dict.fromkeys(comparators))
    entry["families"] = tuple(entry["families"])
    return Claim(**entry)
