"""Whether schedules stand perturbations that really reach the training: a study of 8,100 runs.

`lrpilot.bench.robustness.page` is apart, since it needs matplotlib.
"""

from lrpilot.bench.robustness.rows import RobustnessRow, load_rows, save_rows
from lrpilot.bench.robustness.study import DESIGN, Design, StudyResult, run_study
from lrpilot.bench.robustness.summary import Summary, summarise

__all__ = [
    "DESIGN",
    "Design",
    "RobustnessRow",
    "StudyResult",
    "Summary",
    "load_rows",
    "run_study",
    "save_rows",
    "summarise",
]
