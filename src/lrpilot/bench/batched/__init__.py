"""Many trials of one task as one tensor program, equal to trials run alone up to rounding."""

from lrpilot.bench.batched.program import UPDATES, run_batch, runs_per_batch

__all__ = ["UPDATES", "run_batch", "runs_per_batch"]
