"""Stochastic non-negative matrix factorisation at rates that are sure to be stable."""

from lrpilot.nmf import bounds
from lrpilot.nmf.coefficients import coefficients
from lrpilot.nmf.factorise import Factorisation, as_matrix, as_start, factorise
from lrpilot.nmf.factors import Factors, balanced, nndsvd_start, random_start, scaled
from lrpilot.nmf.health import Repair
from lrpilot.nmf.rates import Settings
from lrpilot.nmf.solver import Record, Solver
from lrpilot.nmf.sparse import Sparse

__all__ = [
    "Factorisation",
    "Factors",
    "Record",
    "Repair",
    "Settings",
    "Solver",
    "Sparse",
    "as_matrix",
    "as_start",
    "balanced",
    "bounds",
    "coefficients",
    "factorise",
    "nndsvd_start",
    "random_start",
    "scaled",
]
