"""A scikit-learn estimator: non-negative factorisation whose rate a schedule decides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import (
    check_array,
    check_is_fitted,
    check_non_negative,
    validate_data,
)

from lrpilot.nmf.checks import check_count, check_mask
from lrpilot.nmf.coefficients import coefficients
from lrpilot.nmf.factorise import Data, as_matrix, as_start, as_tensor
from lrpilot.nmf.factors import Factors
from lrpilot.nmf.rates import Settings
from lrpilot.nmf.solver import Solver
from lrpilot.nmf.windows import coordinates, told
from lrpilot.schedules.checks import check_schedule
from lrpilot.schedules.named import LEARNED, named_schedule
from lrpilot.schedules.openloop import InverseSqrt, Linear, OpenLoop
from lrpilot.schedules.protocol import Schedule, Signal, decisions_of
from lrpilot.torch.windows import Told, Windows

# Nobody knows where a stream ends. The rate has fallen by √2 after 100 steps.
FAR = 10**12
STREAM = OpenLoop(InverseSqrt(timescale=100 / FAR), total_steps=FAR)

# How far a piece of a stream is fitted before the components move.
FEW, ROUGHLY = 50, 1e-3  # iterations at most, tolerance

Progress = Callable[[int, int, float], None]
Init = Literal["random", "nndsvd"]
Rate = Literal["anchored", "bound"] | float


def streams(model: StochasticNMF) -> bool:
    """Whether the model can learn from pieces; the error says why not."""
    if isinstance(model.schedule, str):
        raise AttributeError(
            f"schedule={model.schedule!r} needs to know how many steps there will be, which "
            f"partial_fit does not; give a schedule such as "
            f"named_schedule({model.schedule!r}, total_steps=10_000), or None"
        )
    return True


class StochasticNMF(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """X ~ transform(X) @ components_ with no negative entry, by stochastic gradient descent.

    For data that come in pieces (``partial_fit``) or miss entries (``mask``). For a dense matrix
    that fits into memory, scikit-learn's ``NMF`` is faster.

    n_components: number of parts, at least 1; None for one per feature.
    init: "random", or "nndsvd", which needs n_components <= min(n_samples, n_features).
    schedule: what decides the rate: a schedule of `lrpilot`, the name of one ("learned" is the
        policy for factorisations), or None, which is linear to 0 in ``fit`` and 1/√(1 + t/100) over
        the steps t in ``partial_fit``. Whatever it asks for is clipped at 0.75 of the largest rate
        that is sure to be stable.
    rate: what the schedule multiplies: "anchored", "bound" or an absolute rate, as
        `lrpilot.nmf.Settings` has them.
    batch_size: samples in a minibatch; more than there are is all of them.
    max_iter: passes over the data in ``fit``.
    h_steps: steps of a minibatch's coefficients before each step of the components.
    random_state: a seed, a RandomState or None, as everywhere in scikit-learn.
    device: where torch computes.
    progress: called after every pass of ``fit`` with the passes done, the passes in all, and the
        share of ‖X‖² that the last minibatch left.

    Attributes: ``components_`` (n_components, n_features), ``reconstruction_err_`` (‖X − WH‖, of
    the last piece in a stream), ``n_iter_`` (passes, or pieces), ``n_steps_``, and of each step of
    the last call ``losses_``, ``lrs_`` and ``bounds_``, as `lrpilot.nmf.Factorisation` has them;
    ``repairs_`` tells what went wrong and was mended.

    >>> X = np.random.default_rng(0).random((100, 8))
    >>> model = StochasticNMF(3, random_state=0).fit(X)
    >>> model.transform(X).shape, model.components_.shape
    ((100, 3), (3, 8))
    """

    n_features_in_: int

    def __init__(
        self,
        n_components: int | None = None,
        *,
        init: Init = "random",
        schedule: Schedule[Any] | str | None = None,
        rate: Rate = "anchored",
        batch_size: int = 128,
        max_iter: int = 50,
        h_steps: int = 4,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        progress: Progress | None = None,
    ) -> None:
        self.n_components = n_components
        self.init: Init = init
        self.schedule = schedule
        self.rate: Rate = rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.h_steps = h_steps
        self.random_state = random_state
        self.device = device
        self.progress = progress

    def fit(self, X: Any, y: None = None, mask: np.ndarray | None = None) -> StochasticNMF:
        """Learn the components from all of ``X``.

        X: (n_samples, n_features), dense or sparse, entries >= 0.
        mask: of bool, the shape of ``X``; entries where it is False do not count, whatever they
            are. Only with a dense ``X``.
        """
        self.fit_transform(X, y, mask)
        return self

    def fit_transform(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, X: Any, y: None = None, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """Learn the components, and return the coefficients (n_samples, n_components)."""
        del y
        check_count("max_iter", self.max_iter)
        if self.progress is not None and not callable(self.progress):  # pyright: ignore[reportUnnecessaryComparison]
            raise TypeError(f"progress must be a function or None, got {self.progress!r}")
        V, known = self._checked(X, mask, reset=True)
        rng = self._generator()
        start = as_start(self.init, V, self._rank(), rng)
        solver = Solver(V, start, self._settings(), rng, mask=known)
        period = solver.period
        steps = self.max_iter * period
        schedule = self._schedule(steps)
        state, windows = schedule.init(), Windows.of(coordinates(solver.W), schedule.needs)
        for done in range(1, self.max_iter + 1):
            state = advance(solver, schedule, state, windows, period)
            if self.progress is not None:
                self.progress(done, self.max_iter, solver.records[-1].loss.item())
        self.n_iter_, self.n_steps_ = self.max_iter, steps
        self._stream = rng, None
        # Those of the last pass fit components that have moved since.
        solver.H = coefficients(V, solver.W, mask=known)
        self._keep(solver)
        return solver.H.mT.cpu().numpy()

    @available_if(streams)
    def partial_fit(self, X: Any, y: None = None, mask: np.ndarray | None = None) -> StochasticNMF:
        """Go on learning from another piece of the data, in one pass; memory holds one piece.

        X: (n_samples, n_features), as ``fit`` takes it.

        Of gradients and components a schedule that reads them is shown what they do in this piece.

        There is no such method where ``schedule`` is a name, which would need to know how many
        steps there will be: give the schedule itself.
        """
        del y
        first = not hasattr(self, "components_")
        V, known = self._checked(X, mask, reset=first)
        schedule = self._schedule(None)
        rng, state = (self._generator(), None) if first else self._stream
        if first:
            W = as_start(self.init, V, self._rank(), rng).W
        else:
            self._check_rank_is_kept()
            W = as_tensor(self.components_.T).to(V.device, V.dtype, copy=True)
        H = coefficients(V, W, mask=known, max_iter=FEW, tol=ROUGHLY)
        solver = Solver(V, Factors(W, H), self._settings(), rng, mask=known)
        steps = solver.period
        start = schedule.init()
        # Another kind of schedule than before cannot go on from where that one was.
        state = state if type(state) is type(start) else start
        # W is as long as its balance with the piece's H wants it: pieces are not to be compared.
        windows = Windows.of(coordinates(solver.W), schedule.needs, is_start=first)
        state = advance(solver, schedule, state, windows, steps)
        done = (0, 0) if first else (self.n_iter_, self.n_steps_)
        self.n_iter_, self.n_steps_ = done[0] + 1, done[1] + steps
        self._stream = rng, state
        self._keep(solver)
        return self

    def transform(self, X: Any, mask: np.ndarray | None = None) -> np.ndarray:
        """The coefficients (n_samples, n_components) that fit ``X`` best, none negative."""
        check_is_fitted(self, "components_")
        V, known = self._checked(X, mask, reset=False)
        W = as_tensor(self.components_.T).to(V.device, V.dtype)
        return coefficients(V, W, mask=known).mT.cpu().numpy()

    def inverse_transform(self, X: Any) -> np.ndarray:
        """What the coefficients ``X`` (n_samples, n_components) make: (n_samples, n_features)."""
        check_is_fitted(self, "components_")
        X, rank = check_array(X, accept_sparse=True), len(self.components_)
        if X.shape[1] != rank:
            raise ValueError(
                f"X has {X.shape[1]} columns, but inverse_transform expects the {rank} coefficients"
                f" of each sample, as transform returns them"
            )
        return X @ self.components_

    def _checked(self, X: Any, mask: np.ndarray | None, *, reset: bool) -> Data:
        """``X`` as V, whose columns are the samples, and what of it is known."""
        dtypes = [np.float64, np.float32]
        if mask is None:
            X = validate_data(self, X, reset=reset, accept_sparse="csr", dtype=dtypes)
        else:
            if issparse(X):
                raise ValueError("a sparse X takes no mask; densify X")
            mask = np.asarray(mask)
            check_mask(mask, "X", np.shape(X))
            # Names and number of the features; the array itself counts where it is known only.
            validate_data(self, X, reset=reset, skip_check_array=True)
            X = check_array(
                np.where(mask, X, 0),
                dtype=dtypes,  # pyright: ignore[reportArgumentType]
                estimator=self,
                input_name="X",
            )
        check_non_negative(X, f"{type(self).__name__} (input X)")
        return as_matrix(X.T, None if mask is None else mask.T, self.device)

    def _rank(self) -> int:
        rank = self.n_features_in_ if self.n_components is None else self.n_components
        check_count("n_components", rank)
        return rank

    def _check_rank_is_kept(self) -> None:
        if self.n_components not in (None, len(self.components_)):
            raise ValueError(
                f"n_components is {self.n_components}, but {len(self.components_)} components have "
                f"been learnt; set it back, or begin again with fit"
            )

    def _generator(self) -> np.random.Generator:
        return np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))

    def _schedule(self, steps: int | None) -> Schedule[Any]:
        """The schedule for ``steps`` steps, or for a stream if None."""
        schedule = self.schedule
        if schedule is None:
            return STREAM if steps is None else OpenLoop(Linear(), total_steps=steps)
        if isinstance(schedule, str):
            name = LEARNED + "nmf" if schedule == "learned" else schedule
            return named_schedule(name, total_steps=steps or FAR)
        check_schedule(schedule)
        return schedule

    def _settings(self) -> Settings:
        check_count("batch_size", self.batch_size)
        return Settings(rate=self.rate, batch=self.batch_size, h_steps=self.h_steps)

    def _keep(self, solver: Solver) -> None:
        """Keep what the solver found."""
        self.components_ = solver.W.mT.cpu().numpy().copy()
        left = solver.loss() * solver.squared_norm
        self.reconstruction_err_ = math.sqrt(left.item())
        self.losses_, self.lrs_, self.bounds_ = (x.cpu().numpy() for x in solver.history())
        self.repairs_ = solver.repairs

    @property
    def _n_features_out(self) -> int:
        return self.components_.shape[0]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def advance(
    solver: Solver, schedule: Schedule[Any], state: Any, windows: Windows | None, steps: int
) -> Any:
    """Take ``steps`` steps at the scales of ``schedule``; its state after them.

    windows: of W; None if the schedule needs none.
    """
    blind = not schedule.needs
    for _ in range(steps):
        loss = solver.step(state.scale)
        # Reading a loss waits for the device.
        signal = Signal() if blind else Signal(loss=loss.item(), epochs=1 / steps)
        if windows is not None:
            shown = Told(*torch.stack(told(windows, solver)).tolist())
            signal = signal._replace(**shown._asdict())
        before, state = state, schedule.update(state, signal)
        if windows is not None and decisions_of(state) != decisions_of(before):
            windows.turn()
    return state
