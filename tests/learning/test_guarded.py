"""Many guarded runs are braked and put back as `LearnedLR` with `Snapshots` does with one."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lrpilot.bench.batched.program import UPDATES
from lrpilot.bench.suite import OPTIMIZERS
from lrpilot.learning.episodes import Episodes
from lrpilot.learning.guarded import GuardedRuns, StackedSnapshots, snapshots_every
from lrpilot.learning.net_runs import runs_at
from lrpilot.learning.playing import under_offsets, under_schedules
from lrpilot.schedules import OpenLoop
from lrpilot.schedules.learned.policy import BASES
from lrpilot.tasks import find_task
from lrpilot.torch import LearnedLR, Snapshots
from policies import random_policy, reading_policy

STEPS = 200
COMPARED = 50  # beyond, runs at the edge of divergence blow rounding up
RATES = {"sgd": 0.5, "momentum": 0.1, "adamw": 0.02, "rmsprop": 0.02}


def one_by_one(task, optimizer, lr, policy):
    """Losses of a run in torch, and how often it was braked and had to retreat."""
    problem = task.problem(3)
    values = {name: nn.Parameter(x.clone()) for name, x in problem.parameters.items()}
    model = nn.ParameterList(values.values())
    stepping = OPTIMIZERS[optimizer](list(model), lr)
    snapshots = Snapshots(model, stepping, every=snapshots_every(STEPS))
    scheduler = LearnedLR(stepping, STEPS, policy=policy, snapshots=snapshots)
    losses, decided = [], {}
    for _ in range(COMPARED):
        loss = problem.loss(values, problem.draw())
        stepping.zero_grad()
        loss.backward()
        stepping.step()
        scheduler.step(loss)
        losses.append(loss.item())
        decided[scheduler.state.inner.decisions] = scheduler.state.inner.retreated
    return losses, scheduler.state.alarms, sum(decided.values())


@pytest.mark.filterwarnings("ignore:the loss set off the alarm")
@pytest.mark.parametrize("reads", [random_policy, reading_policy])
@pytest.mark.parametrize("optimizer", RATES)
def test_a_stack_is_braked_and_put_back_as_each_run_alone(optimizer, reads):
    task, policy = find_task("cancer-logreg"), reads(seed=13)
    lrs = [RATES[optimizer] * factor for factor in (0.1, 10.0, 1e4, 1e6)]
    runs = GuardedRuns(runs_at([task.problem(3)], lrs, optimizer=optimizer, total_steps=STEPS))
    episodes, losses, alarms, step = Episodes(runs, policy.base, policy.action), [], [], runs.step
    retreats = np.zeros(len(lrs))

    def recorded(scales):
        losses.append(step(scales))
        alarms.append([state.alarms for state in runs.states])
        return losses[-1]

    runs.step = recorded
    while not episodes.over:
        episodes.act(np.array([policy.act(tuple(seen)) for seen in episodes.observe()]))
        retreats += episodes.retreated & (episodes.step <= COMPARED)
    put_back = np.zeros(2)
    for at, lr in enumerate(lrs):
        curve, braked, retreated = one_by_one(task, optimizer, lr, policy)
        np.testing.assert_allclose([one[at] for one in losses[:COMPARED]], curve, rtol=2e-3)
        assert (alarms[COMPARED - 1][at], retreats[at]) == (braked, retreated)
        put_back += np.array([braked, retreated])
    assert put_back.all()
    assert not episodes.lost.any()


@pytest.mark.filterwarnings("ignore:the loss set off the alarm")
@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
@pytest.mark.parametrize("seed", range(3))
def test_stacked_snapshots_keep_and_put_back_what_snapshots_do(optimizer, seed):
    """Whatever the losses look like: rows of alarms beyond all attempts, and calm stretches."""
    rng, count, steps = np.random.default_rng(seed), 4, 250
    start = torch.from_numpy(rng.normal(size=(count, 3))).float()
    values = {"x": start.clone()}
    runs = SimpleNamespace(
        count=count, total_steps=steps, values=values, optimizer=UPDATES[optimizer](values)
    )
    stacked = StackedSnapshots(runs)
    models = [nn.ParameterList([row.clone()]) for row in start]
    singles = [OPTIMIZERS[optimizer](list(model), 0.01) for model in models]
    snapshots = [
        Snapshots(model, single, every=snapshots_every(steps))
        for model, single in zip(models, singles, strict=True)
    ]
    calm, outcomes = rng.random((steps // 50, count)) * 0.2, []
    for step in range(steps):
        gradient = torch.from_numpy(rng.normal(size=(count, 3))).float()
        runs.optimizer.update(values, {"x": gradient}, torch.full((count,), 0.01))
        alarms = rng.random(count) < calm[step // 50] * 0.5
        healthy = ~alarms & (rng.random(count) > calm[step // 50])
        stacked.observed(healthy, alarms)
        for at, (model, single) in enumerate(zip(models, singles, strict=True)):
            model[0].grad = gradient[at]
            single.step()
            found = snapshots[at].observed(
                step + 1, healthy=bool(healthy[at]), alarm=bool(alarms[at])
            )
            outcomes += [found.outcome] if found else []
            np.testing.assert_allclose(values["x"][at], model[0].detach(), atol=1e-5)
            assert stacked.accepted[at] == (
                -1 if (kept := snapshots[at].accepted) is None else kept
            )
    assert "restored" in outcomes
    if seed == 0:
        assert "exhausted" in outcomes


def test_a_run_that_was_put_back_is_not_lost_under_fixed_rates():
    """Nor under a schedule; what is left is the measure, as under a policy that does nothing."""
    task, base = find_task("cancer-logreg"), "warmup-linear"

    def guarded():
        runs = runs_at([task.problem(3)], [0.1, 0.1], optimizer="momentum", total_steps=STEPS)
        step, steps = runs.step, itertools.count()

        def struck(scales):
            """The second run's loss is not finite at one step."""
            losses = step(scales)
            losses[1] = np.inf if next(steps) == 60 else losses[1]
            return losses

        runs.step = struck
        return GuardedRuns(runs)

    runs = guarded()
    fixed = under_offsets(runs, base, np.zeros((STEPS, 1)))
    assert [state.alarms for state in runs.states] == [0, 1]
    scheduled = under_schedules(guarded(), [OpenLoop(BASES[base], STEPS)])
    runs = guarded()
    episodes = Episodes(runs, base, random_policy().action)
    while not episodes.over:
        episodes.act(np.zeros(2))
    assert np.isfinite(fixed).all()
    assert not episodes.lost.any()
    np.testing.assert_allclose(fixed[0], np.log(runs.measure()), rtol=1e-6)
    np.testing.assert_allclose(scheduled[0], fixed[0], rtol=1e-4)
