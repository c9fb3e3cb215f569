"""The matrix with known factors: whether they are found can be told."""

import numpy as np
import pytest
import torch

from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.nmf import StochasticNMF
from lrpilot.tasks import find_task
from lrpilot.tasks.known_factors import FEATURES, RANK, known_factors, recovery

TASK = find_task("nmf-known")


def test_the_known_parts_are_recovered_whatever_their_order_and_lengths():
    H = known_factors().H
    rows = torch.randperm(RANK, generator=torch.Generator().manual_seed(0))
    assert recovery(H[rows] * torch.arange(1, RANK + 1)[:, None]) == pytest.approx(1.0)
    assert recovery(torch.cat([torch.ones(3, FEATURES), H])) == pytest.approx(1.0)


def test_a_part_that_is_missing_or_found_twice_counts_once():
    H = known_factors().H.clone()
    H[0] = H[1]
    assert recovery(H) < 1 - 0.5 / RANK
    assert recovery(torch.zeros(RANK, FEATURES)) == 0


def test_samples_are_not_parts():
    rows = known_factors().V["train"]
    drawn = np.random.default_rng(0).choice(len(rows), size=(20, RANK))
    assert np.mean([recovery(rows[torch.from_numpy(at)]) for at in drawn]) < 0.75


def test_the_parts_differ_from_what_is_seen_by_little_noise_only():
    known = known_factors()
    for part, n in (("train", 600), ("validation", 150), ("test", 150)):
        assert known.V[part].shape == known.clean[part].shape == (n, FEATURES)
        assert known.V[part].min() == 0
        noise = (known.V[part] - known.clean[part]).square().sum() / known.clean[
            part
        ].square().sum()
        assert 1e-3 < noise < 5e-3


def test_training_finds_the_parts_and_is_judged_by_what_is_true():
    run = TASK.start(0, OPTIMIZERS["adamw"])
    before = recovery(run.values["H"])
    first = run.evaluate()
    for step in range(TASK.total_steps):
        run.step(0.3 * (1 - step / TASK.total_steps))
    assert before < 0.8 < 0.97 < recovery(run.values["H"])
    assert run.evaluate() < 0.1 * first


def test_the_estimator_finds_the_parts_untuned():
    model = StochasticNMF(RANK, random_state=0).fit(known_factors().V["train"].numpy())
    assert recovery(torch.from_numpy(model.components_)) > 0.99
