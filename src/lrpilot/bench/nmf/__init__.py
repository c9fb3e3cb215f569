"""Schedules inside the stability bound of NMF, beside absolute rates: a study of some 60,000 runs.

`lrpilot.bench.nmf.page` is apart, since it needs matplotlib.
"""
