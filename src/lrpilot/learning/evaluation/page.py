"""The evaluation's page: Markdown with pictures beside it, the same from the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lrpilot.learning.evaluation.contest import CANDIDATES, GENERATIONS, GRID, KNOTS
from lrpilot.learning.evaluation.pictures import YARDSTICK, save_pictures
from lrpilot.learning.evaluation.sets import MATRICES, SEEDS, STARTS
from lrpilot.learning.guarded import SHARE

if TYPE_CHECKING:
    from lrpilot.learning.evaluation.evaluated import Evaluation

TITLES: Mapping[str, str] = {
    "nmf": "# Learned schedules for factorisations, judged",
    "net": "# Learned schedules for networks, judged",
}
WHAT: Mapping[str, str] = {
    "nmf": (
        "Factorisations inside the stability bound, a setting per set: {matrices} made matrices "
        "in each part, or {starts} starts of a real one. The measure is the share of ‖V‖² that is "
        "left. A base rate of × 1 is the solver's theory-only anchor, which is told how much noise "
        "is added to the gradients; no schedule is tuned for it."
    ),
    "net": (
        "Small networks on made data that no policy was trained or chosen on, some with four "
        "times the steps, larger ones, and tasks of the bench; the fresh problems and the larger "
        "networks had not been looked at before they were judged, the others had, while policies "
        "were designed; {tuning} seeds to tune on and {judged} others to judge. The measure is "
        "the loss on the test split; tuning reads validation alone. A base rate of × 1 is the "
        "best of cosine on a half-decade grid, so that × 0.1 and × 10 are wrong. The policies, "
        "their base and the replay have a guard, and are put back when they diverge, as "
        "`LearnedLR` does with `Snapshots`, of which a run has {snapshots}; tuned and fixed "
        "schedules run alone."
    ),
}


def write_page(path: Path, evaluation: Evaluation, about: Mapping[str, str]) -> None:
    """Write the page to ``path`` and its pictures into the folder of that name beside it.

    Raises ValueError if there is another file in its place.
    """
    title = TITLES[evaluation.kind]
    if path.exists() and title not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{path} is there and is no page of this kind; choose another --page")
    save_pictures(evaluation, path.with_suffix(""))
    path.write_text(page_text(evaluation, about, path.stem), encoding="utf-8")


def page_text(evaluation: Evaluation, about: Mapping[str, str], folder: str) -> str:
    """The page as Markdown, a sentence a line; its pictures are in ``folder``."""
    kind = evaluation.kind
    summary, times, sets, lost = evaluation.sheets()
    made_by = "\n".join(f"- {name}: `{value}`" for name, value in sorted(about.items()))
    what = WHAT[kind].format(
        matrices=MATRICES,
        starts=STARTS,
        tuning=len(SEEDS["tuning"]),
        judged=len(SEEDS["judged"]),
        snapshots=SHARE,
    )
    return PAGE.format(
        title=TITLES[kind],
        made_by=made_by,
        what=what,
        retreating=", which retreats as they do" if kind == "net" else "",
        without=" and without retreats" if kind == "net" else "",
        points=len(GRID[kind]),
        low=f"{GRID[kind][0]:.2g}",
        high=f"{GRID[kind][-1]:.2g}",
        knots=KNOTS,
        searched=CANDIDATES * GENERATIONS,
        summary=summary.markdown(),
        sets=sets.markdown(),
        times=times.markdown(),
        lost=lost.markdown(),
        yardstick=YARDSTICK[kind],
        folder=folder,
    )


PAGE = """\
{title}

{made_by}

## How

{what}

- *base*: the untuned base schedule from the same base rate, as the \
untrained policy{retreating}.
- *replay*: the policy's own mean trajectory over the tuning problems of that set and base rate, \
followed blindly{without}. What a policy is ahead of it is what adapting to each run \
is worth.
- *fixed*: the best fixed trajectory, {knots} knots between which the logarithm of the rate over \
the base's is straight, from a search of {searched} trajectories on the tuning problems.
- *tuned*: a schedule at the best of {points} rates, quarter decades from × {low} to × {high}, by \
the mean logarithm on the tuning problems.
- *oracle*: on each judged problem the best of all tuned schedules and rates on that very problem; \
nobody can have it.

A ratio is what the policies leave over what the control leaves, geometric mean over problems, \
then sets, then policies; below 1 the policies are ahead.
A run counts for a factor of e³ at most.
A win or a loss is a difference of more than 1 %.

## In short

{summary}

![left by the policies over left by {yardstick}, for each set and base rate]({folder}/sets.svg)

## Time

From which share of the horizon on a run under the policy stays at or below what its base schedule \
ends with, from the same base rate: the median over problems and policies, and the share of runs \
that get there at all.

{times}

## Learned schedules beside tuned ones

![rates over time]({folder}/schedules.svg)

The shipped policy: mean of the logarithm over runs, and their range.

## Set by set

{sets}

## Lost runs

{lost}
"""
