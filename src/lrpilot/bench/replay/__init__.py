"""What decided, or would have decided, the rate of a run that is over."""

from lrpilot.bench.replay.explained import explain_file
from lrpilot.bench.replay.replay import replay_file

__all__ = ["explain_file", "replay_file"]
