"""Schedules inside the stability bound of NMF, beside absolute rates: a study of 57,024 runs.

`lrpilot.bench.nmf.page` is apart, since it needs matplotlib.
"""

from lrpilot.bench.nmf.study import SUITE, run_study

__all__ = ["SUITE", "run_study"]
