"""Many trials as one tensor program are those trials."""

import math
from dataclasses import replace

import pytest
import torch

from lrpilot.bench import Plan, run_trial
from lrpilot.bench.batched.program import UPDATES, run_batch
from lrpilot.bench.batched.schedules import TWINS_PAY, Scales
from lrpilot.bench.engines.engine import Engine, batches
from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.schedules import Signal, named_schedule
from lrpilot.schedules.learned.policy import Action, as_tensors
from lrpilot.schedules.learned.tensor_file import write_tensors
from lrpilot.tasks import TASKS
from policies import random_policy, reading_policy

BATCHABLE = [name for name, task in TASKS.items() if task.batchable]


def trials(task="digits-mlp", *, schedules=("cosine",), seeds=2, steps=30, **settings):
    plan = Plan(tasks=[task], schedules=schedules, seeds=seeds, steps=steps, **settings)
    return [replace(trial, engine="batched") for trial in plan.trials]


def alone(trial):
    return run_trial(replace(trial, engine="single"), lambda share: None)


def losses(outcome):
    return [loss for _, loss in outcome.evaluations] + [outcome.test_loss]


@pytest.mark.parametrize("task", BATCHABLE)
def test_each_outcome_is_that_of_the_trial_alone(task):
    batch = trials(task, schedules=["linear", "constant", "learned"], steps=8)
    for trial, together in zip(batch, run_batch(batch), strict=True):
        single = alone(trial)
        assert together.status == single.status
        if together.status == "done":
            assert [step for step, _ in together.evaluations] == [
                step for step, _ in single.evaluations
            ]
            assert losses(together) == pytest.approx(losses(single), rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("optimizer", UPDATES)
def test_each_optimizer_is_the_one_of_single_runs(optimizer):
    torch.manual_seed(0)
    start = {"W": torch.randn(3, 4, 5).double(), "b": torch.randn(3).double()}
    lrs = torch.tensor([0.1, 0.01, 0.001]).double()
    ours = {name: value.clone() for name, value in start.items()}
    update = UPDATES[optimizer](ours)
    singles = [
        {name: value[row].clone().requires_grad_() for name, value in start.items()}
        for row in range(3)
    ]
    theirs = [
        OPTIMIZERS[optimizer](list(single.values()), float(lr))
        for single, lr in zip(singles, lrs, strict=True)
    ]
    for _ in range(20):
        gradients = {name: torch.randn_like(value) for name, value in start.items()}
        update.update(ours, gradients, lrs)
        for row, (single, optimizer_) in enumerate(zip(singles, theirs, strict=True)):
            for name, value in single.items():
                value.grad = gradients[name][row]
            optimizer_.step()
    for row, single in enumerate(singles):
        for name, value in single.items():
            assert torch.allclose(ours[name][row], value, rtol=1e-9, atol=1e-12)


def test_the_scales_are_those_of_each_schedule_and_rows_can_be_given_up():
    names = ["cosine", "greedy", "plateau", "greedy-cooldown", "wsd20", "transformers-greedy-eval"]
    rng = torch.Generator().manual_seed(0)
    schedules = [named_schedule(name, 60, 0.1) for name in names]
    scales, states = Scales(schedules, 60), [schedule.init() for schedule in schedules]
    rows = list(range(len(names)))
    for step in range(60):
        assert scales.current().tolist() == [states[row].scale for row in rows]
        if step == 40:
            rows = [0, 2, 3, 5]
            scales.keep(torch.tensor(rows))
        shown = torch.randn(len(rows), generator=rng, dtype=torch.float64) - step / 20
        evaluations = shown + 1 if step % 3 == 0 else None
        scales.update(shown, evaluations)
        for row, loss in zip(rows, shown.tolist(), strict=True):
            evaluation = math.nan if evaluations is None else loss + 1
            signal = Signal(loss, evaluation=evaluation)
            states[row] = schedules[row].update(states[row], signal)


def test_so_many_runs_that_the_twin_takes_over_decide_alike():
    schedule = named_schedule("greedy", 300)
    many = Scales([schedule] * TWINS_PAY, 300)
    assert many.twins
    state = schedule.init()
    seen = {state.scale}
    rng = torch.Generator().manual_seed(1)
    for step in range(300):
        loss = float(torch.randn((), generator=rng, dtype=torch.float64)) * 0.05 - step / 30
        state = schedule.update(state, Signal(loss))
        many.update(torch.full((TWINS_PAY,), loss, dtype=torch.float64), None)
        assert set(many.current().tolist()) == {state.scale}
        seen.add(state.scale)
    assert len(seen) > 1


def test_a_run_that_diverges_ends_as_it_does_alone_and_harms_no_other():
    batch = trials(schedules=["constant"], optimizers=["sgd"], lrs=[0.1, 1e30], steps=40)
    outcomes = dict(zip(batch, run_batch(batch), strict=True))
    healthy = {t: o for t, o in outcomes.items() if t.lr == 0.1}
    assert {o.status for o in healthy.values()} == {"done"}
    for trial, outcome in outcomes.items():
        single = alone(trial)
        assert outcome.status == single.status
        if trial.lr == 0.1:
            assert losses(outcome) == pytest.approx(losses(single), rel=1e-4)
        else:
            assert outcome.status == "diverged"
            assert outcome.validation_loss is None
            assert outcome.test_loss is None


def test_the_company_of_a_trial_makes_no_difference_beyond_rounding():
    batch = trials(schedules=["greedy", "constant"], seeds=3)
    together = run_batch(batch)
    apart = [run_batch([trial])[0] for trial in batch]
    for these, those in zip(together, apart, strict=True):
        assert losses(these) == pytest.approx(losses(those), rel=1e-4)


def test_the_same_batch_twice_is_the_same_bit_for_bit():
    batch = trials(schedules=["greedy", "cosine"])
    first, second = run_batch(batch), run_batch(batch)
    assert [losses(outcome) for outcome in first] == [losses(outcome) for outcome in second]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "digits-cnn"}, "cannot be batched"),
        ({"optimizer": "line-search"}, "optimizer line-search has no batched form"),
        ({"engine": "single"}, "has engine 'batched'"),
    ],
)
def test_what_cannot_be_batched_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        run_batch([replace(trials()[0], **change)])


