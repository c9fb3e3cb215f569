"""The NMF study: paired runs inside the bound and without it, and tables that follow from rows."""

import io
import math
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from lrpilot.bench.claims.findings import Cell, Entrant, Findings
from lrpilot.bench.nmf.command import answer_study
from lrpilot.bench.nmf.jobs import KeptNumbers, numbers_of
from lrpilot.bench.nmf.matrices import COLUMNS, SOURCES, matrix
from lrpilot.bench.nmf.page import write_page
from lrpilot.bench.nmf.pictures import CAPTIONS
from lrpilot.bench.nmf.study import (
    ARMS,
    RISEN,
    SUITE,
    Job,
    Run,
    curvature_at_start,
    floor_key,
    job_key,
    optimizer_name,
    row,
    run_study,
    runs_of_a_job,
    settings,
    share_left,
    shares_left,
    started,
)
from lrpilot.bench.nmf.tables import tables
from lrpilot.bench.results import load_rows, save_rows
from lrpilot.bench.store import Store
from lrpilot.bench.suite import TUNING_SEEDS, grid

ROOT = Path(__file__).parents[2]
SMALL = replace(SUITE, tasks=("known",), evaluation_seeds=(0, 1), response_points=3, total_steps=24)
KNOWN = replace(SUITE, tasks=("digits", "photo", "known"), evaluation_seeds=(0, 1, 2, 3))
JOB = Job("known", "minibatch", 0)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The store of a study that has ended, and its rows."""
    path = tmp_path_factory.mktemp("study") / "store.db"
    return path, study_at(path)[0]


@pytest.fixture
def rows(ended):
    return ended[1]


def study_at(path, suite=SMALL):
    """Its rows, and what it told."""
    console = Console(file=io.StringIO())
    with Store(path) as store:
        return run_study(store, 1, console, suite=suite), console.file.getvalue()


def test_every_arm_schedule_rate_and_seed_has_a_row_and_the_reference_its_horizons(rows):
    lrs = grid(SMALL.centre, 3)
    own = 3 * len(ARMS) * len(SMALL.schedules) * len(lrs)
    horizons = 3 * 3 * len(lrs)  # families, further horizons
    assert len(rows) == 4 * (own + horizons)
    assert len({one[:6] for one in rows}) == len(rows)
    assert {one.seed for one in rows} == {*TUNING_SEEDS, 0, 1}
    assert {one.total_steps for one in rows if one.optimizer == "minibatch"} == {6, 12, 24, 48}


def test_a_finished_study_runs_nothing_again(ended):
    path, rows = ended
    again, told = study_at(path)
    assert again == rows
    assert f"13 jobs: 13 already in {path}, 0 to run" in told.replace("\n", "")


KILLED = """
import sys
from dataclasses import replace
from pathlib import Path
from rich.console import Console
from lrpilot.bench.nmf.study import SUITE, run_study
from lrpilot.bench.store import Store

if __name__ == "__main__":
    small = replace(
        SUITE, tasks=("known",), evaluation_seeds=(0, 1), response_points=3, total_steps=24
    )
    with Store(Path(sys.argv[1])) as store:
        run_study(store, 1, Console(quiet=True), suite=small)
