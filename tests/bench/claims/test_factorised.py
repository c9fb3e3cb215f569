"""Claims on the NMF study, from rows whose truth is known."""

from claim_rows import SUITE
from lrpilot.bench.claims import Findings, evaluate, load_claims
from lrpilot.bench.nmf.study import ARMS, Job, Run, row
from lrpilot.bench.nmf.study import SUITE as NMF
from lrpilot.bench.suite import TUNING_SEEDS, grid

CENTRE = 10.0
SCHEDULES = ("constant", "step", "cosine", "linear", "greedy", "greedy-cooldown")


def rows(worth, *, lost=()):
    """Every schedule is worth what ``worth`` says at a = 10 and below; unclipped, nothing above.

    lost: families in which a run inside the bound is lost at the highest rate.
    """
    for task in NMF.tasks:
        for family in NMF.families:
            for arm in ARMS[::2]:
                for schedule in (
                    "constant",
                    "step",
                    "cosine",
                    "linear",
                    "greedy",
                    "greedy-cooldown",
                ):
                    reference = (schedule, arm) == ("linear", "bound")
                    for horizon in NMF.horizons if reference else (1.0,):
                        yield from runs(Job(task, family, 0), arm, schedule, horizon, worth, lost)


def runs(job, arm, schedule, horizon, worth, lost):
    lrs = grid(CENTRE, NMF.response_points)
    for lr in lrs:
        for seed in (*TUNING_SEEDS, *NMF.evaluation_seeds):
            value = worth.get(schedule, 1.0) * horizon * (1 if lr == CENTRE else 0.9)
            loss = value**-0.5 * (1 + 0.001 * (seed % 4) + 0.001 * len(job.task))
            gone = lr > CENTRE if arm == "unclipped" else job.family in lost and lr == lrs[-1]
            yield row(
                job._replace(seed=seed),
                arm,
                Run(schedule, lr, round(horizon * NMF.total_steps)),
                loss,
                lost=gone,
            )


def verdicts(found):
    findings = None if found is None else Findings(found, NMF)
    all_of_them = evaluate(load_claims(), Findings([], SUITE), nmf=findings)
    return {one.id: one for one in all_of_them}


def test_a_range_cut_off_without_the_bound_supports_the_claims_on_decades():
    found = verdicts(rows({"constant": 0.55, "greedy": 0.7}))
    for name in ("linear", "cosine", "greedy", "greedy-cooldown"):
        assert found[f"N-decades-{name}"].verdict == "supported"
        assert found[f"N-decades-{name}"].lost_by_comparators > 0 == found[f"N-decades-{name}"].lost
    assert found["K-clip-decades"].verdict == "supported"
    assert found["K-clip-tuned"].verdict == "supported"


def test_schedules_are_ranked_as_they_are_worth():
    found = verdicts(rows({"constant": 0.55, "greedy": 0.7, "greedy-cooldown": 1.2, "step": 0.5}))
    assert found["N-step"].verdict == "supported"
    assert found["N-linear"].verdict == found["N-cosine"].verdict == "refuted"
    assert found["N-linear-cooldown"].verdict == "supported"
    assert {name for name, _ in found["N-linear"].by_part} == set(NMF.families)


def test_lost_runs_refute_where_they_are_lost():
    found = verdicts(rows({"constant": 0.55}, lost=("noise-2",)))
    assert found["C7-minibatch"].verdict == "supported"
    assert found["C7-minibatch"].estimate == 0
    assert found["C7-noise"].verdict == "refuted"
    assert found["C7-noise"].lost > 0


def test_without_rows_nothing_is_tested_and_the_command_is_named():
    found = verdicts(None)
    assert {found[name].verdict for name in ("C7-noise", "N-step", "K-clip-tuned")} == {
        "not tested"
    }
    assert "lrpilot claims --study nmf" in found["N-step"].reason
