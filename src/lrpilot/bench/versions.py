"""With what results are made."""

from __future__ import annotations

import json
import platform
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache  # looking them up takes longer than writing a trial
def versions() -> str:
    """The versions of Python and of the packages that decide on numbers, as JSON."""
    found = {"python": platform.python_version()}
    for package in ("lrpilot", "torch", "numpy", "scikit-learn"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return json.dumps(found)
