"""The scales of many runs' schedules, step by step, with as little Python per run as can be.

What is open loop is a table made beforehand; many runs under GreedyLR's default are its
branch-free twin; any other schedule is updated run by run, which takes some microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lrpilot.schedules import OpenLoop, Schedule, Signal
from lrpilot.schedules.greedy import Greedy, NoiseGreedy
from lrpilot.schedules.greedy.arrays import packed, update
from lrpilot.schedules.protocol import decisions_of
from lrpilot.torch.windows import Told

# The twin costs some 250 tensor operations a step, as many as so many runs on Python floats.
TWINS_PAY = 1000


class Scales:
    """The scales (runs,) that hold for the next step, in float64, as the rules yield them."""

    def __init__(self, schedules: Sequence[Schedule[Any]], total_steps: int) -> None:
        self.scales = torch.ones(len(schedules), dtype=torch.float64)
        self.decided = torch.zeros(len(schedules), dtype=torch.bool)  # runs, in the last step
        self.needs = {name for one in schedules for name in one.needs}
        self.steps = 0
        kinds = [_kind(schedule) for schedule in schedules]
        self.tabled = [row for row, kind in enumerate(kinds) if kind is OpenLoop]
        self.table = _table([schedules[row] for row in self.tabled], total_steps)
        self.twins: list[_Twins] = []
        for rule in dict.fromkeys(kind for kind in kinds if isinstance(kind, NoiseGreedy)):
            rows = [row for row, kind in enumerate(kinds) if kind == rule]
            if len(rows) >= TWINS_PAY:
                self.twins.append(_Twins(rule, rows))
        apart = {row for twins in self.twins for row in twins.rows}.union(self.tabled)
        self.others = {
            row: (schedule, schedule.init())
            for row, schedule in enumerate(schedules)
            if row not in apart
        }
        self._read()

    def current(self) -> Tensor:
        """The scales for the next step."""
        return self.scales

    def update(self, losses: Tensor, evaluations: Tensor | None, told: Told | None = None) -> None:
        """Take in the losses (runs,) of a step, and validation losses and what else is told."""
        self.steps += 1
        for twins in self.twins:
            twins.state = update(twins.rule, twins.state, losses[twins.rows], torch)
        if self.others:
            shown = losses.tolist()
            validation = None if evaluations is None else evaluations.tolist()
            each = [] if told is None else torch.stack(told, -1).tolist()
            for row, (schedule, state) in self.others.items():
                evaluation = math.nan if validation is None else validation[row]
                signal = Signal(shown[row], evaluation=evaluation)
                if told is not None:
                    signal = signal._replace(**Told(*each[row])._asdict())
                after = schedule.update(state, signal)
                self.others[row] = schedule, after
                if told is not None:
                    self.decided[row] = decisions_of(after) != decisions_of(state)
        self._read()

    def keep(self, rows: Tensor) -> None:
        """Forget all runs but these, whose places close up."""
        place = {row: at for at, row in enumerate(rows.tolist())}
        self.scales, self.decided = self.scales[rows], self.decided[rows]
        self.table = self.table[:, [at for at, row in enumerate(self.tabled) if row in place]]
        self.tabled = [place[row] for row in self.tabled if row in place]
        for twins in self.twins:
            kept = [at for at, row in enumerate(twins.rows) if row in place]
            twins.state = twins.state[kept]
            twins.rows = [place[row] for row in twins.rows if row in place]
        self.twins = [twins for twins in self.twins if twins.rows]
        self.others = {place[row]: pair for row, pair in self.others.items() if row in place}

    def _read(self) -> None:
        if self.tabled:
            self.scales[self.tabled] = self.table[min(self.steps, len(self.table) - 1)]
        for twins in self.twins:
            self.scales[twins.rows] = twins.state[:, 0]
        if self.others:
            found = [state.scale for _, state in self.others.values()]
            self.scales[list(self.others)] = torch.tensor(found, dtype=torch.float64)


class _Twins:
    """The runs under one rule, and their packed states (runs, numbers)."""

    def __init__(self, rule: NoiseGreedy, rows: list[int]) -> None:
        self.rule = rule
        self.rows = rows
        start = torch.tensor(packed(rule.init()), dtype=torch.float64)
        self.state: Tensor = start.repeat(len(rows), 1)


def _kind(schedule: Schedule[Any]) -> type[OpenLoop] | NoiseGreedy | None:
    rule = schedule.rule if isinstance(schedule, Greedy) else schedule
    if isinstance(rule, NoiseGreedy):
        return rule
    return OpenLoop if isinstance(rule, OpenLoop) else None


def _table(schedules: Sequence[Schedule[Any]], total_steps: int) -> Tensor:
    """Scales (steps + 1, schedules) of open-loop schedules; equal ones are computed once."""
    found: dict[Schedule[Any], list[float]] = {}
    for schedule in schedules:
        if schedule not in found:
            state = schedule.init()
            scales = [state.scale]
            for _ in range(total_steps):
                state = schedule.update(state, Signal())
                scales.append(state.scale)
            found[schedule] = scales
    columns = [found[schedule] for schedule in schedules]
    return torch.tensor(columns, dtype=torch.float64).reshape(len(columns), total_steps + 1).T
