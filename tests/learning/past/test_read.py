"""Logs of other programs become runs, whole or not at all, and never trials."""

import json
import math
import sqlite3
import struct

import pytest
from torch.utils.tensorboard import SummaryWriter

from lrpilot.bench import Outcome, Store
from lrpilot.bench.runs import find_runs
from lrpilot.bench.stages import Method
from lrpilot.bench.store import StoreError
from lrpilot.learning.past import PastRuns
from lrpilot.learning.past.read import import_logs

LOSSES = [(1, 4.0), (2, 2.5), (3, math.nan), (4, 1.25)]


@pytest.fixture
def bring(tmp_path):
    """Import text under a file's name, or paths."""

    def bring(*logs, columns=None, **settings):
        paths = []
        for name, text in (log for log in logs if isinstance(log, tuple)):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            paths.append(path)
        paths += [log for log in logs if not isinstance(log, tuple)]
        return import_logs(paths, tmp_path / "past.db", columns=columns or {}, **settings)

    return bring


def same(series, expected):
    assert [step for step, _ in series] == [step for step, _ in expected]
    assert [value for _, value in series] == pytest.approx(
        [value for _, value in expected], nan_ok=True
    )


def stored(tmp_path):
    return PastRuns(tmp_path / "past.db").all()


def test_a_csv_with_a_step_column(bring, tmp_path):
    text = (
        "step,train/loss,lr,val_loss,note\n1,4.0,0.1,,a\n2,2.5,0.05,3.0,b\n3,nan,,,\n4,1.25,0,,\n"
    )
    bring(("run.csv", text), description=["optimizer=adamw"])
    (run,) = stored(tmp_path)
    same(run.losses, LOSSES)
    assert run.series["rates"] == [(1, 0.1), (2, 0.05), (4, 0.0)]
    assert run.series["evaluations"] == [(2, 3.0)]
    assert "gradient_norms" not in run.series
    assert (run.name, run.kind) == ("run", "table")
    assert run.description == {"optimizer": "adamw"}
    assert run.columns == {"losses": "train/loss", "rates": "lr", "evaluations": "val_loss"}


def test_json_lines_and_the_state_of_a_trainer(bring, tmp_path):
    lines = "\n".join(json.dumps({"step": at, "loss": loss}) for at, loss in LOSSES)
    history = [{"step": 10, "loss": 2.0, "learning_rate": 1e-3, "grad_norm": 0.5}]
    history += [{"step": 10, "eval_loss": 1.5}, {"step": 20, "loss": 1.0, "grad_norm": 0.4}]
    bring(("a.jsonl", lines), ("trainer_state.json", json.dumps({"log_history": history})))
    first, second = stored(tmp_path)
    same(first.losses, LOSSES)
    assert second.losses == [(10, 2.0), (20, 1.0)]
    assert second.series["gradient_norms"] == [(10, 0.5), (20, 0.4)]
    assert second.series["evaluations"] == [(10, 1.5)]


def test_rows_without_a_step_are_counted_from_1(bring, tmp_path):
    bring(("losses.txt", "4.0\n2.5\nnan\n1.25\n"))
    same(stored(tmp_path)[0].losses, LOSSES)


def test_a_history_of_weights_and_biases(bring, tmp_path):
    rows = [
        {"_step": 0, "_timestamp": 1.7e9, "train/loss": 4.0, "train/learning_rate": 0.1},
        {"_step": 1, "_timestamp": 1.7e9, "train/loss": "NaN", "train/grad_norm": 2.0},
        {"_step": 1, "_timestamp": 1.7e9, "eval/loss": 3.5},
    ]
    bring(("history.json", json.dumps(rows)))
    (run,) = stored(tmp_path)
    assert run.kind == "W&B history"
    same(run.losses, [(0, 4.0), (1, math.nan)])
    assert run.series["rates"] == [(0, 0.1)]
    assert run.series["evaluations"] == [(1, 3.5)]
    assert run.series["gradient_norms"] == [(1, 2.0)]


def test_charts_of_weights_and_biases_make_one_run_of_each_name(bring, tmp_path):
    head = '"Step","calm-sun-1 - train/loss","calm-sun-1 - train/loss__MIN"'
    losses = f'{head},"dry-sea-2 - train/loss"\n0,4.0,4.0,5.0\n1,2.5,2.5,\n'
    rates = '"Step","calm-sun-1 - lr","dry-sea-2 - lr"\n0,0.1,0.3\n1,0.2,\n'
    bring(("loss.csv", losses), ("lr.csv", rates))
    calm, dry = stored(tmp_path)
    assert (calm.name, calm.losses, calm.series["rates"]) == (
        "calm-sun-1",
        [(0, 4.0), (1, 2.5)],
        [(0, 0.1), (1, 0.2)],
    )
    assert (dry.name, dry.losses, dry.series["rates"]) == ("dry-sea-2", [(0, 5.0)], [(0, 0.3)])


def test_folders_of_mlflow(bring, tmp_path):
    run = "mlruns/0/3f2a"
    bring_these = {
        "metrics/train/loss": "1700000000000 4.0 1\n1700000000001 2.5 2\n1700000000002 NaN 3\n",
        "metrics/lr": "1700000000000 0.1 1\n",
        "params/optimizer": "adamw",
        "tags/mlflow.runName": "brave-owl",
    }
    for name, text in bring_these.items():
        path = tmp_path / run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for at in ("mlruns", run, f"{run}/metrics"):
        found = bring(tmp_path / at)
        assert found.stored == 1
    (kept,) = stored(tmp_path)
    assert (kept.name, kept.kind, dict(kept.description)) == (
        "brave-owl",
        "MLflow",
        {"optimizer": "adamw"},
    )
    same(kept.losses, LOSSES[:3])


