"""The page of a robustness study, made from its rows alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lrpilot.bench.robustness.pictures import save_pictures
from lrpilot.bench.robustness.rows import RobustnessRow
from lrpilot.bench.robustness.study import DESIGN, PLACEBO
from lrpilot.bench.robustness.summary import Summary, summarise
from lrpilot.bench.robustness.tables import (
    RESPECTS,
    bite_sheet,
    divergence_sheet,
    penalty_sheet,
    perturbation_sheet,
    recovery_sheet,
    standing_sheet,
    unselected_sheet,
)
from lrpilot.bench.sheet import Sheet, ratio

SPOKEN_OF = (
    "constant",
    "greedy",
    "greedy-untuned",
    "greedy-cooldown",
    "transformers-greedy",
    "linear",
)
TITLE = "# Robustness: do schedules stand perturbations?"
FALSE_SHARE = 0.025  # of each one-sided decision at a 95 % interval


def write_page(path: Path, rows: Iterable[RobustnessRow], about: Mapping[str, str]) -> None:
    """Write the page to ``path`` and its pictures beside it; equal rows make equal files.

    about: the command and versions, as `load_rows` returns them.

    Raises ValueError if there is another file in its place.
    """
    if path.exists() and TITLE not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{path} is there and is not a page of this study; choose another --page")
    summary = summarise(rows)
    save_pictures(summary, path.parent)
    path.write_text(page(summary, about), encoding="utf-8")


def page(summary: Summary, about: Mapping[str, str]) -> str:
    """The page as Markdown, one sentence per line."""
    admitted = sum(bite.admitted for bite in summary.bites)
    unselected = unselected_sheet(summary)
    standing_sheets = [standing_sheet(summary, *respect) for respect in RESPECTS]
    return PAGE.format(
        made_by="\n".join(f"- {name}: `{value}`" for name, value in sorted(about.items())),
        runs=f"{summary.runs:,}",
        further=f"{summary.further_runs:,}",
        optimizer=DESIGN.optimizer,
        steps=DESIGN.total_steps,
        points=DESIGN.tuning_points,
        tuning_seeds=len(DESIGN.tuning_seeds),
        admitted=admitted,
        bites=len(summary.bites),
        placebo=placebo_sentence(summary),
        short=short(summary),
        perturbations=perturbation_sheet(summary).markdown(),
        bite=bite_sheet(summary).markdown(),
        penalty=penalty_sheet(summary).markdown(),
        recovery=recovery_sheet(summary).markdown(),
        standings="\n\n".join(map(_under_heading, standing_sheets)),
        false_verdicts=f"{FALSE_SHARE * admitted:.1f}",
        unselected_title=unselected.title,
        unselected=unselected.markdown(),
        clipped=f"{summary.clipped:,}",
        divergence=divergence_sheet(summary).markdown(),
    )


def placebo_sentence(summary: Summary) -> str:
    """How many trajectories the placebo changed."""
    bites = [bite for bite in summary.bites if bite.perturbation.startswith(PLACEBO)]
    changed, runs = (
        sum(found) for found in zip(*((b.changed_of_all, b.runs) for b in bites), strict=True)
    )
    return (
        f"It changed {changed} of {runs:,} trajectories: every validation loss of every run is "
        f"that of its twin, bit for bit."
        if changed == 0
        else f"It changed {changed} of {runs:,} trajectories, which it must not: the engine is at "
        f"fault, and nothing on this page holds."
    )


def short(summary: Summary) -> str:
    """What the verdicts say of the schedules that read the loss, constant and linear."""
    lines = [f"- The published noise is a placebo. {placebo_sentence(summary)}"]
    kinds = (("admitted", "surprise"), ("admitted", "expected"), ("all", "expected"))
    for schedule in SPOKEN_OF:
        found = {
            (standing.cells, standing.track): standing
            for standing in summary.standings
            if (standing.schedule, standing.rival, standing.measure) == (schedule, "cosine", "loss")
        }
        if not set(kinds) <= set(found):
            continue
        parts = [
            f"{ratio(s.ratio)} ({ratio(s.low)}–{ratio(s.high)})" for s in map(found.get, kinds) if s
        ]
        lines.append(
            f"- `{schedule}` over cosine, final losses: {parts[0]} where the perturbation bites "
            f"and comes as a surprise; {parts[1]} where it bites and the rate was tuned under it; "
            f"{parts[2]} whether it bites or not, tuned under it."
        )
    return "\n".join(lines)


def _under_heading(sheet: Sheet) -> str:
    return f"### {sheet.title}\n\n{sheet.markdown()}"


PAGE = """\
# Robustness: do schedules stand perturbations?

This page is made from the committed rows, \
[`robustness.csv.gz`](../benchmarks/results/robustness.csv.gz), without training anything.

