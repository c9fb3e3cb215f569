"""The choice of a rate, and the extension of its grid."""

import math

import numpy as np
import pytest

from lrpilot.bench.suite import grid
from lrpilot.bench.tuning import EXTENSIONS, tune, tune_all

GRID = grid(0.01, 9)


def test_the_lowest_median_wins_among_the_rates_that_lose_fewest_runs():
    losses = [[0.9, 0.9], [0.5, 0.7], [0.1, None], [0.0, math.nan]]
    choice = tune([0.01, 0.03, 0.1, 0.3], losses)
    assert (choice.lr, choice.loss, choice.lost) == (0.03, pytest.approx(0.6), 0)
    assert not choice.at_edge


def test_one_lucky_seed_of_three_does_not_win():
    choice = tune([0.01, 0.03, 0.1], [[3.0, 3.0, 0.0], [2.0, 2.0, 2.0], [5.0, 5.0, 5.0]])
    assert choice.lr == 0.03


def test_if_all_rates_lose_some_the_one_losing_fewest_wins():
    choice = tune([0.01, 0.03, 0.1], [[None, None], [9.0, None], [None, math.inf]])
    assert (choice.lr, choice.lost) == (0.03, 1)


@pytest.mark.parametrize(("best", "added"), [(0, (3e-5,)), (8, (3.0,)), (4, ())])
def test_the_grid_grows_by_a_half_decade_where_the_best_is_at_the_edge(best, added):
    choice = tune(GRID, [[abs(at - best)] for at in range(9)])
    assert choice.extension == added
    assert choice.at_edge == bool(added)


def test_a_method_that_does_not_use_its_rate_is_not_followed_to_the_edge():
    choice = tune(GRID, [[1.0, 2.0]] * 9)
    assert (choice.lr, choice.extension) == (0.01, ())


def test_if_no_run_ended_lower_rates_are_tried():
    choice = tune(GRID, [[None, None]] * 9)
    assert (choice.lr, choice.loss, choice.extension) == (1e-4, math.inf, (3e-5,))


def tuned(loss_at):
    """Extended until the choice is final."""
    lrs, rounds = GRID, 0
    while True:
        choice = tune(lrs, [loss_at(lr) for lr in lrs], points=9)
        if not choice.extension:
            return choice, rounds
        lrs, rounds = tuple(sorted({*lrs, *choice.extension})), rounds + 1


@pytest.mark.parametrize("optimum", [3e-7, 1e-5, 0.01, 3.0, 300.0])
def test_the_grid_grows_until_the_best_is_inside(optimum):
    choice, _ = tuned(lambda lr: [abs(math.log(lr / optimum))] * 2)
    assert choice.lr == pytest.approx(optimum)
    assert not choice.at_edge


@pytest.mark.parametrize("sign", [-1, 1])
def test_growth_ends_after_six_half_decades_and_the_edge_is_reported(sign):
    choice, rounds = tuned(lambda lr: [sign * math.log(lr)] * 2)
    assert rounds == EXTENSIONS
    assert choice.at_edge
    assert choice.tried == 9 + EXTENSIONS


def test_a_grid_of_one_rate_grows_to_both_sides():
    assert tune([0.01], [[1.0]]).extension == (0.003, 0.03)


def test_noise_never_makes_both_sides_grow():
    rng = np.random.default_rng(0)
    for _ in range(200):
        lrs = GRID
        noise: dict[float, list[float]] = {}
        while True:
            for lr in lrs:
                noise.setdefault(lr, list(rng.normal(size=2)))
            choice = tune(lrs, [noise[lr] for lr in lrs], points=9)
            if not choice.extension:
                break
            lrs = tuple(sorted({*lrs, *choice.extension}))
        assert lrs[0] == GRID[0] or lrs[-1] == GRID[-1]


@pytest.mark.parametrize(
    ("lrs", "losses", "message"),
    [
        ([], [], "must rise"),
        ([0.1, 0.01], [[1.0], [1.0]], "must rise"),
        ([0.1, 1.0], [[1.0]], "one list per rate"),
    ],
)
def test_grids_that_do_not_match_are_refused(lrs, losses, message):
    with pytest.raises(ValueError, match=message):
        tune(lrs, losses)


def test_many_grids_grow_until_no_best_rate_is_at_an_edge_and_no_rate_is_run_twice():
    best_at = {"inside": 0.1, "below": 0.003, "above": 3.0}
    asked = []

    def run(rates):
        asked.extend(rates)
        return {(key, lr): [abs(math.log(lr / best_at[key]))] * 2 for key, lr in rates}

    grid = (0.03, 0.1, 0.3)
    found = tune_all(dict.fromkeys(best_at, grid), run)
    assert {key: tuned.lr for key, tuned in found.items()} == best_at
    assert found["inside"].grid == grid
    assert found["below"].grid == (0.001, 0.003, 0.01, *grid)
    assert found["above"].grid == (*grid, 1.0, 3.0, 10.0)
    assert len(asked) == len(set(asked)) == 3 + 6 + 6
