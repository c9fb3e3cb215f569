"""PyTorch: schedules in a training loop."""

from lrpilot.torch.greedy import GreedyLR
from lrpilot.torch.in_graph import InGraphGreedyLR
from lrpilot.torch.scheduler import ScheduledLR

__all__ = ["GreedyLR", "InGraphGreedyLR", "ScheduledLR"]
