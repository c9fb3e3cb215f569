"""Perturbations reach what they name, when they say, alike for all runs of a seed."""

import math
from dataclasses import replace

import pytest
import torch

from lrpilot.bench.batched.program import run_batch
from lrpilot.bench.perturbations import PERTURBATIONS, Moment
from lrpilot.bench.stages import Method

STEPS = 40
REAL = [name for name in PERTURBATIONS if name and not name.startswith("placebo")]
AT_THE_GRADIENT = [
    *("gradient-noise-0.5", "gradient-noise-1", "gradient-noise-3", "periodic-spikes"),
    *("random-spikes", "burst", "drift", "oscillation", "adversarial"),
]
# The first step that each of the rest disturbs, of `STEPS`.
BEGINS = {
    "plateau": 13,
    "burst": 21,
    "bad-batches": 9,
    "distribution-shift": 21,
    "weight-kick": 24,
    "rate-shock": 25,
}


def trials(perturbation, task="logreg-stream", *, schedules=("linear",), seeds=(0, 1), lr=0.1):
    return [
        replace(Method(task, "adam", schedule, STEPS).trial(lr, seed), perturbation=perturbation)
        for schedule in schedules
        for seed in seeds
    ]


def curves(batch):
    return [outcome.evaluations for outcome in run_batch(batch)]


def made(name, seeds=(0, 1), steps=STEPS):
    return PERTURBATIONS[name].make(seeds, steps)


def moment(step, seed_of=(0, 1)):
    return Moment(step, torch.tensor(seed_of))


def at_gradient(perturbation, step, seed_of=(0, 1), scale=1.0):
    """Losses, gradients and values before and after, for a row per entry of ``seed_of``."""
    generator = torch.Generator().manual_seed(0)
    gradient = scale * torch.randn(1, 50, generator=generator).expand(len(seed_of), 50)
    values = {"x": torch.ones(len(seed_of), 50) * step}
    losses = torch.full((len(seed_of),), 2.0, dtype=torch.float64)
    seen, found = perturbation.gradients(losses, {"x": gradient}, values, moment(step, seed_of))
    return seen - losses, found["x"] - gradient, gradient


@pytest.mark.parametrize("task", ["logreg-stream", "rosenbrock"])
@pytest.mark.parametrize("name", [name for name in REAL if name != "signal-noise"])
def test_the_trajectory_changes_bitwise_from_the_disturbed_step_on_and_not_before(name, task):
    batches = [trials(perturbation, task) for perturbation in ("", name)]
    for clean, disturbed in zip(*map(curves, batches), strict=True):
        different = [step for (step, a), (_, b) in zip(clean, disturbed, strict=True) if a != b]
        begins = BEGINS.get(name, 1)
        assert different
        assert different[0] >= begins
        if name in BEGINS:
            assert different[0] <= begins + 3
        assert different[-1] == STEPS


def test_noise_in_the_signal_reaches_the_schedules_that_read_it_and_no_others():
    schedules = ("linear", "transformers-greedy")
    clean, disturbed = (
        run_batch(trials(name, schedules=schedules, seeds=(0,))) for name in ("", "signal-noise")
    )
    assert disturbed[0].evaluations == clean[0].evaluations
    assert disturbed[1].evaluations != clean[1].evaluations


@pytest.mark.parametrize("task", ["logreg-stream", "digits-mlp"])
def test_the_placebo_changes_no_bit_whatever_the_schedule(task):
    schedules = ("linear", "greedy", "transformers-greedy")
    clean, placebo = (
        run_batch(trials(name, task, schedules=schedules)) for name in ("", "placebo-gaussian")
    )
    for one, other in zip(clean, placebo, strict=True):
        assert one.evaluations == other.evaluations
        assert one.test_loss == other.test_loss


def test_the_placebo_adds_a_number_to_the_loss_that_is_differentiated():
    placebo = made("placebo-gaussian")
    losses = torch.ones(2)
    first, second = (placebo.objective(losses, moment(step)) for step in (1, 2))
    assert not bool((first == losses).any())
    assert not bool((first == second).any())
    assert bool((placebo.signal(losses, moment(2)) == losses).all())


@pytest.mark.parametrize("name", REAL)
def test_schedules_of_one_seed_are_disturbed_alike(name):
    """In so few steps GreedyLR moves no rate: any difference is the noise's."""
    first, second, other = curves(
        [
            *trials(name, schedules=("constant", "greedy-untuned"), seeds=(3,), lr=1e-3),
            *trials(name, seeds=(4,), lr=1e-3),
        ]
    )
    assert first == second
    assert first != other


