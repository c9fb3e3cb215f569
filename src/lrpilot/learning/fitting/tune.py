"""Fit GreedyLR's settings to a store: run candidates round by round, and judge what they showed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import islice

from lrpilot.bench.engines.engine import Engine, in_lots
from lrpilot.bench.store import Store
from lrpilot.bench.trial import Outcome, Trial
from lrpilot.learning.fitting.answer import Answer, answer, best_of
from lrpilot.learning.fitting.candidates import DEFAULT, candidates
from lrpilot.learning.fitting.cases import CONFIRMING_SEEDS, FITTING_SEEDS, Case, find_cases
from lrpilot.learning.fitting.scores import Score, by_task, score

ROUND = 8  # candidates that are run together, so that there is something to batch

Advance = Callable[[str, int, int], None]
"""Told what is run, how many of its trials are done, and how many there are."""


def tune_store(
    store: Store,
    engine: Engine,
    *,
    tasks: Sequence[str] = (),
    settings: int = 32,
    seconds: float | None = None,
    advance: Advance,
) -> Answer:
    """Fit settings of GreedyLR, with the share of its final cooldown, to the tasks of ``store``.

    Candidates run on the stored tasks, at the stored rates and optimizers, on seeds of their own.
    Every trial goes to the store and is not run again, so the same call goes on where an
    interrupted one stopped.

    tasks: of the store; empty takes all.
    settings: how many are tried, the two that are shipped included; at least 3.
    seconds: no further round of candidates begins after these, and one under way is cut short;
        what it is compared with and its confirmation come on top. None for no limit.

    Raises ValueError if the store has nothing to fit to, or nothing could be tried in time.
    """
    if settings < 3:
        raise ValueError(f"settings must be at least 3, got {settings}; two are the shipped ones")
    cases, left_out = find_cases(store, tasks)
    fit = _Fit(store, engine, cases, advance)
    fit.train("shipped schedules", fit.of_schedules(islice(candidates(), 2), reference=True))
    deadline = None if seconds is None else time.monotonic() + seconds
    rounds = list(islice(candidates(), 2, settings))
    for at in range(0, len(rounds), ROUND):
        if deadline is not None and time.monotonic() >= deadline:
            break
        lot = rounds[at : at + ROUND]
        name = f"settings {at + 3} to {at + 2 + len(lot)} of {settings}"
        fit.train(name, fit.of_schedules(lot), deadline)
    return fit.answer(list(islice(candidates(), settings)), left_out)


class _Fit:
    """Cases, and the trials that answer for them."""

    def __init__(
        self, store: Store, engine: Engine, cases: Sequence[Case], advance: Advance
    ) -> None:
        self.store = store
        self.engine = engine
        self.cases = cases
        self.advance = advance

    def of_schedules(self, schedules: Iterable[str], *, reference: bool = False) -> list[Trial]:
        """Trials of ``schedules`` on every case, and of the best stored ones if asked."""
        names = list(schedules)
        return [
            trial
            for case in self.cases
            for name in [*names, *([case.best] * reference)]
            for trial in case.trials(name, FITTING_SEEDS)
        ]

    def train(self, what: str, trials: Sequence[Trial], deadline: float | None = None) -> None:
        """Run those of ``trials`` that the store lacks, until the deadline."""
        trials = list(dict.fromkeys(trials))
        missing = self.store.missing(trials)
        done = len(trials) - len(missing)
        self.advance(what, done, len(trials))
        with closing(self.engine.run(missing)) as events, closing(in_lots(events)) as lots:
            for pairs in lots:
                self.store.add_many(pairs, keep_curves=False)
                done += len(pairs)
                self.advance(what, done, len(trials))
                if deadline is not None and time.monotonic() >= deadline:
                    return

    def answer(self, schedules: Sequence[str], left_out: Sequence[str]) -> Answer:
        """Choose among those of ``schedules`` that ran on every case, and confirm the choice."""
        tried = {name: found for name in schedules if (found := self.scores(name))}
        if len(tried) < 3:
            raise ValueError(
                "no settings but the shipped ones could be tried in time; what ran is stored, so "
                "the same command goes on, or give a larger --budget"
            )
        references = self.references()
        ratios = {name: self.ratios(found, references) for name, found in tried.items()}
        fitted = best_of({name: by_task(found) for name, found in ratios.items()})
        fresh = self.confirmed({name: tried[name] for name in (DEFAULT, fitted)}, references)
        best: dict[str, tuple[str, ...]] = {}
        for case in self.cases:
            best[case.task] = tuple(dict.fromkeys((*best.get(case.task, ()), case.best)))
        count = sum(len(case.trials(name, FITTING_SEEDS)) for name in tried for case in self.cases)
        return answer(
            {name: by_task(found) for name, found in ratios.items()},
            fitted=fitted,
            fresh=fresh,
            best=best,
            trials=count,
            left_out=left_out,
        )

    def scores(self, schedule: str) -> list[Score] | None:
        """Its score on each case; None if a trial is missing."""
        found = [self._score(case, schedule) for case in self.cases]
        ended = [one for one in found if one is not None]
        return ended if len(ended) == len(found) else None

    def references(self) -> list[Score]:
        """The scores of the best stored schedules."""
        found = [self._score(case, case.best) for case in self.cases]
        return [one for one in found if one is not None]

    def ratios(
        self, scores: Sequence[Score], references: Sequence[Score]
    ) -> dict[tuple[str, str], float]:
        """Mean ln of the loss over the reference's, by case."""
        return {
            (case.task, case.optimizer): statistics.fmean(mine.against(reference))
            for case, mine, reference in zip(self.cases, scores, references, strict=True)
        }

    def confirmed(
        self, schedules: Mapping[str, Sequence[Score]], references: Sequence[Score]
    ) -> dict[str, dict[str, list[float]]]:
        """ln of loss over the reference's, by schedule, task and fresh seed, at the best rates."""

        def trials(case: Case, name: str, chosen: Score) -> list[Trial]:
            return case.trials(name, CONFIRMING_SEEDS, (chosen.lr,))

        wanted = [
            trials(case, name, found[at])
            for name, found in schedules.items()
            for at, case in enumerate(self.cases)
        ]
        theirs = [
            trials(case, case.best, reference)
            for case, reference in zip(self.cases, references, strict=True)
        ]
        self.train("confirmation", [trial for lot in (*wanted, *theirs) for trial in lot])
        others = [self._ended(lot) for lot in theirs]
        fresh: dict[str, dict[str, list[float]]] = {}
        for name, found in schedules.items():
            of_task: dict[str, list[tuple[float, ...]]] = {}
            for at, case in enumerate(self.cases):
                mine = self._ended(trials(case, name, found[at]))
                of_task.setdefault(case.task, []).append(mine.against(others[at]))
            fresh[name] = {
                task: [statistics.fmean(of_seed) for of_seed in zip(*lots, strict=True)]
                for task, lots in of_task.items()
            }
        return fresh

    def _score(self, case: Case, schedule: str) -> Score | None:
        trials = case.trials(schedule, FITTING_SEEDS)
        outcomes = dict(self.store.outcomes(trials, curves=False))
        if len(outcomes) < len(trials):
            return None
        by_lr: dict[float, list[Outcome]] = {}
        for trial in trials:
            by_lr.setdefault(trial.lr, []).append(outcomes[trial])
        return score(by_lr)

    def _ended(self, trials: Sequence[Trial]) -> Score:
        return score({trials[0].lr: [out for _, out in self.store.outcomes(trials, curves=False)]})
