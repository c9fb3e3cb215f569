"""Predicting: what can be known is found, and what cannot is said."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lrpilot.bench import Outcome, Store
from lrpilot.bench.stages import Method
from lrpilot.cli import app
from lrpilot.learning.past import PastRun
from lrpilot.learning.predicting import predict_store
from lrpilot.learning.predicting.beginnings import NAMES, Beginning, first_losses
from lrpilot.learning.predicting.predict import beginning_of, left_out
from lrpilot.learning.predicting.samples import samples

TASKS = ("noisy-quadratic", "rosenbrock", "deep-linear", "matrix-sensing", "digits-mlp")
BESTS = (-2.5, -0.5, -2.5, -0.5, -2.0)  # log10 of the best rates
LRS = tuple(10 ** (k / 2) for k in range(-6, 1))
STEPS = 200


def course(best_log, lr, *, tells=True, seed=0):
    """Losses of a run whose task has its best rate at 10^best_log: they fall by lr / best."""
    share = lr / 10**best_log
    rng = np.random.default_rng([seed, round(1000 * (best_log + 9)), round(1e6 * lr)])
    fall = np.minimum(share, 2.0) * 0.1 if tells else 0.1
    losses = np.exp(-fall * np.arange(STEPS)) + 1
    return losses + 0.01 * rng.normal(size=STEPS)


def fill(path, *, tells=True, optimizer="adamw"):
    """Tasks with best rates far apart, which the losses tell or do not."""
    with Store(path) as store:
        for task, best_log in zip(TASKS, BESTS, strict=True):
            for schedule, worse in (("constant", 0.5), ("linear", 0.0)):
                for lr in LRS:
                    trial = Method(task, optimizer, schedule, STEPS).trial(lr, seed=0)
                    final = math.exp(worse + abs(math.log10(lr) - best_log))
                    losses = course(best_log, lr, tells=tells).tolist()
                    outcome = Outcome(validation_loss=final, losses=losses, rates=[lr] * STEPS)
                    store.add(trial, outcome)
    return path


@pytest.fixture(scope="module")
def telling(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("telling") / "runs.db")


def test_where_the_losses_tell_the_rate_it_is_found_on_a_task_that_was_left_out(telling):
    with Store(telling) as store:
        found = predict_store(store)
    assert {line.task for line in found.lines} == set(TASKS)
    assert found.rate_interval[1] < 0
    assert "the regression is better" in found.verdict
    assert all(line.anneal == line.usual_anneal == 0 for line in found.lines)


def test_where_they_tell_nothing_no_gain_is_claimed(tmp_path):
    with Store(fill(tmp_path / "runs.db", tells=False)) as store:
        found = predict_store(store)
    assert found.rate_interval[1] > 0
    assert found.rate_error > 0.3


def test_a_task_that_was_left_out_is_not_learned_from(telling):
    with Store(telling) as store:
        found = samples(store)
    odd = {"constant": 0.0, "linear": 9.0}  # the others say linear
    found = [replace(s, excess=odd) if s.cell.task == TASKS[0] else s for s in found]
    line = next(line for line in left_out(found) if line.task == TASKS[0])
    assert line.usual_anneal == line.anneal == 9.0


def test_one_sample_per_rate_and_seed_with_the_targets_of_its_cell(telling):
    with Store(telling) as store:
        found = samples(store, [*TASKS[:3]])
    assert len(found) == 3 * len(LRS)
    for sample in found:
        best = math.log10(sample.beginning.lr) + sample.shift
        assert best == pytest.approx(BESTS[TASKS.index(sample.cell.task)])
        assert dict(sample.excess) == pytest.approx({"constant": 0.5, "linear": 0.0})
        assert len(sample.beginning.losses) == STEPS // 20


def test_what_a_beginning_shows_does_not_depend_on_the_unit_of_the_loss():
    losses = course(-1, 0.01)[:10]
    one, other = (
        Beginning(optimizer="sgd", lr=0.1, steps=STEPS, losses=tuple(scale * losses))
        for scale in (1.0, 1000.0)
    )
    assert one.numbers(-1.0) == pytest.approx(other.numbers(-1.0))
    assert len(one.numbers(-1.0)) == len(NAMES)


def test_a_run_that_is_lost_at_once_is_a_beginning_too():
    losses = first_losses([(1, 1.0), (2, math.nan)], 100)
    numbers = Beginning(optimizer="", lr=1.0, steps=100, losses=losses).numbers(0.0)
    assert numbers[NAMES.index("lost")] == 1
    assert all(map(math.isfinite, numbers))


@pytest.mark.parametrize(
    ("series", "told"),
    [
        ({"losses": [(step, 1.0) for step in range(0, 400, 10)]}, "no learning rate"),
        (
            {"losses": [(step, 1.0) for step in range(0, 400, 10)], "rates": [(0, 0.1)]},
            "only 3 losses were logged in the first 5% of 400 steps",
        ),
    ],
)
def test_a_run_that_says_too_little_is_refused(series, told):
    run = PastRun(name="a", source="a", kind="table", description={}, columns={}, series=series)
    with pytest.raises(ValueError, match=told):
        beginning_of(run, 400)


def test_a_store_with_too_few_tasks_is_refused(telling):
    with Store(telling) as store, pytest.raises(ValueError, match="has 2 tasks to learn from"):
        predict_store(store, tasks=TASKS[:2])


def test_the_command_predicts_an_imported_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "runs.db")
    losses = course(-1.5, 0.001, seed=1)[:20]
    rows = "".join(f"{step},{loss},0.001\n" for step, loss in enumerate(losses, 1))
    (tmp_path / "mine.csv").write_text("step,loss,lr\n" + rows)
    invoke = CliRunner().invoke
    assert invoke(app, ["import", "mine.csv", "--describe", "optimizer=AdamW"]).exit_code == 0
    found = invoke(app, ["predict", "mine", "--steps", str(STEPS), "--json"])
    assert found.exit_code == 0, found.stderr
    answer = json.loads(found.stdout)
    assert (answer["run"], answer["lr"], answer["schedule"]) == ("mine", 0.001, "linear")
    assert answer["suggested_lr"] > 0.003
    text = invoke(app, ["predict", "mine", "--steps", str(STEPS)]).stdout
    assert "mine, which began at 0.001: rate" in text
    lost = invoke(app, ["predict", "minee"])
    assert (lost.exit_code, "did you mean 'mine'" in lost.stderr) == (2, True)