@pytest.mark.parametrize("name", REAL)
def test_a_run_does_not_depend_on_its_company(name):
    """Neither on other schedules, nor on other seeds; up to rounding of matrix products."""
    together = trials(name, schedules=("linear", "transformers-greedy"), seeds=(0, 1, 2))
    of_all = dict(zip(together, run_batch(together), strict=True))
    for trial in (together[1], together[5]):
        (alone,) = run_batch([trial])
        assert [loss for _, loss in alone.evaluations] == pytest.approx(
            [loss for _, loss in of_all[trial].evaluations], rel=1e-3
        )


@pytest.mark.parametrize("name", AT_THE_GRADIENT)
def test_noise_of_a_seed_does_not_depend_on_the_other_seeds(name):
    both, alone = made(name, seeds=(5, 6)), made(name, seeds=(6,))
    for step in range(1, STEPS + 1):
        _, noise, _ = at_gradient(both, step)
        _, noise_alone, _ = at_gradient(alone, step, seed_of=(0,))
        assert torch.equal(noise[1], noise_alone[0])


@pytest.mark.parametrize("name", AT_THE_GRADIENT)
def test_noise_in_the_gradient_scales_with_it_and_moves_the_loss_as_a_linear_term_does(name):
    small, large = made(name), made(name)
    sizes = []
    for step in range(1, STEPS + 1):
        loss, noise, gradient = at_gradient(small, step)
        _, larger, _ = at_gradient(large, step, scale=1000.0)
        assert torch.allclose(1000 * noise, larger, rtol=1e-3, atol=1e-3)
        travelled = step - 1.0  # at step 1 all values are 1
        assert loss.tolist() == pytest.approx((noise.sum(1) * travelled).tolist(), abs=1e-3)
        sizes.append(noise[0].norm() / gradient[0].norm())
    share_disturbed = sum(size > 1e-6 for size in sizes) / STEPS
    expected = {
        **{"periodic-spikes": 0.5, "random-spikes": 0.05, "burst": 0.1, "adversarial": 0.25},
        "oscillation": 0.5,  # every other step is one of its zeros
    }
    assert share_disturbed == pytest.approx(expected.get(name, 1.0))
    if name.startswith("gradient-noise"):
        assert math.fsum(sizes) / STEPS == pytest.approx(float(name.split("-")[-1]), rel=0.1)


@pytest.mark.parametrize("name", [name for name in AT_THE_GRADIENT if name != "adversarial"])
def test_rows_of_a_seed_get_the_same_noise_and_rows_of_two_seeds_do_not(name):
    perturbation = made(name)
    differ = False
    for step in range(1, STEPS + 1):
        _, noise, _ = at_gradient(perturbation, step, seed_of=(0, 0, 1))
        assert torch.equal(noise[0], noise[1])
        differ |= not torch.equal(noise[1], noise[2])
    assert differ


def test_an_adversary_turns_the_gradient_round():
    perturbation = made("adversarial")
    turned = 0
    for step in range(1, STEPS + 1):
        _, noise, gradient = at_gradient(perturbation, step)
        for row in (0, 1):
            if noise[row].any():
                assert torch.allclose(gradient[row] + noise[row], -gradient[row], atol=1e-5)
                turned += 1
    assert 0.1 < turned / (2 * STEPS) < 0.4


def test_a_plateau_is_flat_in_slope_and_loss_also_after_rows_were_given_up():
    perturbation = made("plateau")
    gradients, values = {"x": torch.ones(3, 4)}, {"x": torch.ones(3, 4)}

    def seen(losses, step, seed_of):
        losses = torch.tensor(losses, dtype=torch.float64)
        rows = {name: value[: len(losses)] for name, value in gradients.items()}
        shown, found = perturbation.gradients(losses, rows, values, moment(step, seed_of))
        return shown.tolist(), float(found["x"].max())

    assert seen([5.0, 6.0, 7.0], 12, (0, 0, 1)) == ([5.0, 6.0, 7.0], 1.0)
    assert seen([4.0, 5.0, 6.0], 13, (0, 0, 1))[0] == [4.0, 5.0, 6.0]
    perturbation.keep(torch.tensor([0, 2]))
    shown, slope = seen([3.0, 5.0], 14, (0, 1))
    assert shown == pytest.approx([3.99, 5.99])
    assert slope == pytest.approx(0.01)
    assert seen([3.0, 5.0], 21, (0, 1)) == ([3.0, 5.0], 1.0)


