"""The study's page: Markdown with pictures beside it, the same from the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lrpilot.bench.claims.findings import Findings
from lrpilot.bench.nmf.matrices import PASSES, SOURCES, STARTS, matrix
from lrpilot.bench.nmf.pictures import CAPTIONS, save_pictures
from lrpilot.bench.nmf.study import BATCH, SUITE
from lrpilot.bench.nmf.tables import tables

TITLE = "# NMF: schedules inside the bound"


def write_page(path: Path, findings: Findings, about: Mapping[str, str]) -> None:
    """Write the page to ``path`` and its pictures into the folder of that name beside it.

    about: command and versions.

    Raises ValueError if there is another file in its place.
    """
    if path.exists() and TITLE not in path.read_text(encoding="utf-8", errors="replace"):
        raise ValueError(f"{path} is there and is not a page of this study; choose another --page")
    save_pictures(findings, path.with_suffix(""))
    path.write_text(page_text(findings, about, path.stem), encoding="utf-8")


def page_text(findings: Findings, about: Mapping[str, str], folder: str) -> str:
    """The page as Markdown, a sentence a line; its pictures are in ``folder``."""
    decades, tuned, lost, admission = tables(findings)
    pictures = {
        name: f"![{caption}]({folder}/{name})\n\n{caption}" for name, caption in CAPTIONS.items()
    }
    sizes = [f"{name} {'×'.join(map(str, matrix(name)[0].shape))}" for name in SOURCES]
    ranks = ", ".join(f"{name} {rank}" for name, (_, rank) in SOURCES.items())
    return PAGE.format(
        title=TITLE,
        made_by="\n".join(f"- {name}: `{value}`" for name, value in sorted(about.items())),
        sizes=", ".join(sizes),
        ranks=ranks,
        steps=SUITE.total_steps,
        batch=BATCH,
        points=SUITE.response_points,
        anchor=f"{SUITE.centre:g}",
        starts=STARTS,
        passes=f"{PASSES:,}",
        decades=decades.markdown(),
        tuned=tuned.markdown(),
        lost=lost.markdown(),
        admission=admission.markdown(),
        responses=pictures["responses.svg"],
        rates=pictures["rates.svg"],
        parts=pictures["parts.svg"],
    )


PAGE = """\
{title}

This page is made from the committed rows, \
[`nmf.csv.gz`](../benchmarks/results/nmf.csv.gz); its last two pictures are of runs made for it.
The verdicts on what follows are among the [claims](claims.md): C7, N and K-clip.

{made_by}

## How

- Six matrices, a sample per column: {sizes}; ranks: {ranks}.
  `known` is of the task `nmf-known`, whose factors are known.
- Every run takes {steps} steps on minibatches of {batch} columns, as [the solver](nmf.md) does by \
default, but nothing is mended: what a rate does is seen.
- Kinds of noise: `minibatch` alone; and on top of it noise on every gradient, of half and of \
twice the first gradient's norm.
- {points} rates a of five decades around {anchor}, the solver's default.
  *Inside the bound*: a / L at the run's own start, clipped at 0.75 of the bound. \
*Absolute, clipped*: a / L of one start for all runs, clipped alike. *Absolute, not clipped*: the \
same, and taken as it is.
- Ten seeds, and two of their own for tuning. A seed decides start and minibatches, whatever the \
rate, the schedule and the clip.
- The loss is the share of ‖V‖² that a run leaves beyond what is attainable: scikit-learn's \
coordinate descent, {passes} passes, the best of {starts} starts.
- A run is *lost* if it ends above ‖V‖², where any scaled start is below, or is no number.
- Budget-equivalents and usable decades are those of [the protocol](protocol.md); the reference is \
linear decay inside the bound, tuned at a quarter, half, one and two budgets.

## Rates

{decades}

{responses}

Without the clip the range ends where the rate passes the bound; with it, it ends where a decay \
that starts far above the bound is cut off too late.
A constant rate is as usable as the bound itself is good: above the bound all its rates are one.
Strong noise on every gradient asks for rates far below the bound, so that the clip adds little \
to the range; it still keeps the loss finite.

## Each at its best rate

Tuned on two seeds, judged on ten, over the reference on the same seeds; geometric means over \
matrices, 95 % bootstrap intervals over matrices, then seeds.

{tuned}

## Lost runs

Of all rates, seeds and matrices.

{lost}

The bound keeps minibatch noise and half a gradient of noise from ending any run above its start.
It promises less under more: E f rises by ησ² at most in a step, and with noise of twice the first \
gradient the floor that this adds up to lies above the start if nothing anneals the rate.

## A look

{rates}

{parts}

## What cannot tell schedules apart

The numbers at the best rates, and those of the claims, are over the others.
The usable decades above are over all: a range of rates can be usable where schedules tie.

{admission}
"""
