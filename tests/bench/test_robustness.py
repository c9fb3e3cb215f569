"""The robustness study: tuned and paired runs, rows that say all, and verdicts that follow."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from lrpilot.bench.perturbations import PERTURBATIONS
from lrpilot.bench.robustness import (
    DESIGN,
    Design,
    RobustnessRow,
    load_rows,
    run_study,
    save_rows,
    summarise,
)
from lrpilot.bench.robustness.command import answer_study
from lrpilot.bench.robustness.page import page, write_page
from lrpilot.bench.robustness.pairs import by_place
from lrpilot.bench.robustness.rows import excess
from lrpilot.bench.robustness.summary import bite, recovered_after
from lrpilot.bench.robustness.tables import tables
from lrpilot.bench.robustness.verdicts import decide
from lrpilot.bench.store import Store
from lrpilot.bench.trial import Outcome

SMALL = Design(
    tasks=("rosenbrock",),
    perturbations=("", "burst", "signal-noise", "placebo-gaussian"),
    schedules=("constant", "cosine", "linear", "greedy", "transformers-greedy"),
    total_steps=40,
    tuning_points=3,
)
SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "store.db"
    with Store(path) as store:
        return path, run(store)


def run(store, **settings):
    console = Console(file=io.StringIO())
    return run_study(store, 1, console, seeds=SEEDS, design=replace(SMALL, **settings))


def row(schedule="linear", perturbation="", seed=0, loss=1.0, **settings):
    fields = {
        "task": "t",
        "perturbation": perturbation,
        "schedule": schedule,
        "lr": 0.1,
        "seed": seed,
        "total_steps": 100,
        "track": "both",
        "status": "done",
        "start_loss": 10.0,
        "test_loss": loss,
        "trajectory": f"{loss}",
        "excess": (),
    }
    return RobustnessRow(**{**fields, **settings})


def bitten(clean, disturbed, name="label-noise", schedule="linear", **settings):
    rows = [
        *(row(schedule, "", seed, loss) for seed, loss in enumerate(clean)),
        *(row(schedule, name, seed, loss, **settings) for seed, loss in enumerate(disturbed)),
    ]
    return bite(by_place(rows, ("both",)), "t", name)


def test_the_study_has_as_many_evaluation_runs_as_the_published_one():
    cells = len(DESIGN.tasks) * len(DESIGN.perturbations) * len(DESIGN.schedules)
    assert cells * 10 == 8100
    assert DESIGN.perturbations == tuple(PERTURBATIONS)
    assert "constant" in DESIGN.schedules


def test_every_cell_is_run_on_every_seed_and_serves_both_tracks(study):
    _, result = study
    for track in ("surprise", "expected"):
        runs = by_place(result.rows, (track, "both"))
        assert set(runs) == {
            ("rosenbrock", name, schedule)
            for name in SMALL.perturbations
            for schedule in SMALL.schedules
        }
        assert all(tuple(of_seed) == SEEDS for of_seed in runs.values())
    assert result.summary.runs == 4 * 5 * 3
    runs = {(r.perturbation, r.schedule, r.lr, r.seed) for r in result.rows}
    assert len(runs) == len(result.rows)


def test_runs_and_their_twins_have_one_start_and_by_surprise_one_rate(study):
    _, result = study
    runs = by_place(result.rows, ("surprise", "both"))
    for (task, _, schedule), of_seed in runs.items():
        for seed, found in of_seed.items():
            twin = runs[task, "", schedule][seed]
            assert found.lr == twin.lr
            assert found.start_loss == runs[task, "", "constant"][seed].start_loss


def test_the_placebo_is_bit_identical_and_noise_in_the_signal_spares_open_loops(study):
    _, result = study
    runs = by_place(result.rows, ("surprise", "both"))
    for schedule in SMALL.schedules:
        clean, placebo, noisy, burst = (
            [found.trajectory for found in runs["rosenbrock", name, schedule].values()]
            for name in ("", "placebo-gaussian", "signal-noise", "burst")
        )
        assert clean == placebo
        assert all(one != other for one, other in zip(clean, burst, strict=True))
        if schedule in ("constant", "cosine", "linear"):
            assert clean == noisy
    placebo, *_ = [b for b in result.summary.bites if b.perturbation == "placebo-gaussian"]
    assert (placebo.changed_of_all, placebo.runs, placebo.admitted) == (0, 15, False)


def test_a_finished_study_runs_nothing_again_and_one_with_a_gap_runs_to_the_same_bits(study):
    path, result = study
    console = Console(file=io.StringIO())
    with Store(path) as store:
        again = run_study(store, 1, console, seeds=SEEDS, design=SMALL)
        assert again.rows == result.rows
        assert "to run" not in console.file.getvalue()
        store._database.execute(
            "DELETE FROM trials WHERE perturbation = 'burst' AND seed = 1 AND schedule = 'greedy'"
        )
        repaired = run_study(store, 1, console, seeds=SEEDS, design=SMALL)
    assert repaired.rows == result.rows
    assert "to run" in console.file.getvalue()


def test_a_perturbation_that_does_not_apply_ends_the_study_with_the_reason(tmp_path):
    with (
        Store(tmp_path / "store.db") as store,
        pytest.raises(ValueError, match="label-noise does not apply to this task"),
    ):
        run(
            store,
            tasks=("nmf-digits",),
            perturbations=("", "label-noise"),
            schedules=("linear", "constant"),
            total_steps=2,
            tuning_points=1,
        )


def test_rows_survive_a_file_and_give_the_same_tables(study, tmp_path):
    _, result = study
    path = tmp_path / "rows.csv.gz"
    save_rows(path, result.rows, {"command": "lrpilot claims --study robustness"})
    about, rows = load_rows(path)
    assert about["command"].startswith("lrpilot")
    assert [found[:8] for found in rows] == [found[:8] for found in result.rows]
    again = summarise(rows)
    assert tables(again)[0] == tables(result.summary)[0]
    assert again.diverged == result.summary.diverged
    first = path.read_bytes()
    save_rows(path, rows, about)
    assert path.read_bytes() == first


def test_a_file_without_rows_is_refused(tmp_path):
    path = tmp_path / "rows.csv.gz"
    path.write_text("nothing")
    with pytest.raises(ValueError, match="no rows of a robustness study"):
        load_rows(path)


def test_the_page_is_made_from_rows_alone_and_equal_rows_make_equal_files(study, tmp_path):
    _, result = study
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        write_page(folder / "robustness.md", result.rows, {"command": "x"})
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [
        "robustness-penalties.svg",
        "robustness-standings.svg",
        "robustness.md",
    ]
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()
    assert "changed 0 of 15 trajectories" in (folders[0] / "robustness.md").read_text()


def test_rows_alone_make_the_page_and_the_same_rows_through_the_command(study, tmp_path):
    _, result = study
    save_rows(tmp_path / "rows.csv.gz", result.rows, {"command": "x"})

    def answer(page):
        return answer_study(
            store_path=tmp_path / "none.db",
            rows_path=tmp_path / "rows.csv.gz",
            save_path=tmp_path / "again.csv.gz",
            page_path=page,
            workers=1,
            console=Console(file=io.StringIO()),
            command="lrpilot claims --study robustness",
        )

    assert answer(tmp_path / "study.md").summary.runs == result.summary.runs
    assert not (tmp_path / "none.db").exists()
    assert (tmp_path / "again.csv.gz").read_bytes() == (tmp_path / "rows.csv.gz").read_bytes()
    assert "changed 0 of 15 trajectories" in (tmp_path / "study.md").read_text()
    (tmp_path / "letter.md").write_text("Dear all")
    with pytest.raises(ValueError, match="not a page of this study"):
        answer(tmp_path / "letter.md")


def test_the_committed_page_is_that_of_the_committed_rows():
    root = Path(__file__).parents[2]
    about, rows = load_rows(root / "benchmarks" / "results" / "robustness.csv.gz")
    summary = summarise(rows)
    assert summary.runs == 8100
    assert (root / "docs" / "robustness.md").read_text(encoding="utf-8") == page(summary, about)


def test_the_summary_is_strict_json(study):
    _, result = study
    json.loads(result.as_json(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_the_bite_test_admits_what_moves_every_run_by_much():
    found = bitten([1.0, 1.1, 0.9], [2.0, 2.3, 1.8])
    assert found.admitted
    assert found.changed == 3
    assert found.effect == pytest.approx(math.log(2), abs=0.05)


@pytest.mark.parametrize(
    ("clean", "disturbed"),
    [
        ([1.0, 1.1, 0.9], [1.0, 1.1, 0.9]),  # a placebo
        ([1.0, 1.1, 0.9], [1.3, 1.0, 1.0]),  # an effect within the noise
        ([1.0, 1.1, 0.9], [2.0, 2.3, 0.9]),  # one run untouched
        ([1.0] * 10, [*([2.0] * 9), 1.0]),  # the same, beyond two deviations
    ],
)
def test_the_bite_test_rejects_what_does_not(clean, disturbed):
    assert not bitten(clean, disturbed).admitted


def test_noise_in_the_signal_is_judged_by_a_schedule_that_reads_it():
    found = bitten([1.0, 1.0], [2.0, 2.1], "signal-noise", "transformers-greedy")
    assert found.reference == "transformers-greedy"
    assert found.admitted


def test_a_lost_run_counts_with_its_loss_before_the_first_step():
    assert row(loss=None, status="diverged").loss == 10.0
    assert row(loss=25.0).loss == 10.0
    assert row(loss=2.0).loss == 2.0


def test_decisions_follow_the_paired_interval():
    assert decide([-0.5, -0.6, -0.4], identical=False)[3] == "better"
    assert decide([0.5, 0.6, 0.4], identical=False)[3] == "worse"
    assert decide([0.5, -0.6, 0.4], identical=False)[3] == "undecided"
    assert decide([-0.5, 0.6, -0.4], identical=False)[3] == "undecided"
    assert decide([0.0, 0.0], identical=True) == (1.0, 1.0, 1.0, "identical")


def test_standings_tell_the_admitted_cells_from_all_and_from_the_unperturbed():
    rows = [
        row(schedule, name, seed, loss * effect * (1 + seed / 9), trajectory=f"{name}{seed}")
        for schedule, loss in {"linear": 1.0, "constant": 2.0, "cosine": 1.0}.items()
        for name, effect in {"": 1.0, "label-noise": 2.0, "drift": 1.0}.items()
        for seed in (0, 1)
    ]
    found = {
        s.cells: (s.better + s.identical + s.undecided + s.worse)
        for s in summarise(rows).standings
        if (s.schedule, s.rival, s.track, s.measure) == ("linear", "cosine", "surprise", "loss")
    }
    assert found == {"admitted": 1, "all": 2, "unperturbed": 1}


def test_verdicts_pair_seeds_and_divide_by_the_rival():
    losses = {"linear": (2.0, 4.0), "constant": (4.0, 8.0), "cosine": (1.0, 2.0)}
    rows = [
        row(schedule, name, seed, loss / ((3 if schedule == "cosine" else 2) if not name else 1))
        for schedule, of_seed in losses.items()
        for name in ("", "label-noise")
        for seed, loss in enumerate(of_seed)
    ]
    summary = summarise(rows)
    found = {
        (v.schedule, v.rival): (v.ratio, v.decision)
        for v in summary.verdicts
        if (v.track, v.measure) == ("surprise", "loss")
    }
    assert found == {
        ("linear", "constant"): (pytest.approx(0.5), "better"),
        ("linear", "cosine"): (pytest.approx(2.0), "worse"),
        ("constant", "cosine"): (pytest.approx(4.0), "worse"),
        ("cosine", "constant"): (pytest.approx(0.25), "better"),
    }
    penalties = {(v.schedule, v.rival): v.ratio for v in summary.verdicts if v.measure == "penalty"}
    assert penalties[("linear", "constant")] == pytest.approx(1.0)
    assert penalties[("cosine", "constant")] == pytest.approx(1.5)
    assert penalties[("constant", "cosine")] == pytest.approx(1 / 1.5)


def test_excess_is_the_log_ratio_to_the_twin_after_the_end_and_a_lost_run_has_lost_all():
    steps = range(0, 101, 5)
    twin = Outcome(evaluations=[(step, 8.0 if step == 0 else 1.0) for step in steps])
    run = Outcome(evaluations=[(step, 8.0 if step == 0 else 2.0) for step in steps])
    assert excess(run, twin, 90, 100) == pytest.approx([math.log(2)] * 2)
    risen = Outcome(evaluations=[(step, 8.0 if step == 0 else 80.0) for step in steps])
    assert excess(risen, twin, 90, 100) == pytest.approx([math.log(8)] * 2)
    lost = Outcome(status="diverged", evaluations=[(0, 8.0), (5, math.nan)])
    assert excess(lost, twin, 90, 100) == pytest.approx([math.log(8)] * 2)


@pytest.mark.parametrize(
    ("of_evaluations", "expected"),
    [
        ((0.0,) * 8, 0.05),
        ((1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), 0.15),
        ((1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0), 0.35),  # a first crossing is no recovery
        ((0.0,) * 7 + (1.0,), None),
    ],
)
def test_recovery_is_where_runs_stop_being_shown_to_suffer_for_good(of_evaluations, expected):
    runs = [
        row(perturbation="burst", seed=seed, excess=tuple(e + shift for e in of_evaluations))
        for seed, shift in enumerate((-0.1, 0.0, 0.1))
    ]
    assert recovered_after(runs) == (None if expected is None else pytest.approx(expected))