def test_trials_of_two_kinds_are_no_batch():
    with pytest.raises(ValueError, match="one task, optimizer, budget and perturbation"):
        run_batch([trials()[0], trials(steps=31)[0]])


def test_batches_hold_every_trial_once_and_are_alike_within():
    mixed = [*trials(seeds=40, lrs=[0.1, 0.2, 0.3, 0.4]), *trials(steps=31), *trials("nmf-digits")]
    dealt = batches(mixed)
    assert sorted(t.key for batch in dealt for t in batch) == sorted(t.key for t in mixed)
    for batch in dealt:
        assert len({(t.task, t.total_steps) for t in batch}) == 1
    assert len(dealt) > 3


def test_worker_processes_finish_every_trial_and_a_failure_stays_in_its_batch():
    good = trials(steps=5)
    bad = [replace(trial, optimizer="line-search") for trial in good]
    with Engine(workers=2) as engine:
        outcomes = {event.trial: event.outcome for event in engine.run([*good, *bad])}
    assert {outcomes[trial].status for trial in good} == {"done"}
    assert {outcomes[trial].status for trial in bad} == {"failed"}
    assert all("no batched form" in outcomes[trial].error for trial in bad)


@pytest.mark.parametrize("task", ["digits-mlp", "nmf-digits"])
def test_a_policy_is_shown_gradients_and_weights_by_both_engines(tmp_path, task):
    calm = Action(size=0.2, limit=math.log(2))  # not into chaos, where rounding counts
    names = ["cosine"]
    for policy in (reading_policy(6, seed=1), random_policy(6, seed=1)):
        path = tmp_path / f"{policy.name}.safetensors"
        path.write_bytes(write_tensors(as_tensors(replace(policy, action=calm))))
        names.append(f"learned:{path}")
    batch = trials(task, schedules=names, steps=120, optimizers=["momentum"])
    highest = max(trial.lr for trial in batch)  # near to chaos all the same
    batch = [trial for trial in batch if trial.lr < highest]
    together = run_batch(batch)
    for trial, outcome in zip(batch, together, strict=True):
        assert losses(outcome) == pytest.approx(losses(alone(trial)), rel=1e-2)
    ends = {
        trial.schedule: outcome.test_loss for trial, outcome in zip(batch, together, strict=True)
    }
    assert len(set(ends.values())) == 3
