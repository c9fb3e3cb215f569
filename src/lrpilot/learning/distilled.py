"""What `lrpilot distil` answers: the rule, and what it leaves beside the policy."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from lrpilot.bench.held_out import ratios
from lrpilot.bench.statistics.stats import interval
from lrpilot.learning.fitting.candidates import code_of, settings_of
from lrpilot.learning.runs import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A schedule on the validation problems.

    gain: mean ln of (left by it / left by the policy's base schedule); below 0 it is better.
    lost: runs that diverged.
    """

    schedule: str
    gain: float
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled:
    """The settings of GreedyLR that come nearest to a policy.

    lines: of the base schedule, the policy, the rule and the shipped GreedyLR, in this order.
    loss: mean ln of (left by the rule / left by the policy) over the validation problems, with its
        95 % t interval over their stacks; above 0 the policy is better.
    generations, seconds: of the fit, which has not seen the validation problems.
    """

    policy: str
    kind: str
    schedule: str
    code: str
    settings: Mapping[str, float]
    lines: tuple[Line, ...]
    loss: float
    interval: tuple[float, float]
    problems: int
    stacks: int
    generations: int
    seconds: float
    seed: int

    @property
    def verdict(self) -> str:
        """What is lost, in one sentence."""
        low, high = map(math.exp, self.interval)
        return (
            f"the rule leaves {math.exp(self.loss):.3f} times (95 % interval {low:.3f} to "
            f"{high:.3f}) what the policy leaves, geometric mean over {self.problems} validation "
            f"problems in {self.stacks} stacks"
        )

    def as_json(self) -> dict[str, object]:
        """Strict JSON-able data."""
        return {"verdict": self.verdict, **asdict(self)}

    def as_text(self) -> list[str | Table]:
        """The table, the verdict, and what to paste."""
        table = Table("schedule", "left", "ln", "runs lost", box=SIMPLE_HEAD)
        roles = ("base", "policy", "rule", "shipped")
        for role, line in zip(roles, self.lines, strict=True):
            left = f"{math.exp(line.gain):.3f}"
            name = f"{role}: {line.schedule}" if role != "rule" else role
            table.add_row(name, left, f"{line.gain:+.3f}", str(line.lost))
        note = "left: on validation problems, in multiples of what the base schedule leaves."
        return [
            *(table, note, "", self.verdict),
            f"{self.generations} generations in {self.seconds:.0f} s, seed {self.seed}",
            *("", self.schedule, self.code),
        ]


def distilled(
    *,
    policy: str,
    kind: str,
    schedule: str,
    finals: Mapping[str, list[Floats]],
    worst: float,
    generations: int,
    seconds: float,
    seed: int,
) -> Distilled:
    """Judge ``schedule``.

    finals: ln of what is left (problems,) of each stack, by schedule: base, policy, rule, shipped.
    worst: ln of the factor by which one run counts at most.
    """
    base, ours, rule, _ = finals.values()
    means = [float(ratios(a, b, worst).mean()) for a, b in zip(rule, ours, strict=True)]
    around = interval(means)
    mean = statistics.fmean(means)
    return Distilled(
        policy=policy,
        kind=kind,
        schedule=schedule,
        code=code_of(schedule),
        settings=settings_of(schedule),
        lines=tuple(
            Line(
                schedule=name,
                gain=statistics.fmean(
                    float(ratios(a, b, worst).mean()) for a, b in zip(lots, base, strict=True)
                ),
                lost=sum(int((lot == math.inf).sum()) for lot in lots),
            )
            for name, lots in finals.items()
        ),
        loss=mean,
        interval=around or (mean, mean),
        problems=sum(len(lot) for lot in base),
        stacks=len(base),
        generations=generations,
        seconds=seconds,
        seed=seed,
    )
