"""Whole factorisations at c times the bound, below and above it: safe up to c = 1, not beyond.

V 30 x 60 at rank 4, 500 steps, the bound recomputed at every step, neither clipping nor balancing,
median of 256 problems of f / (½‖V‖²). Prints the table of docs/nmf.md; 2 minutes on one core.
"""

import sys

import torch

from lrpilot.nmf import curvature
from lrpilot.nmf.factors import scaled, stepped

SHARES = (0.1, 0.25, 0.5, 0.75, 0.95, 1.1, 1.5, 2.0, 4.0)
BATCH = 8


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


def main():
    torch.set_num_threads(1)
    print("| c |", " | ".join(REGIMES), "|")
    print("|---|" + "---|" * len(REGIMES))
    for share in SHARES:
        cells = []
        for name, regime in REGIMES.items():
            print(share, name, file=sys.stderr)
            left = regime(256, 500, share)
            worse = (left > 1.01).double().mean().item()
            dead = ((left - 1).abs() < 1e-9).double().mean().item()
            notes = [f"{worse:.0%} worse than at the start"] * (worse > 0.01)
            notes += [f"{dead:.0%} dead"] * (dead > 0.01)
            cells.append(
                f"{left.median().item():.4f}" + (f" ({', '.join(notes)})" if notes else "")
            )
        print(f"| {share:g} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