{made_by}

GreedyLR's authors report a study of 8,100 runs under nine noise conditions.
Their noise is a number added to the loss before the backward pass, whose gradient is zero, and \
their scheduler is stepped with the clean loss.
So the nine conditions are one, and the study shows nothing about noise.
This is a study of the same size with perturbations that reach the training: {runs} evaluation \
runs, \
and {further} further ones at rates tuned under the perturbation.

## In short

{short}

## How

- Every run takes {steps} steps of `{optimizer}` on one of five tasks.
- Seeds are paired: a seed decides start, data order and perturbation, whatever the schedule and \
its rate.
- Every schedule gets a rate of its own, the best of {points} half-decade rates by the median of \
{tuning_seeds} tuning seeds; the grid is extended while the best is at its edge.
- *Surprise*: the rate was tuned without the perturbation.
  Runs and their unperturbed twins have one rate, so that penalty and recovery are the \
perturbation's alone.
- *Expected*: the rate was tuned under the perturbation, as whoever knows the noise would.
  No schedule then wins because its rate happened to suit the noise.
- Final losses are of held-out data that neither training nor tuning has seen; on tasks whose \
loss is exact, they are excess losses.
- A run that diverged, or ended above where it began, counts with its loss before the first step, \
so that none is dropped.

Noise n in a gradient is that of a minibatch whose loss has one more term, nᵀ(x − x₀), x₀ where \
the run began.
So the loss that the schedule sees moves with it, and gradient and loss are of one function.

{perturbations}

## Which perturbations bite

A perturbation is admitted on a task only if it changes every trajectory of the reference \
schedule (`linear`, at its tuned rate) and its final loss by more than two standard deviations of \
the paired log ratios.
Noise in the signal alone cannot reach a schedule that does not read the loss; its reference is \
`transformers-greedy`.
Of {bites} pairs of perturbation and task, {admitted} are admitted (starred); all that follows is \
of these.
In parentheses: the mean log ratio, in deviations.

{bite}

The placebo is the published noise: a normal number added to the loss that is differentiated.
{placebo}

## Penalties

The final loss over the unperturbed twin's, as a geometric mean over admitted tasks and paired \
seeds.
In parentheses: 95 % bootstrap interval over tasks, then seeds; with so few tasks it errs on the \
narrow side.
A schedule whose unperturbed loss is low has more to lose: a small penalty is no merit by itself, \
see the verdicts on final losses.

{penalty}

![Penalty of each perturbation by schedule](robustness-penalties.svg)

## Recovery

After a perturbation that ends: the share of the budget until the runs are not shown to be worse \
than their unperturbed twins at any later evaluation.
Worse is shown where the one-sided 95 % t bound of the mean log ratio over the paired seeds is \
above 0.
The range is over admitted tasks; *never* is where they are shown to be worse at the end.

{recovery}

## Verdicts

Each cell is one task under one perturbation; the schedule's loss, or penalty, is divided by the \
rival's of the same seed.
A cell is *better* or *worse* if the 95 % paired t interval of the log ratio leaves out 0, and \
*identical* if all trajectories are the same bit for bit.
Of {admitted} cells with equal schedules, about {false_verdicts} would seem better and as many \
worse, by chance.
The ratio is the geometric mean over cells, with a bootstrap interval over tasks, then seeds.

{standings}

![Schedules over constant and cosine](robustness-standings.svg)

### {unselected_title}

The bite test admits the cells in which `linear` suffers, judged on the very seeds that are then \
compared.
So the tables above are tilted against `linear` and what is like it, such as `cosine`.
This one has no such selection: every cell but the placebo's, and the tasks without any \
perturbation.

{unselected}

## Diverged runs

{divergence}

## Limits

- The tasks are small and the runs short: {steps} steps, where the authors have 200, give a rule \
that waits for evidence little time.
- One optimizer, `{optimizer}`, as in the published study; momentum may differ.
- Strengths were set on other seeds than those evaluated.
  The bias of `drift` was lowered there: at twice the gradient's norm, losses ended 100 to 10¹³ \
times
  as high as without it.
- The study was run twice on the same seeds, and three things were changed after looking.
  Random steps are now an exact share of all; before, each was drawn by itself.
  Recovery was first where a run stays within 5 % of its own twin; nearly none did, since runs at a
  constant rate do not stay so near once noise has parted them.
  The table of all cells was added, since the bite test turned out to tilt the others.
- A wrong target of a task whose targets are numbers is a gross error, ten times their root mean \
square; on the landscapes the targets are the residuals' noise alone.
- {clipped} runs ended no better than they began; among these, schedules cannot be told apart.
- A penalty compares a schedule with itself, so it favours those that end high; the verdicts on \
final losses do not.
- Intervals of single cells are not corrected for their number.
"""
