"""Hypothesis draws the same examples on every machine, and torch computes on one core."""

import torch
from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("deterministic")

# The tests' tensors are small, and several cores may round differently from one.
torch.set_num_threads(1)
