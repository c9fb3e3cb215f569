"""Runs of other programs: read from their logs, kept beside the trials of a store."""

from lrpilot.learning.past.run import PastRun, Series
from lrpilot.learning.past.store import PastRuns

__all__ = ["PastRun", "PastRuns", "Series"]