def test_wrong_labels_come_from_other_rows_and_wrong_numbers_are_gross():
    inputs = torch.zeros(2, 1000, 3)
    labels = torch.arange(1000).repeat(2, 1) % 10
    *_, wrong = made("label-noise").batch((inputs, labels), moment(1))
    assert wrong.dtype == labels.dtype
    assert 0.15 < (wrong != labels).float().mean() < 0.21  # a tenth of the draws is right
    assert not torch.equal(wrong[0], wrong[1])
    numbers = torch.full((2, 1000), 0.5)
    *_, wrong = made("label-noise").batch((inputs, numbers), moment(1))
    errors = (wrong - numbers)[wrong != numbers]
    assert 0.15 < len(errors) / 2000 < 0.25
    assert float(errors.std()) == pytest.approx(5.0, rel=0.15)


def test_bad_batches_are_wrong_throughout_for_three_steps_at_four_fifths():
    perturbation = made("bad-batches", steps=50)
    batch = (torch.zeros(2, 8, 3), torch.ones(2, 8) / 2)
    disturbed = [
        step
        for step in range(1, 51)
        if not torch.equal(perturbation.batch(batch, moment(step))[1], batch[1])
    ]
    assert disturbed == [11, 12, 13, 21, 22, 23, 31, 32, 33, 41, 42, 43]
    assert PERTURBATIONS["bad-batches"].ends(50) == 43


def test_the_distribution_shifts_feature_by_feature_from_half_of_the_budget_on():
    perturbation = made("distribution-shift")
    batch = (torch.ones(2, 8, 3), torch.zeros(2, 8, dtype=torch.long))
    assert perturbation.batch(batch, moment(20)) is batch
    (inputs, labels), (again, _) = (perturbation.batch(batch, moment(step)) for step in (21, 40))
    assert torch.equal(inputs, again)
    assert torch.equal(labels, batch[1])
    assert torch.equal(inputs[:, 0], inputs[:, 7])
    assert len(set(inputs[0, 0].tolist())) == 3
    assert not torch.equal(inputs[0], inputs[1])


def test_a_kick_moves_each_tensor_by_a_twentieth_of_its_norm_once():
    perturbation = made("weight-kick")
    values = {"W": torch.full((2, 30, 40), 3.0), "b": torch.zeros(2, 5)}
    before = values["W"].clone()
    for step in range(1, STEPS + 1):
        perturbation.values(values, moment(step))
        if step == 23:
            assert torch.equal(values["W"], before)
    moved = (values["W"] - before).flatten(1).norm(dim=1) / before.flatten(1).norm(dim=1)
    assert moved.tolist() == pytest.approx([0.05, 0.05], rel=0.05)
    assert not values["b"].any()


def test_a_shock_is_ten_times_the_rate_for_twenty_steps():
    perturbation = made("rate-shock", steps=100)
    lrs = torch.tensor([0.1, 0.2])
    factors = [
        float((perturbation.rates(lrs, moment(step)) / lrs).mean()) for step in range(1, 101)
    ]
    assert [step for step, factor in enumerate(factors, 1) if factor != 1] == list(range(61, 81))
    assert set(factors) == {1.0, 10.0}


def test_noise_in_the_signal_is_half_of_its_size():
    perturbation = made("signal-noise")
    losses = torch.tensor([2.0, -4.0], dtype=torch.float64)
    seen = torch.stack([perturbation.signal(losses, moment(step)) for step in range(2000)])
    assert seen.mean(0).tolist() == pytest.approx([2.0, -4.0], rel=0.05)
    assert seen.std(0).tolist() == pytest.approx([1.0, 2.0], rel=0.05)


def test_a_run_that_diverges_under_a_perturbation_harms_no_other():
    task = "rosenbrock"
    batch = [*trials("plateau", task), *trials("plateau", task, seeds=(0,), lr=1e30)]
    outcomes = run_batch(batch)
    alone = run_batch(batch[:2])
    assert [outcome.status for outcome in outcomes] == ["done", "done", "diverged"]
    for one, other in zip(outcomes[:2], alone, strict=True):
        assert one.test_loss == pytest.approx(other.test_loss, rel=1e-3)


@pytest.mark.parametrize("name", ["label-noise", "bad-batches", "distribution-shift"])
def test_a_perturbation_that_does_not_apply_says_so(name):
    with pytest.raises(ValueError, match=rf"{name} does not apply to this task.*int64"):
        run_batch(trials(name, "nmf-digits"))


def test_an_unknown_perturbation_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="label-noise"):
        run_batch(trials("label-nose"))
