"""Stochastic non-negative matrix factorisation at rates that are sure to be stable."""

from lrpilot.nmf import bounds
from lrpilot.nmf.factors import Factors, balanced, nndsvd_start, random_start, scaled

__all__ = ["Factors", "balanced", "bounds", "nndsvd_start", "random_start", "scaled"]
