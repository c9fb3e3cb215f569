"""Carry a comparison out: run the trials that the store lacks, and read them all back."""

from __future__ import annotations

from contextlib import closing

from rich.console import Console

from lrpilot.bench.comparison.answer import Cell, cells
from lrpilot.bench.comparison.plan import Plan
from lrpilot.bench.engines.engine import Engine
from lrpilot.bench.engines.local import Finished
from lrpilot.bench.engines.progress import Display, tell_failure
from lrpilot.bench.store import Store
from lrpilot.bench.trial import trial_count


def compare(
    plan: Plan, store: Store, *, engine: Engine, fresh: bool, console: Console
) -> list[Cell]:
    """Run the trials of ``plan`` that are not in ``store``, or all if ``fresh``.

    Each trial is stored as it ends, so the same call goes on where an interrupted one stopped.
    Progress goes to ``console``.
    """
    trials = plan.trials
    missing = trials if fresh else store.missing(trials)
    console.print(
        f"{trial_count(len(trials))}: {len(trials) - len(missing)} already in {store.path}, "
        f"{len(missing)} to run on {engine.place}",
        highlight=False,
    )
    with Display(missing, console) as display, closing(engine.run(missing)) as events:
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