"""


def test_a_study_that_is_killed_goes_on_where_it_was_and_ends_with_the_same_rows(ended, tmp_path):
    script, path = tmp_path / "study.py", tmp_path / "store.db"
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, script, path])
    try:
        end = time.monotonic() + 120
        while not kept_jobs(path) >= 2:
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    before = kept_jobs(path)
    assert 2 <= before < 13
    rows, told = study_at(path)
    assert rows == ended[1]
    assert f"13 jobs: {before} already" in told
    assert kept_jobs(path) == 13


def kept_jobs(path):
    """How many jobs a store has, while another process writes to it or has yet to make it."""
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(path)) as database:
            return database.execute("SELECT count(*) FROM nmf_study").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_jobs_of_another_plan_or_of_other_versions_are_left_alone_and_not_used(ended, tmp_path):
    path = tmp_path / "store.db"
    shutil.copy(ended[0], path)
    key = job_key(JOB, SMALL)
    for change in ({"total_steps": 48}, {"centre": 1.0}, {"response_points": 5}):
        assert job_key(JOB, replace(SMALL, **change)) != key
    assert job_key(JOB, replace(SMALL, evaluation_seeds=(0, 1, 2))) == key
    shorter = replace(SMALL, evaluation_seeds=(), total_steps=12)
    _, told = study_at(path, shorter)
    assert "7 jobs: 1 already" in told  # what is attainable has no steps
    assert kept_jobs(path) == 13 + 6
    assert study_at(path)[0] == ended[1]
    with closing(sqlite3.connect(path)) as database, database:
        query = "UPDATE nmf_study SET key = replace(key, 'torch', 'older torch')"
        database.execute(query)
    with Store(path) as store:
        assert KeptNumbers(store).find([key]) == {}


def test_numbers_are_kept_to_the_bit_with_those_that_are_none(tmp_path):
    numbers = [0.1, 1e-300, math.inf, math.nan]
    with Store(tmp_path / "store.db") as store:
        KeptNumbers(store).add("a", numbers)
        KeptNumbers(store).add("b", [])
    with Store(tmp_path / "store.db") as store:
        found = KeptNumbers(store).find(["a", "b", "c"])
    assert list(map(repr, found.pop("a"))) == list(map(repr, numbers))
    assert found == {"b": []}


def test_a_worker_that_dies_ends_the_study_with_one_line_and_keeps_what_had_ended(tmp_path):
    with Store(tmp_path / "store.db") as store:
        wanted = {"fine": partial(list, (1.0,)), "dies": partial(os._exit, 1)}
        with pytest.raises(ChildProcessError, match="same command with fewer --workers"):
            numbers_of(wanted, store, 1, Console(quiet=True))
        assert KeptNumbers(store).find(wanted) == {"fine": [1.0]}


def test_losses_are_shares_beyond_the_attainable_and_a_risen_run_is_lost(rows):
    for one in rows:
        assert (one.status == "diverged") == (one.test_loss is None)
        assert one.test_loss is None or 0 < one.test_loss < RISEN
        assert one.test_loss == one.validation_loss
    lost = {
        arm: sum(
            one.status != "done"
            for one in rows
            if one.optimizer == optimizer_name(arm, "minibatch")
        )
        for arm in ARMS
    }
    assert lost["bound"] == lost["absolute"] == 0 < lost["unclipped"]


def test_a_run_is_the_same_whatever_runs_beside_it_and_the_same_again():
    runs = [Run("linear", lr, 20) for lr in (1.0, 10.0)]
    together = shares_left(JOB, "bound", [*runs, Run("greedy", 1.0, 12)])
    assert together == shares_left(JOB, "bound", [*runs, Run("greedy", 1.0, 12)])
    alone = [shares_left(JOB, "bound", [run])[0] for run in runs]
    assert together[:2] == pytest.approx(alone, rel=1e-4)


def test_a_shorter_run_ends_where_it_ends_alone():
    short, long = Run("linear", 1.0, 10), Run("linear", 1.0, 30)
    assert shares_left(JOB, "bound", [short, long])[0] == pytest.approx(
        shares_left(JOB, "bound", [short])[0], rel=1e-4
    )


def test_arms_differ_by_the_clip_and_by_what_the_rate_is_relative_to():
    bound, absolute, unclipped = (settings(JOB, arm) for arm in ARMS)
    assert bound.rate == "anchored"
    assert absolute.rate == unclipped.rate == 1 / curvature_at_start("known")
    assert (bound.ceiling, absolute.ceiling, unclipped.ceiling) == (0.75, 0.75, math.inf)
    first = Job("known", "minibatch", TUNING_SEEDS[0])  # whose start the absolute rates go by
    at_start = [started(first, arm, 1) for arm in ARMS]
    for solver in at_start:
        solver.step(0.1)
    rates = [solver.history().lr.item() for solver in at_start]
    assert rates == pytest.approx([rates[0]] * 3, rel=1e-3)


def test_seeds_are_paired_across_arms_and_noises():
    starts = [started(Job("known", noise, 0), arm, 1).W for noise in SUITE.families for arm in ARMS]
    assert all(torch.equal(starts[0], W) for W in starts)


@pytest.mark.parametrize("name", SOURCES)
def test_matrices_are_small_and_not_negative(name):
    V, rank = matrix(name)
    assert 0.9 * COLUMNS < V.shape[1] < 1.1 * COLUMNS
    assert V.min() >= 0
    assert rank < min(V.shape)


def test_the_share_left_is_exact_where_little_is_left():
    W, H = torch.rand(7, 3), torch.rand(3, 9)
    V = W @ H
    assert share_left(V, W, H) < 1e-12
    assert share_left(V, 0 * W, H) == 1


def test_rows_survive_a_file_and_other_rows_are_refused(rows, tmp_path):
    def answer(path):
        return answer_study(
            **{"store_path": Path("unused"), "save_path": None, "page_path": None},
            **{"workers": 1, "console": Console(quiet=True), "command": "x", "rows_path": path},
        )

    save_rows(tmp_path / "rows.csv.gz", rows, {"suite": "nmf"})
    found = answer(tmp_path / "rows.csv.gz")
    assert found.sheets() == tables(found.findings)
    assert "usable" in found.as_json().lower()
    save_rows(tmp_path / "others.csv.gz", rows, {"suite": "quick"})
    with pytest.raises(ValueError, match="no rows of the NMF study"):
        answer(tmp_path / "others.csv.gz")


def test_the_command_takes_its_numbers_from_the_store_it_is_given(tmp_path):
    path = tmp_path / "store.db"
    found = [0.5 if arm == "bound" else 2.0 for arm, _ in runs_of_a_job(SUITE)]
    places = product(SUITE.tasks, SUITE.families, (*TUNING_SEEDS, *SUITE.evaluation_seeds))
    with Store(path) as store:
        kept = KeptNumbers(store)
        for name in SUITE.tasks:
            kept.add(floor_key(name), [0.1])
        for place in places:
            kept.add(job_key(Job(*place), SUITE), found)
    told = io.StringIO()
    answer = answer_study(
        **{"store_path": path, "rows_path": None, "save_path": tmp_path / "rows.csv.gz"},
        **{"page_path": None, "workers": 1, "console": Console(file=told), "command": "x"},
    )
    assert "222 jobs: 222 already" in told.getvalue()
    about, rows = load_rows(tmp_path / "rows.csv.gz")
    assert about["suite"] == "nmf"
    assert len(rows) == 57_024
    assert {one.test_loss for one in rows} == {0.4, None}
    assert answer.sheets()[2].rows[0][2:5] == ["0 of 660", "660 of 660", "660 of 660"]


def known_rows(worth):
    """Rows in which a schedule is worth a share of the budget near a = 10 and nothing far away."""
    places = product(KNOWN.tasks, KNOWN.families, ARMS, KNOWN.schedules)
    lrs, seeds = grid(KNOWN.centre, KNOWN.response_points), (*TUNING_SEEDS, *KNOWN.evaluation_seeds)
    for task, family, arm, schedule in places:
        horizons = KNOWN.horizons if (schedule, arm) == ("linear", "bound") else (1.0,)
        for horizon, lr, seed in product(horizons, lrs, seeds):
            run = Run(schedule, lr, round(horizon * KNOWN.total_steps))
            yield known_row(Job(task, family, seed), arm, run, worth.get(schedule, 1.0) * horizon)


def known_row(job, arm, run, worth):
    of_seed = np.random.default_rng([job.seed, *job.task.encode()]).normal(scale=0.01)
    decades = abs(math.log10(run.lr / 10)) / (2.0 if arm == "bound" else 1.0)
    loss = worth**-0.5 * math.exp(of_seed + decades**4)
    return row(job, arm, run, 0.01 * loss, lost=arm == "unclipped" and run.lr > 10)


def test_tables_show_what_rows_were_made_to_show():
    findings = Findings(known_rows({"constant": 0.4, "greedy": 0.8}), KNOWN)
    decades, tuned, lost, admission = tables(findings)
    by_place = {tuple(line[:2]): line[2:5] for line in decades.rows}
    inside, absolute, free = (float(text.split()[0]) for text in by_place["minibatch", "linear"])
    assert inside > absolute + 0.9 > free + 1.3
    values = {tuple(line[:2]): float(line[2].split()[0]) for line in tuned.rows}
    assert values["noise-2", "greedy"] == pytest.approx(0.8, abs=0.01)
    assert values["noise-2", "linear"] == 1
    assert lost.rows[0][2:] == ["0 of 132", "0 of 132", "60 of 132", "3"]
    assert {line[2] for line in admission.rows} == {"-"}


def test_the_page_is_the_same_from_the_same_rows_and_replaces_its_like_only(tmp_path):
    findings = Findings(known_rows({"constant": 0.4}), KNOWN)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_page(tmp_path / name / "page.md", findings, {"command": "x"})
    for picture in CAPTIONS:
        one, other = ((tmp_path / name / "page" / picture).read_bytes() for name in ("a", "b"))
        assert one == other
    text = (tmp_path / "a" / "page.md").read_text()
    assert text == (tmp_path / "b" / "page.md").read_text()
    assert all(f"(page/{picture})" in text for picture in CAPTIONS)
    (tmp_path / "other.md").write_text("mine")
    with pytest.raises(ValueError, match="is not a page of this study"):
        write_page(tmp_path / "other.md", findings, {})


def test_the_committed_page_has_the_tables_of_the_committed_rows():
    """Its sizes of matrices depend on Python's own texts, so the whole page is not compared."""
    _, found = load_rows(ROOT / "benchmarks" / "results" / "nmf.csv.gz")
    text = (ROOT / "docs" / "nmf-rates.md").read_text(encoding="utf-8")
    for sheet in tables(Findings(found, SUITE)):
        assert sheet.markdown() in text, (
            "run `lrpilot claims --study nmf --rows benchmarks/results/nmf.csv.gz "
            "--page docs/nmf-rates.md`"
        )


def test_an_arm_is_the_family_itself_inside_the_bound():
    names = [optimizer_name(arm, "noise-2") for arm in ARMS]
    assert names == ["noise-2", "absolute-noise-2", "unclipped-noise-2"]
    assert Entrant("noise-2", "linear").label("noise-2") == "linear"
    assert Cell("known", "noise-2") in Findings([], SUITE).cells
