"""The evaluation: contenders that play what they are said to, and ratios that say who is ahead."""

import math

import numpy as np
import pytest
from typer.testing import CliRunner

from lrpilot.bench.held_out import CONTROLS, HeldOutRow
from lrpilot.cli import app
from lrpilot.learning.distributions import TRAINING_CELLS, VALIDATION_CELLS, tuned_lr
from lrpilot.learning.evaluation import contest as contest_module
from lrpilot.learning.evaluation import evaluated as evaluate_module
from lrpilot.learning.evaluation.contest import contest
from lrpilot.learning.evaluation.evaluated import Evaluation, Kept, evaluate, load, save
from lrpilot.learning.evaluation.pictures import SHOWN
from lrpilot.learning.evaluation.sets import (
    FRESH_CELLS,
    LARGER_CELLS,
    SEEN_CELLS,
    STRETCHED,
    HeldOut,
    net_sets,
    nmf_sets,
)
from lrpilot.learning.evaluation.tables import compared, tables
from lrpilot.learning.net_cells import random_cell
from lrpilot.learning.nmf_runs import NMFSetting, random_matrices, runs_of
from lrpilot.learning.playing import (
    Played,
    under_base,
    under_offsets,
    under_policies,
    under_schedules,
)
from lrpilot.schedules import named_schedule
from policies import random_policy, still_policy

SETTING = NMFSetting(
    m=8,
    n=12,
    rank=2,
    true_rank=2,
    entries="gamma",
    data_noise=0.1,
    tail=0.0,
    noise=0.3,
    batch=6,
    total_steps=40,
)


def stack(part, copies, factor):
    rng = np.random.default_rng(part == "judged")
    V = random_matrices(SETTING, 3, rng)
    return runs_of(SETTING, V, rng, wrong=factor, copies=copies)


TINY = HeldOut("tiny", "tests", "size", stack)


def test_three_ways_to_play_agree():
    """The base by a policy that never acts, by its name, and by offsets of 0."""
    still = still_policy(base="cosine")
    by_policy = under_policies(stack("judged", 2, 1.0), [still, still])
    by_name = under_schedules(
        stack("judged", 2, 1.0), [named_schedule("cosine", 40)] * 2, [1.0, 0.5]
    )
    by_offsets = under_offsets(
        stack("judged", 2, 1.0), "cosine", np.log([[1.0, 0.5]]).repeat(40, axis=0)
    )
    np.testing.assert_allclose(by_policy.finals[0], by_name[0], rtol=1e-6)
    np.testing.assert_allclose(by_offsets, by_name, rtol=1e-6)
    by_base = under_base(stack("judged", 2, 1.0), "cosine", still.action)
    np.testing.assert_allclose(by_base, by_policy.finals.reshape(-1), rtol=1e-6)
    assert not by_policy.offsets.any()
    assert by_policy.offsets.shape == (40, 2, 3)


def test_the_way_of_a_policy_replayed_on_its_own_runs_ends_where_it_did():
    policy = random_policy(base="cosine")
    played = under_policies(stack("judged", 1, 1.0), [policy])
    assert np.abs(played.offsets).max() > 0.1
    for problem in range(3):
        way = played.offsets[:, 0, problem][:, None]
        again = under_offsets(stack("judged", 1, 1.0), "cosine", way)
        assert again[0, problem] == pytest.approx(played.finals[0, problem], rel=1e-6)


def test_policies_with_other_actions_are_not_judged_together():
    others = [still_policy(base="cosine"), still_policy(base="linear")]
    with pytest.raises(ValueError, match="same base and action"):
        under_policies(stack("judged", 2, 1.0), others)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(contest_module, "GENERATIONS", 2)
    monkeypatch.setattr(contest_module, "GRID", {"nmf": (0.1, 1.0), "net": (0.1, 1.0)})
    monkeypatch.setattr(contest_module, "WRONGS", (1.0, 10.0))


def test_a_contest_has_every_contender(quick):
    rows = contest(TINY, "nmf", {"still": still_policy(base="cosine")})
    found = {(one.contender, one.wrong): np.array(one.finals) for one in rows}
    assert {name for name, _ in found} == {
        *("base", "still", "replay still", "time still", "oracle", "fixed"),
        *(f"tuned {name}" for name in contest_module.TUNED),
    }
    for wrong in (1.0, 10.0):
        np.testing.assert_allclose(found["still", wrong], found["base", wrong], rtol=1e-6)
        np.testing.assert_allclose(found["replay still", wrong], found["base", wrong], rtol=1e-6)
    tuned = np.array([found[f"tuned {name}", 1.0] for name in contest_module.TUNED])
    assert (found["oracle", 1.0] <= tuned.min(axis=0)).all()


def test_held_out_sets_have_names_of_their_own_and_two_parts():
    for sets in (nmf_sets(), net_sets()):
        assert len({one.name for one in sets}) == len(sets)
    one = nmf_sets()[0]
    tuning, judged = (one.stack(part, 1, 1.0) for part in ("tuning", "judged"))
    assert not np.array_equal(tuning.measure(), judged.measure())
    again = one.stack("judged", 1, 1.0)
    np.testing.assert_array_equal(again.measure(), judged.measure())


