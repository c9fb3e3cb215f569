"""Random states of factorisations, many at once, of every scale and shape that makes trouble."""

import numpy as np
import torch

from lrpilot.nmf.factors import Factors

SHAPE = (6, 9, 3)


def states(count, *, seed=0, shape=SHAPE, scales=True):
    """V, W and H of ``count`` problems: gamma entries, some zeros, sizes over six decades."""
    m, n, r = shape
    generator = torch.Generator().manual_seed(seed)

    def drawn(*size):
        uniform = torch.rand(count, *size, generator=generator, dtype=torch.float64)
        spread = 0.2 + 4 * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
        keep = torch.rand(count, *size, generator=generator) < 0.8
        return uniform**spread * keep

    V, W, H = drawn(m, n), drawn(m, r), drawn(r, n)
    if scales:
        decades = 6 * torch.rand(3, count, 1, 1, generator=generator, dtype=torch.float64) - 3
        V, W, H = (x * 10**d for x, d in zip((V, W, H), decades, strict=True))
    return V, Factors(W, H)


def loss(V, W, H):
    return (W @ H - V).square().sum((-2, -1)) / 2


def inner(a, b):
    return (a * b).sum((-2, -1))


def squared(a):
    return inner(a, a)


def example(m=15, n=40, rank=3, seed=0):
    """One matrix of the given rank but for noise."""
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, size=(m, rank)) @ rng.gamma(0.5, size=(rank, n)) + 0.1 * rng.random(
        (m, n)
    )
