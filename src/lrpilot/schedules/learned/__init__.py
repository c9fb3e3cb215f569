"""Trained policies as schedules: inference only, over NumPy."""

from lrpilot.schedules.learned.learned import Learned, LearnedState
from lrpilot.schedules.learned.policy import Action, Policy, load_policy

__all__ = ["Action", "Learned", "LearnedState", "Policy", "load_policy"]
