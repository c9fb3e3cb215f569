"""Where trials run: tensor programs and processes of this machine, or a Ray cluster."""

from lrpilot.bench.engines.engine import ENGINES, Engine

__all__ = ["ENGINES", "Engine"]
