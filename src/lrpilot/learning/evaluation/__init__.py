"""Learned policies against tuned schedules and controls, on problems nobody trained them on."""

from __future__ import annotations

from lrpilot.learning.evaluation.evaluated import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
