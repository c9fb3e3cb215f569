"""An ensemble does the mean of what its policies would do."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lrpilot.cli import app
from lrpilot.schedules import load_policy
from lrpilot.schedules.learned.ensemble import ensemble
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import as_tensors
from lrpilot.schedules.learned.tensor_file import write_tensors
from policies import random_policy


def before_the_squash(policy, seen):
    """By hand."""
    x = np.array(seen, dtype=np.float64)
    *hidden, (weight, bias) = zip(policy.weights, policy.biases, strict=True)
    for inner, shift in hidden:
        x = np.tanh(x @ inner + shift)
    return (x @ weight + bias).item()


@pytest.mark.parametrize("hidden", [(), (5,), (4, 3)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_it_answers_the_mean(hidden, count):
    parts = [random_policy(*hidden, seed=seed) for seed in range(count)]
    whole = ensemble("whole", parts)
    for seen in np.random.default_rng(0).normal(0, 0.3, size=(20, len(NAMES))):
        mean = np.mean([before_the_squash(part, seen) for part in parts])
        assert whole.act(tuple(seen)) == pytest.approx(np.tanh(mean), abs=1e-5)


def test_parts_may_be_of_unequal_width_and_read_unequal_things():
    parts = [random_policy(3, seed=1), random_policy(6, seed=2)]
    first = np.array(parts[1].weights[0])
    first[NAMES.index("movement")] = 1
    parts[1] = replace(parts[1], weights=(first, *parts[1].weights[1:]))
    whole = ensemble("whole", parts)
    assert whole.weights[0].shape == (len(NAMES), 9)
    assert whole.sees == ("movement",)


def test_it_says_what_all_of_them_say_and_of_what_it_is_made():
    parts = [
        replace(random_policy(3, seed=seed), about={"trained": "net", "seed": str(seed)})
        for seed in range(2)
    ]
    about = ensemble("whole", parts).about
    assert about == {"trained": "net", "mean of": f"{parts[0]!r}, {parts[1]!r}"}


@pytest.mark.parametrize(
    "other",
    [
        random_policy(3, 3),
        random_policy(3, squash="clip"),
        random_policy(3, base="linear"),
        random_policy(3, kind="anchored"),
    ],
)
def test_policies_that_act_in_other_ways_are_refused(other):
    with pytest.raises(ValueError, match="one depth, squash, base schedule and action, got 2 kin"):
        ensemble("whole", [random_policy(3), other])


def test_no_policies_are_refused():
    with pytest.raises(ValueError, match="got 0 kinds of them: none"):
        ensemble("whole", [])


def run(*arguments):
    return CliRunner().invoke(app, ["ensemble", *map(str, arguments)])


def test_the_command_writes_a_file_that_is_a_policy(tmp_path):
    parts, files = [random_policy(3, seed=seed) for seed in (1, 2)], []
    for at, part in enumerate(parts):
        files.append(tmp_path / f"{at}.safetensors")
        files[-1].write_bytes(write_tensors(as_tensors(part)))
    out = tmp_path / "both.safetensors"
    found = run(*files, "--out", out)
    assert (found.exit_code, found.stderr) == (0, "")
    assert "both.safetensors: the mean of 2 policies, with 6 hidden units" in found.output
    assert load_policy(out) == ensemble("both", parts)
    assert json.loads(run(*files, "--out", out, "--json").output)["units"] == 6
    assert not list(tmp_path.glob("*.part"))


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    out = tmp_path / "both.safetensors"
    for arguments, message in (
        (["net"], "two policies or more, got 1"),
        (["net", "nmf"], "got 2 kinds of them: net, nmf"),
        (["net", "nett"], "no policy 'nett'"),
    ):
        found = run(*arguments, "--out", out)
        assert found.exit_code == 2
        assert message in found.stderr
        assert "Traceback" not in found.output
    assert not out.exists()
