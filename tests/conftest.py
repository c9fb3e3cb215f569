"""Hypothesis draws the same examples on every machine, and no example is timed."""

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("deterministic")