def made(policy, base, sets=4):
    """Results of so many sets where the policy and the base leave these shares of 1."""
    return [
        HeldOutRow(f"set {number}", "group", "axis", name, 1.0, tuple(np.log(left)))
        for number in range(sets)
        for name, left in (
            *((name, base) for name in CONTROLS),
            ("p", policy),
            ("replay p", policy),
        )
    ]


def test_no_policy_is_trained_or_chosen_on_a_cell_that_is_held_out():
    held_out = [*SEEN_CELLS, *FRESH_CELLS, *LARGER_CELLS, *STRETCHED]
    assert not set(held_out) & {*TRAINING_CELLS, *VALIDATION_CELLS}
    assert all(tuned_lr(random_cell(number)) > 0 for number in held_out)


def test_the_schedules_that_are_drawn_are_those_of_held_out_sets():
    for kind, sets in (("nmf", nmf_sets()), ("net", net_sets())):
        assert {name for name, _ in SHOWN[kind]} <= {one.name for one in sets}


def test_ratios_wins_and_losses():
    found = compared(made([0.5, 0.9, 1.2], [1.0, 1.0, 1.0]), "base", 1.0)
    assert found.ratio == pytest.approx((0.5 * 0.9 * 1.2) ** (1 / 3))
    assert (found.wins, found.losses) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert found.low == pytest.approx(found.high)  # all sets alike
    assert compared(made([0.5, 0.9], [1, 1]), "replay", 1.0).ratio == 1


def test_a_lost_run_counts_for_a_bounded_factor():
    found = compared(made([math.inf, 1.0], [1.0, 1.0]), "base", 1.0)
    assert found.ratio == pytest.approx(math.exp(1.5))
    rows = {row[0]: row[1] for row in tables(made([math.inf, 1.0], [1.0, 1.0]))[3].rows}
    assert (rows["policies"], rows["base"]) == ("4", "0")


def test_a_time_is_that_of_the_last_crossing():
    watched = np.array([[3.0, 0.5, 3.0], [0.5, 3.0, 3.0], [0.4, 0.9, 3.0], [0.3, 0.5, np.inf]])
    played = Played(watched[-1:], np.zeros((8, 1, 3)), np.array([2, 4, 6, 8]), watched[:, None])
    found = contest_module.times(played, np.array([1.0, 1.0, 1.0]), 8)
    np.testing.assert_array_equal(found, [[0.5, 0.75, np.inf]])
    never = contest_module.times(played, np.full(3, np.inf), 8)
    assert np.isinf(never).all()


def test_rows_come_back_as_they_were_saved(tmp_path):
    evaluation = Evaluation("nmf", made([0.5, math.inf], [1.0, 1.0]))
    save(tmp_path / "rows.csv.gz", evaluation, {"command": "none"})
    about, again = load(tmp_path / "rows.csv.gz")
    assert about["command"] == "none"
    assert again.kind == "nmf"
    assert tables(again.rows) == tables(evaluation.rows)
    with pytest.raises(ValueError, match="lrpilot evaluate KIND --save"):
        load(tmp_path / "none.csv.gz")


def test_what_is_done_is_not_run_again(quick, tmp_path, monkeypatch):
    policies = {"still": still_policy(base="cosine")}
    store = tmp_path / "store.jsonl"
    kept = Kept(store, "nmf", policies)
    row = HeldOutRow("noise 0", "g", "a", "base", 1.0, (0.0, math.inf))
    kept.add("noise 0", [row])
    with store.open("a") as file:
        file.write('{"set": "noise 0.0')  # as kill -9 leaves it

    def never(*args):
        raise AssertionError

    monkeypatch.setattr(evaluate_module, "rows_of", never)
    console = evaluate_module.Console(quiet=True)
    found = evaluate("nmf", policies, store, workers=1, console=console, sets=["noise 0"])
    assert found.rows == [row]
    with pytest.raises(ValueError, match="choose another --store"):
        Kept(store, "nmf", {"other": random_policy(base="cosine")})


def test_the_command_shows_rows_and_refuses_others(tmp_path):
    path = tmp_path / "rows.csv.gz"
    save(path, Evaluation("nmf", made([0.5, 0.9], [1.0, 1.0])), {})
    runner = CliRunner()
    found = runner.invoke(app, ["evaluate", "nmf", "--rows", str(path), "--json"])
    assert found.exit_code == 0
    assert "Policies over their controls" in found.output
    for arguments, says in (
        (["evaluate", "net", "--rows", str(path)], "is of nmf policies"),
        (["evaluate", "nnmf"], "did you mean 'nmf'"),
        (["evaluate", "nmf", "--set", "noises"], "unknown held-out set"),
    ):
        ended = runner.invoke(app, arguments)
        assert ended.exit_code == 2
        assert says in ended.output
