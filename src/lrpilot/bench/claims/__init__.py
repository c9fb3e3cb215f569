"""What is claimed of schedules, computed from the rows of a suite."""

from __future__ import annotations

from lrpilot.bench.claims.claim import Claim, load_claims
from lrpilot.bench.claims.evaluate import evaluate
from lrpilot.bench.claims.findings import Findings
from lrpilot.bench.claims.marks import misstated
from lrpilot.bench.claims.verdict import Verdict

__all__ = ["Claim", "Findings", "Verdict", "evaluate", "load_claims", "misstated"]
