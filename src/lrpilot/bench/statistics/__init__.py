"""What losses over paired seeds say: intervals, budget-equivalents, shares, aggregates."""

from lrpilot.bench.statistics.aggregates import holm
from lrpilot.bench.statistics.paired import CellVerdict
from lrpilot.bench.statistics.reference import ReferenceCurve, admissible
from lrpilot.bench.statistics.response import expected_best, robustness_range
from lrpilot.bench.statistics.speed import performance_profile, steps_to_target

__all__ = [
    "CellVerdict",
    "ReferenceCurve",
    "admissible",
    "expected_best",
    "holm",
    "performance_profile",
    "robustness_range",
    "steps_to_target",
]
