"""Reading a recorded loss, setting schedules, and the page of a decision replay."""

import json
import math
import re

import pytest

from lrpilot.bench.page import check_page
from lrpilot.bench.replay.configured import configured_schedules
from lrpilot.bench.replay.page import thinned, write_page
from lrpilot.bench.replay.recorded import read_losses
from lrpilot.bench.replay.replay import as_json, as_text, replay_file
from lrpilot.schedules import WSD, Greedy, Linear, OpenLoop, Plateau
from lrpilot.schedules.explanation import replay

LOSSES = [3.0, 2.5, 2.0]
CSV = "step,train_loss,lr\n1,3.0,0.1\n2,2.5,0.1\n3,2,0.1\n"
TRAINER = {
    "global_step": 3,
    "log_history": [
        {"step": 1, "loss": 3.0, "learning_rate": 0.1},
        {"step": 1, "eval_loss": 7.0},
        {"step": 2, "loss": 2.5},
        {"step": 3, "loss": 2.0},
        {"step": 3, "train_loss": 9.0, "train_runtime": 1.5},
    ],
}
LINES = "\n".join(json.dumps(entry) for entry in TRAINER["log_history"])


@pytest.fixture
def written(tmp_path):
    def write(content, name="log"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    ("content", "column"),
    [
        (CSV, "train_loss"),
        (CSV.replace("\n", "\r\n"), "train_loss"),
        (CSV.replace(",", ";"), "train_loss"),
        (CSV.replace(",", "\t"), "train_loss"),
        (CSV.replace(",", " , "), "train_loss"),
        ("\ufeff\n" + CSV, "train_loss"),
        ('"train/loss"\n3.0\n2.5\n2.0', "train/loss"),
        # What Lightning's CSVLogger writes: evaluations on lines of their own.
        ("step,train_loss,val_loss\n1,3.0,\n1,,9\n2,2.5,\n3,2.0,\n4\n", "train_loss"),
        ("training_loss,loss\n9,3\n9,2.5\n9,2\n", "loss"),
        (json.dumps(TRAINER), "loss"),
        (json.dumps(TRAINER, indent=2), "loss"),
        (json.dumps(TRAINER["log_history"]), "loss"),
        (LINES, "loss"),
        (json.dumps(LOSSES), None),
        ("3.0\n2.5\n\n2.0\n", None),
    ],
)
def test_a_format_is_told_by_its_content(written, content, column):
    recording = read_losses(written(content))
    assert recording.losses == LOSSES
    assert recording.column == column
    assert recording.not_finite == 0


def test_a_column_can_be_chosen(written):
    assert read_losses(written(CSV), "lr").losses == [0.1] * 3
    assert read_losses(written(LINES), "eval_loss").losses == [7.0]


@pytest.mark.parametrize(
    "content",
    [
        "loss\n1\nnan\n-inf\nInfinity\n",
        "nan\n1\ninf\n-inf",
        '{"loss": NaN}\n{"loss": 1}\n{"loss": Infinity}\n{"loss": "-inf"}',
        "[NaN, Infinity, -Infinity, 1]",
    ],
)
def test_losses_that_are_not_finite_are_losses_and_are_counted(written, content):
    recording = read_losses(written(content))
    assert len(recording.losses) == 4
    assert recording.not_finite == 3


