"""Whole factorisations at c times the bound, below and above it: safe up to c = 1, not beyond.

V 30 x 60 at rank 4, 500 steps, the bound recomputed at every step, neither clipping nor balancing;
640 problems up to the bound and 256 above. Prints the table of docs/nmf.md, medians of the share
f / (½‖V‖²) that is left, and keeps a row per run, which the claims read; 5 minutes on one core.
"""

import sys
from pathlib import Path

import torch

from lrpilot.bench.claims.stability import StabilityRow, save_rows
from lrpilot.nmf import curvature
from lrpilot.nmf.factors import scaled, stepped

SHARES = (0.1, 0.25, 0.5, 0.75, 0.95, 1.1, 1.5, 2.0, 4.0)
BATCH = 8
BELOW, ABOVE = 640, 256  # problems
RESULTS = Path(__file__).with_name("results") / "nmf_whole_runs.csv.gz"


def problems(count, *, heavy, seed=0):
    """V from known factors and noise, its columns of equal or very unequal size; and a start."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape):
        return torch.rand(count, *shape, generator=generator, dtype=torch.float64)

    W, H = drawn(30, 4) * (drawn(30, 4) < 0.6), drawn(4, 60) * (drawn(4, 60) < 0.6)
    if heavy:  # Pareto lengths, whose variance is infinite
        H = H * drawn(1, 60) ** (-1 / 1.5)
    V = W @ H
    noise = torch.randn(V.shape, generator=generator, dtype=torch.float64)
    V = (V + 0.1 * V.mean((-2, -1), keepdim=True) * noise).clamp(min=0)
    return V, scaled(V, drawn(30, 4), drawn(4, 60))


def joint(count, steps, share, *, noise):
    """Both factors at once at c · 2 / L~, with noise of ``noise`` times the first gradient."""
    V, (W, H) = problems(count, heavy=False)
    generator = torch.Generator().manual_seed(1)
    sizes = None
    for _ in range(steps):
        R = W @ H - V
        left = R.square().sum((-2, -1)).sqrt()
        lr = share * 2 / curvature.joint(W, H, left, reach=0.0, iterations=3)
        gradients = R @ H.mT, W.mT @ R
        if sizes is None:
            sizes = [g.square().mean((-2, -1), keepdim=True).sqrt() for g in gradients]
        W, H = (
            stepped(
                x, g + noise * size * torch.randn(g.shape, generator=generator, dtype=g.dtype), lr
            )
            for x, g, size in zip((W, H), gradients, sizes, strict=True)
        )
    return shares_left(V, W, H)


def columns(count, steps, share, *, heavy, sampled):
    """Two exact steps of H, then W from ``BATCH`` columns, at c · 2 / calL or at c · 2 / λmax."""
    V, (W, H) = problems(count, heavy=heavy)
    n = V.shape[-1]
    generator = torch.Generator().manual_seed(2)
    for _ in range(steps):
        for _ in range(2):
            lr = min(share, 0.5) * 2 / safe(curvature.block(W.mT, iterations=3))
            H = stepped(H, W.mT @ (W @ H - V), lr)
        sharpness = curvature.block(H, iterations=3)
        if sampled:
            sharpness = curvature.minibatch(
                sharpness, curvature.longest(H), size=n, batch=BATCH, replace=False
            )
        at = torch.randperm(n, generator=generator)[:BATCH]
        Hj = H[..., at]
        g = n / BATCH * (W @ Hj - V[..., at]) @ Hj.mT
        W = stepped(W, g, share * 2 / safe(sharpness))
    return shares_left(V, W, H)


def safe(sharpness):
    return sharpness.clamp_min(1e-300)


def shares_left(V, W, H):
    return (V - W @ H).square().sum((-2, -1)) / V.square().sum((-2, -1))


REGIMES = {
    "joint, exact": lambda *run: joint(*run, noise=0.0),
    "joint, noise": lambda *run: joint(*run, noise=0.5),
    "minibatch, 2/λmax": lambda *run: columns(*run, heavy=False, sampled=False),
    "minibatch, 2/calL": lambda *run: columns(*run, heavy=False, sampled=True),
    "heavy tails, 2/λmax": lambda *run: columns(*run, heavy=True, sampled=False),
    "heavy tails, 2/calL": lambda *run: columns(*run, heavy=True, sampled=True),
}


def rows_of(name, share):
    """One row per problem: more problems where the bound promises something."""
    print(share, name, file=sys.stderr)
    left = REGIMES[name](ABOVE if share > 1 else BELOW, 500, share)
    return [StabilityRow(name, share, at, value) for at, value in enumerate(left.tolist())]


def cell(rows):
    left = torch.tensor([row.left for row in rows], dtype=torch.float64)
    worse = sum(row.rose for row in rows) / len(rows)
    dead = ((left - 1).abs() < 1e-9).double().mean().item()
    notes = [f"{worse:.0%} worse than at the start"] * (worse > 0.01)
    notes += [f"{dead:.0%} dead"] * (dead > 0.01)
    return f"{left.median().item():.4f}" + (f" ({', '.join(notes)})" if notes else "")


def main():
    torch.set_num_threads(1)
    rows = [row for share in SHARES for name in REGIMES for row in rows_of(name, share)]
    about = {"command": "benchmarks/nmf_whole_runs.py", "torch": torch.__version__}
    save_rows(RESULTS, rows, about)
    print("| c |", " | ".join(REGIMES), "|")
    print("|---|" + "---|" * len(REGIMES))
    for share in SHARES:
        cells = [
            cell([row for row in rows if (row.regime, row.share) == (name, share)])
            for name in REGIMES
        ]
        print(f"| {share:g} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
