"""PyTorch: schedules in a training loop."""

from lrpilot.torch.greedy import GreedyLR
from lrpilot.torch.in_graph import InGraphGreedyLR
from lrpilot.torch.learned import LearnedLR
from lrpilot.torch.scheduler import ScheduledLR
from lrpilot.torch.snapshots import Snapshots
from lrpilot.torch.suggest import SuggestedLR, suggest_lr

__all__ = [
    "GreedyLR",
    "InGraphGreedyLR",
    "LearnedLR",
    "ScheduledLR",
    "Snapshots",
    "SuggestedLR",
    "suggest_lr",
]
