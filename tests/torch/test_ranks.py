"""Ranks of a distributed training agree: two processes over gloo, each with losses of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lrpilot.schedules import Plateau
from lrpilot.torch import ScheduledLR
from scheduled import LOSSES, sgd


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """What came of every scenario on rank 0 and on rank 1."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).parents[1] / "two_ranks.py"
    path = os.pathsep.join([str(script.parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "GLOO_SOCKET_IFNAME": "lo"}
    errors = [folder / f"{rank}.err" for rank in range(2)]
    processes: list[subprocess.Popen] = []
    try:
        for rank, error in enumerate(errors):
            command = [sys.executable, str(script), str(rank), str(folder)]
            with error.open("w") as file:
                processes.append(subprocess.Popen(command, env=environment, stderr=file))
        codes = [process.wait(timeout=100) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0, 0], "\n".join(error.read_text() for error in errors)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


POLICIES = ["policy", "policy, FSDP2", "policy, ZeRO"]
OURS = ["ours", "ours, first", "ours, lag", "ours, FSDP2", "ours, ZeRO", *POLICIES]


@pytest.mark.parametrize("name", OURS)
def test_rates_and_weights_of_two_ranks_are_equal_to_the_bit(ranks, name):
    first, second = (rank[name] for rank in ranks)
    assert first == second
    assert len(set(first["rates"])) > 2  # and the rate did move


@pytest.mark.parametrize("name", ["torch", "transformers", "ours, not reduced"])
def test_rates_and_weights_come_apart_where_each_rank_decides_from_its_own_loss(ranks, name):
    first, second = (rank[name] for rank in ranks)
    assert first["rates"] != second["rates"]
    assert first["weights"] != second["weights"]


def test_fsdp2_and_zero_decide_as_replicas_do(ranks):
    """Their gradients are sums in another order, so the losses differ in the last digits."""
    for name in ("ours, FSDP2", "ours, ZeRO"):
        assert ranks[0][name]["rates"] == pytest.approx(ranks[0]["ours"]["rates"])


def test_each_rank_sees_the_mean(ranks):
    for rank in ranks:
        assert rank["mean"] == {"losses": [loss + 5 for loss in LOSSES], "lag": 0}


def test_or_the_first_ranks_losses(ranks):
    for rank in ranks:
        assert rank["first"]["losses"] == list(LOSSES)


def test_or_its_own_where_they_are_given(ranks):
    assert ranks[0]["given"]["losses"] == list(LOSSES)
    assert ranks[1]["given"]["losses"] == [loss + 10 for loss in LOSSES]


def test_the_mean_may_come_later(ranks):
    for rank in ranks:
        assert rank["mean, lag"] == {"losses": [loss + 5 for loss in LOSSES[:-3]], "lag": 3}


def test_the_mean_is_weighted_by_what_the_losses_are_means_of(ranks):
    expected = (3 * 1 + 1 * 5 + 4 * 2 + 2 * 6) / 10
    assert [rank["weighted"] for rank in ranks] == [[expected]] * 2


def test_a_loss_that_is_not_finite_on_one_rank_is_none_on_all(ranks):
    assert [rank["NaN"] for rank in ranks] == [{"losses": [1.0, 3.0], "ignored": 1}] * 2


def test_tokens_of_all_ranks_add_up_and_their_epochs_are_the_same(ranks):
    assert [rank["consumed"] for rank in ranks] == [[201.0, 0.25]] * 2


def test_a_rank_without_a_loss_follows_those_that_have_one(ranks):
    """As the stages of a pipeline but the last; no warning is raised."""
    assert [rank["last"] for rank in ranks] == [list(LOSSES)] * 2


def test_losses_on_their_way_between_ranks_are_part_of_a_checkpoint(ranks):
    for rank in ranks:
        assert rank["resumed"]["tail"] == rank["resumed"]["whole"]
    assert ranks[0]["resumed"] == ranks[1]["resumed"]


def test_ranks_in_different_states_are_told_so_on_each(ranks):
    for rank in ranks:
        assert "ranks have come apart" in rank["apart"]
        assert "load the same state on every rank" in rank["apart"]


def test_an_observation_costs_one_collective(ranks):
    assert [rank["collectives"] for rank in ranks] == [len(LOSSES)] * 2


def test_only_the_ranks_of_the_group_count(ranks):
    assert [rank["own group"] for rank in ranks] == [[1.0, 2.0], [2.0, 3.0]]


def test_an_unknown_way_to_agree_is_refused():
    with pytest.raises(ValueError, match='ranks must be "mean", "first" or "given", got \'all\''):
        ScheduledLR(sgd(0.1), Plateau(), ranks="all")
