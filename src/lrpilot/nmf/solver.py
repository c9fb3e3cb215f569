"""Projected stochastic gradient descent on V ~ WH, at a rate that cannot leave its stable range."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lrpilot.nmf import curvature, health
from lrpilot.nmf.factors import Factors, balanced, random_start, stepped
from lrpilot.nmf.health import Repair
from lrpilot.nmf.minibatches import Columns, Entries, column_batches
from lrpilot.nmf.rates import Rate, Settings, clipped_rate, inverse
from lrpilot.nmf.sparse import Matrix, Sparse, columns_of, squared_norm
from lrpilot.nmf.spread import Spread

RESEEDS = 3  # times that vanished components are given another chance


class Record(NamedTuple):
    """What a step did: each (...)."""

    loss: Tensor
    """Share of ‖V‖² that the minibatch leaves, scaled to all of V, when W is about to step."""
    lr: Tensor
    """Rate of W, for the gradient of ½‖V − WH‖²."""
    bound: Tensor
    """The largest stable rate of W at that moment."""


class Solver:
    """V ~ WH, one step at a time; whoever calls ``step`` decides the scale of the rate.

    V: (..., m, n) with entries >= 0: a tensor or, without leading dimensions, a `Sparse`. Problems
        along the leading dimensions are solved at once, as one tensor program; they draw the same
        columns or entries.
    start: W (..., m, r) and H (..., r, n); leading dimensions that V lacks are further runs on it.
    rng: minibatches, noise and repairs come from it.
    mask: (..., m, n) of bool; entries where it is False do not count. With entries as units it is
        (m, n), and of a sparse V only the stored entries count.

    After every ``period`` steps the factors are balanced, and what went wrong is mended and entered
    in ``repairs``, if the settings want that. A period is a pass over V; or, with entries, as many
    steps as V has rows and columns.
    """

    def __init__(
        self,
        V: Matrix,
        start: Factors,
        settings: Settings,
        rng: np.random.Generator,
        *,
        mask: Tensor | None = None,
    ) -> None:
        if isinstance(V, Sparse) and mask is not None:
            raise ValueError(
                "a sparse V takes no mask; with entries as units the stored ones count"
            )
        if mask is not None and mask.ndim > 2 and settings.units == "entries":
            raise ValueError(
                f"entries are drawn for all problems at once, so that mask must be (m, n), got "
                f"{tuple(mask.shape)}; draw columns, which take a mask for each problem"
            )
        if settings.shared_noise and len(start.W.shape) < 3:
            raise ValueError("shared_noise is for a stack of problems; V has no leading dimension")
        self.V, self.mask, self.settings = V, mask, settings
        self.W, self.H = balanced(*start)
        self.records: list[Record] = []
        """Of each step; whoever does not need them all may keep the last ``period``."""
        self.steps = 0
        self.repairs: list[Repair] = []
        m, n = V.shape[-2:]
        self._entries = Entries.known(V, mask) if settings.units == "entries" else None
        self._count = n if self._entries is None else len(self._entries)
        if mask is not None and not bool(mask.any()):
            raise ValueError("the mask hides every entry of V, so there is nothing to factorise")
        if self._count == 0:
            raise ValueError("a sparse V that stores nothing has no entries to draw; draw columns")
        self._batch = (
            self._count if settings.units == "all" else min(int(settings.batch), self._count)
        )
        self.period = math.ceil((n if self._entries is None else m + n) / self._batch)
        self._rng = rng
        self._generator = torch.Generator(V.device).manual_seed(int(rng.integers(2**62)))
        self._draws = column_batches(n, self._batch, rng)
        self._W_spread, self._H_spread = Spread(self.W.mT), Spread(self.H)
        self.squared_norm, self._size = self._measures()
        self._ceiling = torch.full_like(self.squared_norm, settings.ceiling)
        self._anchors = self._curvature_of_W(self._batch), self._curvature_of_H()
        self._noise = self._noise_sizes() if settings.noise else None
        # Factors are known to be healthy only when the losses of the steps from there are.
        self._healthy = self._latest = Factors(self.W.clone(), self.H.clone())
        self._first = self.loss()
        self._reseeds = 0
        self.gradient: Tensor | None = None
        """The last in W: (..., m, r), with its noise; None before the first, and with entries,
        which touch other rows each time."""

    def step(self, scale: Tensor | float = 1.0) -> Tensor:
        """Take one step at ``scale``, a number or one per problem (...), of the base rate.

        Returns the loss of its minibatch, as `Record` has it: (...).
        """
        if self._entries is not None:
            record = self._step_entries(self._entries, scale)
        else:
            at = next(self._draws)
            move = self._step_together if self.settings.simultaneous else self._step_in_turn
            record = move(at, scale)
        self.records.append(record)
        self.steps += 1
        if self.steps % self.period == 0:
            if self.settings.mends:
                self._mend()
            self._balance()
        return record.loss

    def loss(self) -> Tensor:
        """The share of ‖V‖² that WH leaves, over all entries that count: (...)."""
        if self._entries is not None:
            return self._share(self._entries.residual(self.W, self.H).square().sum(-1))
        seen = Columns.beside(self.V, self.W, self.W.mT @ self.W, self.mask)
        return self._share(seen.left(self.H))

    def history(self) -> Record:
        """All steps so far, along the first dimension: (steps, ...)."""
        if not self.records:
            return Record(*(self.squared_norm[None][:0],) * 3)
        return Record(*(torch.stack(kept) for kept in zip(*self.records, strict=True)))

    def _step_in_turn(self, at: Tensor, scale: Tensor | float) -> Record:
        seen, weight = self._seen(at), self.H.shape[-1] / len(at)
        old = new = self.H[..., at]
        sharpness = self._curvature_of_H()
        if self.settings.noise:
            lr = self._rate(scale, self._anchors[1], sharpness).lr
        else:
            # Of the columns drawn this gradient is exact, so that it needs no annealing: half of
            # the bound is the best guaranteed rate (T1).
            lr = inverse(sharpness)
        for _ in range(self.settings.h_steps):
            new = stepped(new, self._noisy(seen.gradient_in_H(new), 1), lr, self.settings.cap)
        self._move_H(at, old, new)
        left = weight * seen.left(new)
        rate = self._rate(scale, self._anchors[0], self._curvature_of_W(len(at)))
        self._move_W(self._noisy(weight * seen.gradient_in_W(new), 0), rate.lr)
        return Record(self._share(left), *rate)

    def _step_together(self, at: Tensor, scale: Tensor | float) -> Record:
        """Both factors down the minibatch's own loss, which cannot rise (T4)."""
        seen, weight = self._seen(at), self.H.shape[-1] / len(at)
        old = self.H[..., at]
        left = seen.left(old)
        gW, gH = self._noisy(seen.gradient_in_W(old), 0), self._noisy(seen.gradient_in_H(old), 1)
        sharpness = self._joint_curvature(old, left.sqrt(), gW, gH)
        # Nor can the error of W grow in mean square (T3).
        sharpness = torch.maximum(sharpness, self._curvature_of_W(len(at)) / weight)
        anchor = self._anchors[0] / weight + self._anchors[1]
        rate = self._rate(scale, anchor, sharpness)
        self._move_H(at, old, stepped(old, gH, rate.lr, self.settings.cap))
        self._move_W(gW, rate.lr)
        return Record(self._share(weight * left), rate.lr / weight, rate.bound / weight)

    def _step_entries(self, entries: Entries, scale: Tensor | float) -> Record:
        at = torch.from_numpy(self._rng.integers(self._count, size=self._batch)).to(self.V.device)
        drawn, weight = entries.chosen(at), self._count / self._batch
        cap = self.settings.cap
        columns, g = drawn.gradient_in_H(self.W, drawn.residual(self.W, self.H))
        lr = self._rate(scale, self._anchors[1], self._curvature_of_H()).lr
        old = self.H[..., columns]
        self._move_H(columns, old, stepped(old, self._noisy(weight * g, 1), lr, cap))
        residual = drawn.residual(self.W, self.H)
        rows, g = drawn.transposed().gradient_in_H(self.H.mT, residual)
        rate = self._rate(scale, self._anchors[0], self._curvature_of_W(self._batch))
        old = self.W.mT[..., rows]
        new = stepped(old, self._noisy(weight * g, 0), rate.lr, cap)
        self.W.index_copy_(-2, rows, new.mT)
        self._W_spread.move(rows, old, new)
        return Record(self._share(weight * residual.square().sum(-1)), *rate)

    def _seen(self, at: Tensor) -> Columns:
        V, mask = columns_of(self.V, at), self.mask
        return Columns.beside(
            V, self.W, self._W_spread.gram, None if mask is None else mask[..., at]
        )

    def _move_H(self, at: Tensor, old: Tensor, new: Tensor) -> None:
        self.H.index_copy_(-1, at, new)
        self._H_spread.move(at, old, new)

    def _move_W(self, gradient: Tensor, lr: Tensor) -> None:
        self.gradient = gradient
        self.W = stepped(self.W, gradient, lr, self.settings.cap)
        self._W_spread.refresh(self.W.mT)

    def _rate(self, scale: Tensor | float, anchor: Tensor, sharpness: Tensor) -> Rate:
        return clipped_rate(
            self.settings, scale, anchor=anchor, sharpness=sharpness, ceiling=self._ceiling
        )

    def _curvature_of_W(self, batch: int) -> Tensor:
        replace = self._entries is not None
        return self._H_spread.sampled(size=self._count, batch=batch, replace=replace)

    def _curvature_of_H(self) -> Tensor:
        if self._entries is None:
            return self._W_spread.top()
        return self._W_spread.sampled(size=self._count, batch=self._batch, replace=True)

    def _joint_curvature(self, H: Tensor, residual: Tensor, gW: Tensor, gH: Tensor) -> Tensor:
        top = curvature.block(H, iterations=4)
        s2 = self._W_spread.top() + top
        length = (gW.square().sum((-2, -1)) + gH.square().sum((-2, -1))).sqrt()
        # Below 2 / (s² + ‖R‖) no step is longer than this, as in the proof of T5.
        reach = 2 * length / (s2 + residual).clamp_min(torch.finfo(s2.dtype).tiny)
        if self.settings.cap is not None:
            m, rank = self.W.shape[-2:]
            most = curvature.reach(m, H.shape[-1], rank, self.settings.cap)
            reach = reach.clamp(max=most)
        return (s2.sqrt() + reach / 2).square() + residual

    def _mend(self) -> None:
        """Mend what went wrong in the last pass."""
        loss = torch.stack([record.loss for record in self.records[-self.period :]]).mean(0)
        wild = health.oscillates(loss, self._first)
        gone = health.dead(self.W, self.H, self._size)
        lost = health.dead_components(self.W, self.H, self._size)
        if bool((wild | gone).any()):
            safe = self._healthy
            fresh = health.chosen(health.dead(*safe, self._size), self._fresh(), safe)
            self.W, self.H = health.chosen(wild | gone, fresh, Factors(self.W, self.H))
            self._ceiling = torch.where(wild, self._ceiling / 2, self._ceiling)
            self._report("oscillation", wild)
            self._report("dead factors", gone)
        elif self._reseeds < RESEEDS and bool(lost.any()):
            self.W, self.H = health.reseeded(self.W, self.H, lost, self._fresh())
            self._reseeds += 1
            self._report("dead components", lost)
        self._healthy = health.chosen(wild | gone, self._healthy, self._latest)
        self._latest = balanced(self.W, self.H)

    def _balance(self) -> None:
        self.W, self.H = (x.clone() for x in balanced(self.W, self.H))
        self._W_spread.refresh(self.W.mT)
        self._H_spread.refresh(self.H)

    def _report(self, failure: health.Failure, which: Tensor) -> None:
        if count := int(which.sum()):
            self.repairs.append(Repair(self.steps, failure, count))

    def _fresh(self) -> Factors:
        V = self.V
        if self.mask is not None and isinstance(V, Tensor):
            V = V * self.mask
        return random_start(V, self.W.shape[-1], self._rng)

    def _measures(self) -> tuple[Tensor, Tensor]:
        """‖V‖² and √(largest entry of V), over the entries that count: (...)."""
        if self._entries is not None:
            values = self._entries.values
            return values.square().sum(-1), values.amax(-1).sqrt()
        if isinstance(self.V, Sparse):
            return squared_norm(self.V), self.V.largest().sqrt()
        V = self.V if self.mask is None else self.V * self.mask
        return squared_norm(V), V.amax((-2, -1)).sqrt()

    def _share(self, left: Tensor) -> Tensor:
        return torch.where(self.squared_norm > 0, left / self.squared_norm, 0.0)

    def _noise_sizes(self) -> Factors:
        """Deviation of the noise per entry of each factor's gradient: (..., 1, 1)."""
        if self._entries is None:
            seen = Columns.beside(self.V, self.W, self._W_spread.gram, self.mask)
            gW, gH = seen.gradient_in_W(self.H), seen.gradient_in_H(self.H)
        else:
            residual = self._entries.residual(self.W, self.H)
            gH = self._entries.gradient_in_H(self.W, residual)[1]
            gW = self._entries.transposed().gradient_in_H(self.H.mT, residual)[1]
        return Factors(
            *(
                self.settings.noise * (g.square().sum((-2, -1), keepdim=True) / entries).sqrt()
                for g, entries in (
                    (gW, self.W.shape[-2] * self.W.shape[-1]),
                    (gH, self.H.shape[-2] * self.H.shape[-1]),
                )
            )
        )

    def _noisy(self, gradient: Tensor, which: int) -> Tensor:
        if self._noise is None:
            return gradient
        shape = gradient.shape[1:] if self.settings.shared_noise else gradient.shape
        xi = torch.randn(
            shape, generator=self._generator, dtype=gradient.dtype, device=gradient.device
        )
        return gradient + self._noise[which] * xi
