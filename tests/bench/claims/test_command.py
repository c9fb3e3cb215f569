from io import StringIO

import pytest
from rich.console import Console

from claim_rows import SUITE, rows
from lrpilot.bench.claims import evaluate, load_claims
from lrpilot.bench.claims.command import claims_table, run_claims, without_idle_curves
from lrpilot.bench.claims.findings import Entrant, Findings
from lrpilot.bench.engines.engine import Engine
from lrpilot.bench.results import save_rows
from lrpilot.bench.robustness.rows import RobustnessRow
from lrpilot.bench.robustness.rows import save_rows as save_study


def run(path, suite="quick", **options):
    return run_claims(
        suite,
        store_path=path.with_suffix(".db"),
        rows_path=path,
        save_path=None,
        engine=Engine(),
        console=Console(stderr=True),
        command="lrpilot claims",
        **options,
    )


def test_rows_of_another_suite_are_refused_with_the_suite_that_they_are_of(tmp_path):
    path = tmp_path / "rows.csv.gz"
    save_rows(path, [], {"suite": "standard"})
    with pytest.raises(ValueError, match="add --suite standard"):
        run(path)


def test_an_unknown_suite_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="quick"):
        run(tmp_path / "rows.csv.gz", suite="quack")


def test_without_a_row_nothing_is_tested_and_nothing_breaks(tmp_path):
    path = tmp_path / "rows.csv.gz"
    save_rows(path, [], {"suite": "quick"})
    answer = run(path)
    assert {verdict.verdict for verdict in answer.verdicts} == {"not tested"}
    assert len(answer.as_json()) == len(answer.verdicts)
    assert claims_table(answer.verdicts).row_count == len(answer.verdicts)


def test_the_table_shows_intervals_and_verdicts_as_they_are():
    verdicts = evaluate(load_claims(), Findings(rows(), SUITE))
    console = Console(width=200, record=True, file=StringIO())
    console.print(claims_table(verdicts), markup=False)
    line = next(line for line in console.export_text().splitlines() if "C-lin " in line)
    assert "0.80 [0." in line
    assert line.rstrip().endswith(" refuted")


def test_those_runs_alone_keep_curves_that_a_claim_reads():
    kept = list(without_idle_curves(list(rows()), SUITE))
    findings = Findings(kept, SUITE)
    assert len(kept) == len(list(rows()))
    for row in kept:
        choice = findings.tuned(row.task, Entrant(row.optimizer, row.schedule))
        judged = (
            row.lr == choice.lr
            and row.seed in SUITE.evaluation_seeds
            and row.total_steps == findings.steps(row.task)
        )
        assert bool(row.evaluations) == judged


def study_rows(greedy_suffers: float):
    """Gradient noise doubles every loss, and multiplies GreedyLR's by what is given."""
    for task in ("deep-linear", "matrix-sensing", "rosenbrock"):
        for schedule in ("linear", "cosine", "constant", "greedy"):
            for perturbation in ("", "gradient-noise-1"):
                for seed in range(5):
                    suffers = greedy_suffers if schedule == "greedy" else 2.0
                    noise = 1 + 0.0001 * (seed % 3) * len(task)
                    yield RobustnessRow(
                        task=task,
                        perturbation=perturbation,
                        schedule=schedule,
                        lr=0.1,
                        seed=seed,
                        total_steps=300,
                        track="both",
                        status="done",
                        start_loss=9.0,
                        test_loss=0.1 * (suffers * noise if perturbation else 1.0),
                        trajectory=f"{schedule} {perturbation} {seed}",
                        excess=(),
                    )


@pytest.mark.parametrize(
    ("suffers", "ratio", "verdict"), [(1.5, 0.75, "supported"), (3.0, 1.5, "refuted")]
)
def test_the_study_beside_the_rows_decides_its_claims(tmp_path, suffers, ratio, verdict):
    path = tmp_path / "rows.csv.gz"
    save_rows(path, [], {"suite": "quick"})
    save_study(tmp_path / "robustness.csv.gz", study_rows(suffers), {"command": "", "versions": ""})
    answer = run(path)
    found = next(one for one in answer.verdicts if one.id == "C9-noise-cosine")
    assert found.estimate == pytest.approx(ratio, rel=0.01)
    assert (found.verdict, found.tasks, found.cells) == (verdict, 3, 3)
    assert dict(found.by_part) == {"gradient-noise-1": pytest.approx(ratio, rel=0.01)}
    assert answer.about["robustness study"].endswith("robustness.csv.gz")


def test_without_the_study_its_claims_are_not_tested(tmp_path):
    path = tmp_path / "rows.csv.gz"
    save_rows(path, [], {"suite": "quick"})
    found = next(one for one in run(path).verdicts if one.id == "C9-noise-cosine")
    assert found.reason == "the robustness study has not been run, or its rows were not given"