@pytest.mark.parametrize(
    ("content", "column", "message"),
    [
        ("", None, "is empty"),
        (" \n\n", None, "is empty"),
        ("step,loss\n", None, "is empty"),
        ("[]", None, "is empty"),
        ('{"log_history": []}', None, "is empty"),
        ("step,score\n1,2\n", None, r"choose one with --column \(it has: step, score\)"),
        (CSV, "train_los", "unknown column 'train_los'; did you mean 'train_loss'"),
        ("1\n2\n", "loss", "has no columns but a number per line"),
        ("1,2\n3,4\n", None, "has no header"),
        ("step,loss\n1,2.5\n2,oops\n", None, "line 3: the loss is 'oops', not a number"),
        ("step,loss\n1,\n", None, "the column 'loss' of .* has no values"),
        ("1.0\n\nabc\n", None, "line 3: it is 'abc', not a number"),
        ('{"loss": 1}\n\n{"loss": "x"}', None, "line 3: the loss is 'x', not a number"),
        ('{"loss": 1}\n{"loss": true}', None, "line 2: the loss is True, not a number"),
        ('{"loss": 1}\n{"loss": [1, 2]}', None, r"line 2: the loss is \[1, 2\], not a number"),
        ('{"loss": 1}\n{"loss": 1' + "0" * 400 + "}", None, "line 2: the loss is 1000.*not a numb"),
        ('{"loss": 1}\n{"loss": 2', None, "line 2: not JSON"),
        ('{"loss": 1}\n"loss"', None, "line 2: 'loss' is neither a number nor an object"),
        ("[" * 100_000, None, "line 1: not JSON"),
        ('[{"loss": 1}, {"loss": {}}]', None, "entry 2: the loss is {}, not a number"),
        (b"\xff\xfe\x00loss", None, "cannot read"),
        ('loss\n"' + "1" * 200_000 + '"', None, "line 2: field larger than field limit"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_line(written, content, column, message):
    with pytest.raises(ValueError, match=message) as error:
        read_losses(written(content), column)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_a_missing_file_and_a_folder_are_said(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(ValueError, match="cannot read"):
            read_losses(path)


def test_settings_override_those_of_the_schedules_that_have_them():
    found = configured_schedules(
        ["plateau", "wsd20", "linear"],
        ["patience=7", "window = 3", "mode=max", "shape.decay=0.5", "end_scale=0.25"],
        total_steps=100,
    )
    assert found == {
        "plateau": Plateau(factor=0.5, patience=7, window=3, mode="max"),
        "wsd20": OpenLoop(WSD(decay=0.5, shape=Linear(end_scale=0.25)), total_steps=100),
        "linear": OpenLoop(Linear(end_scale=0.25), total_steps=100),
    }
    assert type(found["plateau"].patience) is int


def test_settings_are_set_at_once_and_beside_the_defaults_of_a_variant():
    """One by one, each of these would be refused, or drag along what the other variant has."""
    settings = ["warmup=0.9", "decay=0.05"]
    (found,) = configured_schedules(["wsd20"], settings, 100).values()
    assert found == OpenLoop(WSD(warmup=0.9, decay=0.05), total_steps=100)
    (found,) = configured_schedules(["greedy"], ["test=threshold", "window=3"], 100).values()
    assert found == Greedy(test="threshold", window=3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "pateince=3",
            "unknown setting of plateau, cosine, greedy 'pateince'; did you mean 'patience'",
        ),
        ("patience", "a setting is name=value, such as patience=5; got 'patience'"),
        ("patience=2.5", "patience must be a whole number, got '2.5'"),
        ("patience=-1", "patience must be at least 0"),
        ("factor=high", "factor must be a number, got 'high'"),
        ("factor=nan", "factor must lie strictly between 0 and 1"),
        ("end_scale=2", "end_scale must lie between 0 and 1"),
        ("mode=least", "mode must be"),
        ("shape=Cosine", "unknown setting"),
        ("variant=algorithm3", "unknown variant 'algorithm3'"),
        ("spike=maybe", "spike must be true or false or none, got 'maybe'"),
        ("spike=True", "spike is no setting of variant 'blog'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        configured_schedules(["plateau", "cosine", "greedy"], [setting], total_steps=100)


def test_replaying_a_file_is_replaying_its_losses(written):
    path = written("loss\n" + "\n".join(map(str, [3.0, "nan", *[2.0] * 40])))
    found = replay_file(path, ["plateau", "plateau"], ["patience=4"], lr=0.5)
    schedule = Plateau(factor=0.5, patience=4)
    expected = replay(schedule, [3.0, math.nan, *[2.0] * 40], 0.5)
    assert found.by_name["plateau"].schedule == schedule
    assert found.by_name["plateau"].rates == expected.rates
    (head, decisions) = as_text(found)
    assert head.startswith("decision replay: what these settings would have decided")
    assert "42 losses in the column loss, 1 of them not finite" in head
    assert "0.5 -> 0.25" in decisions
    (row,) = as_json(found)["schedules"]
    assert [one["step"] for one in row["decisions"]] == [2, 8, 13, 18, 23, 28, 33, 38]
    assert row["decisions"][1]["statistics"] == {"best": 2.0, "bad": 5}
    assert (row["down"], row["ignored"], row["lowest_scale"]) == (7, 1, 0.5**7)


def test_json_has_more_decisions_than_the_screen(written):
    path = written("\n".join(["1.0"] * 700))
    found = replay_file(path, ["plateau"], ["patience=1", "factor=0.99"])
    (row,) = as_json(found)["schedules"]
    assert (len(row["decisions"]), row["dropped"]) == (349, 0)
    assert "249 decisions not kept" in as_text(found)[1]


def test_the_page_has_the_label_the_loss_the_scales_and_a_marker_for_each_decision(written):
    losses = [3.0, math.nan, *[2.0] * 40]
    found = replay_file(written("\n".join(map(str, losses))), ["plateau", "cosine"])
    page = written("", "page.html")
    write_page(page, found, command="lrpilot replay <log>")
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "Decision replay: what these settings would have decided" in text
    assert "lrpilot replay &lt;log&gt;" in text
    assert not re.search(r"<(script|link)[^>]*(src|href)=", text)  # self-contained
    body = text.rpartition("</script>\n</head>")[2]
    assert '"plateau: decisions"' in body
    decisions = found.by_name["plateau"].log.decisions
    assert len(decisions) > 5
    assert body.count("lowered: the loss was not better") == len(decisions) - 1
    assert body.count("ignored 1 loss") == 1
    assert '"triangle-down"' in body
    assert "NaN" not in body


def test_a_page_replaces_pages_only(written, tmp_path):
    log = written("1\n2\n", "losses.txt")
    check_page(tmp_path / "new.html", log)
    check_page(written("<!DOCTYPE html>\n<html>", "old.html"), log)
    for path in (log, tmp_path, tmp_path / "no" / "page.html", written("mine", "mine.html")):
        with pytest.raises(ValueError, match=r"cannot write the page .*choose another --page"):
            check_page(path, log)


def test_thinning_keeps_every_spike_and_the_ends():
    values = [1.0] * 10_001
    values[1234], values[7777], values[5] = 50.0, -50.0, math.nan
    kept = thinned(values)
    assert {0, 1234, 7777, 10_000} <= set(kept)
    assert kept == sorted(kept)
    assert 5 not in kept
    assert len(kept) < 2100
    assert thinned(values[:100]) == list(range(100))
    assert thinned([]) == []
