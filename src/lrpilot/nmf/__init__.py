"""Stochastic non-negative matrix factorisation at rates that are sure to be stable."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from lrpilot.nmf import bounds
from lrpilot.nmf.coefficients import coefficients
from lrpilot.nmf.factorise import Factorisation, as_matrix, as_start, factorise
from lrpilot.nmf.factors import Factors, balanced, nndsvd_start, random_start, scaled
from lrpilot.nmf.health import Repair
from lrpilot.nmf.rates import Settings, noisy_anchor
from lrpilot.nmf.solver import Record, Solver
from lrpilot.nmf.sparse import Sparse

if TYPE_CHECKING:
    from lrpilot.nmf.estimator import StochasticNMF

__all__ = [
    "Factorisation",
    "Factors",
    "Record",
    "Repair",
    "Settings",
    "Solver",
    "Sparse",
    "StochasticNMF",
    "as_matrix",
    "as_start",
    "balanced",
    "bounds",
    "coefficients",
    "factorise",
    "nndsvd_start",
    "noisy_anchor",
    "random_start",
    "scaled",
]


def __getattr__(name: str) -> Any:
    """The estimator, which needs scikit-learn: loaded when it is asked for."""
    if name != "StochasticNMF":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return importlib.import_module("lrpilot.nmf.estimator").StochasticNMF
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("sklearn"):
            raise
        raise ModuleNotFoundError(
            "StochasticNMF needs scikit-learn, which is not installed; "
            "pip install 'lrpilot[sklearn]'",
            name="sklearn",
        ) from error
