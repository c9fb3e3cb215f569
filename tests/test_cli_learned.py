"""Policies on the command line: by name, and by the path of a file."""

import importlib
import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lrpilot.bench import Store
from lrpilot.bench.trial import Trial
from lrpilot.cli import app
from lrpilot.schedules import Guard, Learned, named_schedule
from lrpilot.schedules.learned.policy import as_tensors
from lrpilot.schedules.learned.tensor_file import write_tensors
from policies import random_policy, still_policy
from refusals import check_refused

COMPARE = ["compare", "--task", "noisy-quadratic", "--lr", "0.1", "--steps", "60", "--seeds", "1"]
COMPARE += ["--workers", "1", "--schedule", "learned:mine.safetensors"]
MINE = "learned:mine.safetensors"


def lrpilot(*arguments):
    return CliRunner().invoke(app, list(arguments))


def save(policy):
    Path("mine.safetensors").write_bytes(write_tensors(as_tensors(policy)))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with a policy and a recorded loss."""
    monkeypatch.chdir(tmp_path)
    save(random_policy(4))
    losses = [2 + 1 / (1 + step / 20) for step in range(100)]
    (tmp_path / "log.txt").write_text("\n".join(map(str, losses)))
    return tmp_path


def settings() -> list[str]:
    with Store(Path("runs.db")) as store:
        return [text for (text,) in store.select("SELECT settings FROM rows")]


def test_a_name_makes_a_guarded_policy():
    assert named_schedule("learned", 100) == Guard(Learned(100, "net"))
    assert named_schedule("learned:net", 100) == Guard(Learned(100, "net"))
    assert named_schedule("learned:nmf", 100) == Guard(Learned(100, "nmf"))
    assert named_schedule(MINE, 100) == Guard(Learned(100, random_policy(4)))


def test_a_file_is_compared_by_a_worker_in_this_folder_and_a_changed_one_anew():
    result = lrpilot(*COMPARE, "--schedule", "linear", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)
    assert MINE in Path("report.html").read_text()
    fingerprint = random_policy(4).fingerprint
    assert len([text for text in settings() if fingerprint in text]) == 1
    save(random_policy(4, seed=1))
    assert lrpilot(*COMPARE).exit_code == 0
    assert len(settings()) == 3
    assert lrpilot(*COMPARE).exit_code == 0
    assert len(settings()) == 3, "an unchanged one is not run again"


def test_a_stored_trial_is_replayed_and_a_lost_policy_is_named(here):
    assert lrpilot(*COMPARE).exit_code == 0
    shown = lrpilot("explain", "runs.db")
    assert shown.exit_code == 0, shown.stderr
    assert "the replayed rates equal all 60 stored ones" in shown.stdout
    assert "by the policy against its base schedule (action" in shown.stdout
    (here / "mine.safetensors").unlink()
    check_refused(lrpilot("explain", "runs.db"), "no policy 'mine.safetensors'")


def test_a_recorded_loss_is_replayed_under_a_policy_and_its_settings():
    result = lrpilot("replay", "log.txt", "--schedule", MINE, "--lr", "0.1")
    assert result.exit_code == 0, result.stderr
    assert "raised by the policy against its base schedule" in result.stdout
    options = ["--schedule", MINE, "--set", "spike=8", "--set", "limit=0.5", "--set", "base=cosine"]
    result = lrpilot("replay", "log.txt", *options, "--json")
    assert result.exit_code == 0, result.stderr
    (found,) = json.loads(result.stdout)["schedules"]
    assert "spike=8" in found["settings"]
    assert random_policy(4).fingerprint not in found["settings"]
    assert found["highest_scale"] <= math.exp(0.5)


def test_a_policy_that_does_nothing_is_its_base_schedule_on_the_command_line():
    save(still_policy(base="cosine"))
    schedules = ["--schedule", MINE, "--schedule", "cosine"]
    result = lrpilot("replay", "log.txt", *schedules, "--json")
    ours, theirs = json.loads(result.stdout)["schedules"]
    for name in ("scale", "lowest_scale", "highest_scale"):
        assert ours[name] == theirs[name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("learnt", "unknown schedule 'learnt'; did you mean 'learned'?"),
        ("learned:nmff", "no policy 'nmff'; did you mean 'nmf'?"),
        ("learned:", "no policy ''; (known: net, nmf, or the path of a file)"),
        ("learned:.", "no policy '.'"),
        ("learned:log.txt", "log.txt is no safetensors file of a policy, or damaged"),
    ],
)
@pytest.mark.parametrize("command", [["compare"], ["replay", "log.txt"]])
def test_a_policy_that_cannot_be_read_is_one_line_and_exit_code_2(here, command, name, message):
    check_refused(lrpilot(*command, "--schedule", name), message)
    assert sorted(path.name for path in here.iterdir()) == ["log.txt", "mine.safetensors"]


def test_a_node_of_a_cluster_is_told_the_whole_path_and_holds_the_same_policy(here, monkeypatch):
    pytest.importorskip("ray")
    ray_engine = importlib.import_module("lrpilot.bench.engines.ray")
    trial = Trial(
        task="noisy-quadratic",
        task_version="1",
        optimizer="adamw",
        schedule=MINE,
        settings=repr(named_schedule(MINE, 60)),
        lr=0.1,
        seed=0,
        total_steps=60,
    )
    told = ray_engine._located(trial)
    assert told.schedule == f"learned:{here / 'mine.safetensors'}"
    shipped = Trial(**{**vars_of(trial), "schedule": "learned:nmf"})
    assert ray_engine._located(shipped) == shipped
    monkeypatch.chdir("/")
    ray_engine.check_policy(told)
    ray_engine.check_policy(shipped)
    Path(here / "mine.safetensors").write_bytes(write_tensors(as_tensors(random_policy(5))))
    with pytest.raises(ValueError, match=r"mine\.safetensors differs on node .* from the file"):
        ray_engine.check_policy(told)
    Path(here / "mine.safetensors").unlink()
    with pytest.raises(ValueError, match=r"on node .*: no policy .*needs the same policy at the"):
        ray_engine.check_policy(told)


def vars_of(trial):
    return {name: getattr(trial, name) for name in Trial.__dataclass_fields__}