@pytest.fixture
def events(tmp_path):
    folder = tmp_path / "logs" / "version_0"
    with SummaryWriter(folder) as writer:
        for step, loss in LOSSES:
            writer.add_scalar("Loss/train", loss, step)
            writer.add_scalar("noise", 7.0, step)
        writer.add_scalar("Loss/val", 3.0, 2)
        writer.add_text("config", "adamw")
        writer.add_scalar("opt/rate", 0.5, 1)
    return folder


def test_event_files_of_tensorboard(bring, events, tmp_path):
    bring(events.parent, columns={"rates": "opt/rate"})
    (run,) = stored(tmp_path)
    assert (run.name, run.kind) == ("version_0", "TensorBoard")
    same(run.losses, LOSSES)
    assert run.series["evaluations"] == [(2, 3.0)]
    assert run.series["rates"] == [(1, 0.5)]


def test_an_event_file_that_ends_early_is_taken_up_to_there_and_said_to(bring, events, tmp_path):
    (file,) = events.iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    found = bring(file)
    assert any("ends within a record" in note for note in found.notes)
    same(found.runs[0].losses, LOSSES)


def test_a_damaged_event_file_is_refused_with_the_place(bring, events):
    (file,) = events.iterdir()
    data = bytearray(file.read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    data[12 + length + 4 + 14] ^= 1  # within the second record
    file.write_bytes(data)
    with pytest.raises(ValueError, match=rf"is damaged at byte {12 + length + 4 + 12}"):
        bring(file)
    file.write_text("not an event file at all")
    with pytest.raises(ValueError, match="is no event file"):
        bring(file)


def test_a_run_that_was_resumed_counts_what_it_logged_last(bring):
    found = bring(("a.csv", "step,loss\n1,9\n2,8\n3,7\n2,6\n"))
    assert found.runs[0].losses == [(1, 9.0), (2, 6.0), (3, 7.0)]
    assert "1 values logged again" in found.notes[0]


def test_the_same_run_again_is_known_and_not_doubled(bring, tmp_path):
    log = ("a.csv", "loss\n1\n2\n")
    assert bring(log).new == [True]
    assert bring(log).new == [False]
    assert bring(("a.csv", "loss\n1\n3\n")).new == [True]
    assert PastRuns(tmp_path / "past.db").names() == ["a", "a"]
    assert PastRuns(tmp_path / "past.db").find("a").losses == [(1, 1.0), (2, 3.0)]


def test_one_bad_log_and_nothing_is_imported(bring, tmp_path):
    bring(("old.csv", "loss\n1\n"))
    with pytest.raises(ValueError, match=r"bad\.csv, line 3: the loss is 'x', not a number"):
        bring(("good.csv", "loss\n1\n"), ("bad.csv", "loss\n1\nx\n"))
    assert PastRuns(tmp_path / "past.db").names() == ["old"]


@pytest.mark.parametrize(
    ("text", "columns", "told"),
    [
        ("", {}, "is empty"),
        ("step,cost\n1,2\n", {}, r"name one with --loss \(it has: cost\)"),
        ("step,loss\n1,2\n", {"losses": "los"}, "--loss: .*'los'; did you mean 'loss'"),
        ("step,loss\n1,2\n", {"rates": "eta"}, "--lr: .*'eta'"),
        ("step,loss\n1,\n", {}, "'loss' of .* has no values"),
        ("step,loss\n1.5,2\n", {}, "line 2: the step is '1.5', not a count of steps"),
        ("step,loss\nx,2\n", {}, "line 2: the step is 'x', not a number"),
        ("step,loss\n,2\n", {}, "line 2"),
        ('{"loss": 1}\n{"loss"\n', {}, "line 2: not JSON"),
    ],
)
def test_what_is_no_log_is_told_with_the_line(bring, text, columns, told):
    with pytest.raises(ValueError, match=told):
        bring(("a.csv", text), columns=columns)


def test_missing_files_empty_folders_and_broken_metrics_are_told(bring, tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*none"):
        bring(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"neither event files .* nor MLflow's metrics"):
        bring(tmp_path / "empty")
    (tmp_path / "r" / "metrics").mkdir(parents=True)
    (tmp_path / "r" / "metrics" / "loss").write_text("1 2.0\n")
    with pytest.raises(ValueError, match=r"line 1: '1 2.0' is not a timestamp, a value and a step"):
        bring(tmp_path / "r")
    with pytest.raises(ValueError, match="name=value, such as optimizer=adamw; got 'adamw'"):
        bring(("a.csv", "loss\n1\n"), description=["adamw"])


def test_past_runs_are_no_trials(bring, tmp_path):
    path = tmp_path / "past.db"
    trial = Method("digits-mlp", "adamw", "cosine", 100).trial(0.01, 0)
    with Store(path) as store:
        store.add(trial, Outcome(validation_loss=1.0))
    bring(("a.csv", "loss\n1\n2\n"))
    with Store(path) as store:
        assert store.trials() == [trial]
        assert find_runs(store).trials == 1


def test_a_file_of_another_program_is_left_alone(bring, tmp_path):
    path = tmp_path / "past.db"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE mine (x)")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="a SQLite file of another program"):
        bring(("a.csv", "loss\n1\n"))
    assert path.read_bytes() == before
