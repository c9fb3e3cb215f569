"""All held-out sets of a kind: run what is not in the store, keep rows, write the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from lrpilot.bench.drawing import drawing_module
from lrpilot.bench.engines.pool import kill_pool, spawned_pool
from lrpilot.bench.held_out import HeldOutRow, load_rows, save_rows
from lrpilot.bench.sheet import Sheet
from lrpilot.learning.distributions import VERSIONS
from lrpilot.learning.evaluation.contest import contest
from lrpilot.learning.evaluation.sets import HeldOut, net_sets, nmf_sets
from lrpilot.learning.evaluation.tables import tables
from lrpilot.schedules.checks import check_known
from lrpilot.schedules.learned.policy import Policy

SETS: Mapping[str, Callable[[], list[HeldOut]]] = {"nmf": nmf_sets, "net": net_sets}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was found for one kind of policies, in the order of the sets."""

    kind: str
    rows: Sequence[HeldOutRow]

    def sheets(self) -> list[Sheet]:
        """The findings as tables."""
        return tables(self.rows)

    def as_json(self) -> str:
        """The tables, for programs."""
        return json.dumps([asdict(sheet) for sheet in self.sheets()], indent=2)


def evaluate(
    kind: str,
    policies: Mapping[str, Policy],
    store: Path,
    *,
    workers: int,
    console: Console,
    sets: Sequence[str] | None = None,
) -> Evaluation:
    """Judge ``policies`` on the held-out ``sets`` of ``kind`` (none named: all).

    store: a line of JSON for each set that is done; they are not run again with the same policies.

    Raises ValueError if the store is of other policies.
    """
    held_out = {one.name: one for one in SETS[kind]()}
    for name in sets or ():
        check_known("held-out set", name, held_out)
    chosen = list(held_out) if not sets else list(sets)
    kept = Kept(store, kind, policies)
    missing = [name for name in chosen if name not in kept.found]
    pool = spawned_pool(workers)
    try:
        with Progress(console=console) as progress:
            bar = progress.add_task("held-out sets", total=len(chosen))
            progress.advance(bar, len(chosen) - len(missing))
            futures = {pool.submit(rows_of, kind, name, dict(policies)): name for name in missing}
            for future in as_completed(futures):
                kept.add(futures[future], future.result())
                progress.advance(bar)
    finally:
        kill_pool(pool)
    return Evaluation(kind, [row for name in chosen for row in kept.found[name]])


def rows_of(kind: str, name: str, policies: Mapping[str, Policy]) -> list[HeldOutRow]:
    """The contest on the set called ``name``; for a process of its own."""
    (held_out,) = (one for one in SETS[kind]() if one.name == name)
    return contest(held_out, kind, policies)


class Kept:
    """What is done, a line per set; the first says of which policies. A torn line is dropped."""

    def __init__(self, path: Path, kind: str, policies: Mapping[str, Policy]) -> None:
        self.path = path
        head = json.dumps({"kind": kind, "version": VERSIONS[kind], "policies": prints(policies)})
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
        if lines and lines[0] != head:
            raise ValueError(
                f"{path} has what other policies did ({lines[0][:200]}); choose another --store"
            )
        self.found: dict[str, list[HeldOutRow]] = {}
        for line in lines[1:]:
            one = json.loads(line)
            self.found[one["set"]] = [
                HeldOutRow._make([*row, tuple(left)]) for *row, left in one["rows"]
            ]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(line + "\n" for line in lines or [head]), encoding="utf-8")

    def add(self, name: str, found: list[HeldOutRow]) -> None:
        """Write a set down."""
        self.found[name] = found
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"set": name, "rows": found}) + "\n")


def prints(policies: Mapping[str, Policy]) -> dict[str, str]:
    """The fingerprint of each policy."""
    return {name: policy.fingerprint for name, policy in policies.items()}


def save(path: Path, evaluation: Evaluation, about: Mapping[str, str]) -> None:
    """Write the rows; about: what made them."""
    save_rows(path, evaluation.rows, {**about, "kind": evaluation.kind})


def load(path: Path) -> tuple[dict[str, str], Evaluation]:
    """What `save` wrote."""
    about, rows = load_rows(path)
    return about, Evaluation(about["kind"], rows)


def write_page(path: Path, evaluation: Evaluation, about: Mapping[str, str]) -> None:
    """The page and its pictures; ModuleNotFoundError without matplotlib."""
    drawing_module("lrpilot.learning.evaluation.page").write_page(path, evaluation, about)
