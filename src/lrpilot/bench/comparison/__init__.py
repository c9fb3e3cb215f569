"""One comparison from question to answer: what `lrpilot compare` plans, runs and shows."""

from lrpilot.bench.comparison.answer import Cell, Row, cells, rows
from lrpilot.bench.comparison.compare import compare
from lrpilot.bench.comparison.plan import Plan

__all__ = ["Cell", "Plan", "Row", "cells", "compare", "rows"]
