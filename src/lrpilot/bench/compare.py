"""Carry a comparison out: run the trials that the store lacks, and read them all back."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from lrpilot.bench.answer import Cell, cells
from lrpilot.bench.local import Finished, run_trials
from lrpilot.bench.plan import Plan
from lrpilot.bench.progress import Display, tell_failure
from lrpilot.bench.store import Store


def compare(plan: Plan, store: Store, *, workers: int, fresh: bool, console: Console) -> list[Cell]:
    """Run the trials of ``plan`` that are not in ``store``, or all if ``fresh``.

    Each trial is stored as it ends, so the same call goes on where an interrupted one stopped.
    Progress goes to ``console``.
    """
    trials = plan.trials
    known: set[str] = set() if fresh else store.keys()
    missing = [trial for trial in trials if trial.key not in known]
    console.print(
        f"{len(trials)} trials: {len(trials) - len(missing)} already in {store.path}, "
        f"{len(missing)} to run on {workers} workers",
        highlight=False,
    )
    with Display(missing, console) as display, closing(run_trials(missing, workers)) as events:
        for event in events:
            if isinstance(event, Finished):
                store.add(event.trial, event.outcome)
            display.show(event)
    outcomes = list(store.outcomes(trials))
    ran = set(missing)
    for trial, outcome in outcomes:
        if trial not in ran:
            tell_failure(trial, outcome, console)
    return cells(outcomes)
