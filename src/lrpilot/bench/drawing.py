"""Modules that draw are loaded for those alone who want pictures, since they need matplotlib."""

from __future__ import annotations

import importlib
from types import ModuleType


def drawing_module(name: str) -> ModuleType:
    """The module ``name``; without matplotlib, ModuleNotFoundError with the cure."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ModuleNotFoundError(
            "the page's pictures need matplotlib, which is not installed; "
            "pip install 'lrpilot[claims]', or leave --page out",
            name="matplotlib",
        ) from error
