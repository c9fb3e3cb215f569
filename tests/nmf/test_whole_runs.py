"""Whole runs at c times the bound, as benchmarks/nmf_whole_runs.py has them, on fewer problems."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "nmf_whole_runs.py"
SPEC = importlib.util.spec_from_file_location("nmf_whole_runs", PATH)
whole_runs = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(whole_runs)

RUN = 24, 150  # problems, steps


@pytest.mark.parametrize("name", ["joint, exact", "minibatch, 2/calL", "heavy tails, 2/calL"])
@pytest.mark.parametrize("share", [0.5, 0.95])
def test_up_to_the_bound_every_run_ends_far_below_its_start(name, share):
    assert whole_runs.REGIMES[name](*RUN, share).max() < 0.1


def test_up_to_the_bound_noise_keeps_no_run_above_its_start():
    assert whole_runs.REGIMES["joint, noise"](*RUN, 0.95).max() < 0.5


def test_above_the_bound_runs_oscillate_above_their_start_or_die():
    joint = whole_runs.REGIMES["joint, exact"]
    assert joint(*RUN, 1.5).median() > 10 * joint(*RUN, 0.95).median()
    assert joint(*RUN, 2.0).min() > 0.1
    dead = (joint(*RUN, 4.0) - 1).abs() < 1e-9
    assert dead.double().mean() > 0.8


@pytest.mark.parametrize(("columns", "times"), [("minibatch", 1.3), ("heavy tails", 5)])
def test_the_bound_for_exact_gradients_is_no_bound_for_minibatches(columns, times):
    exact = whole_runs.REGIMES[f"{columns}, 2/λmax"](*RUN, 0.95)
    sampled = whole_runs.REGIMES[f"{columns}, 2/calL"](*RUN, 0.95)
    assert exact.median() > times * sampled.median()
