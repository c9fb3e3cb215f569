"""MLflow's folders: a file per metric, with a line "timestamp value step" per value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lrpilot.learning.past.run import Logged, Series

METRICS = "metrics"


def is_mlflow(folder: Path) -> bool:
    """Whether there is a run in the folder or below."""
    return bool(_run_folders(folder))


def read_mlflow(folder: Path) -> list[Logged]:
    """Every run below: ``folder`` is mlruns, an experiment, a run, or a run's metrics."""
    return [_logged(run) for run in _run_folders(folder)]


def _run_folders(folder: Path) -> list[Path]:
    if folder.name == METRICS:
        return [folder.parent]
    found = [path.parent for path in folder.rglob(METRICS) if path.is_dir()]
    return sorted(run for run in found if METRICS not in run.relative_to(folder).parts)


def _logged(run: Path) -> Logged:
    metrics = run / METRICS
    files = {
        path.relative_to(metrics).as_posix(): path
        for path in sorted(metrics.rglob("*"))
        if path.is_file()
    }
    if not files:
        raise ValueError(f"{metrics} has no metrics")
    return Logged(
        name=_texts(run / "tags").get("mlflow.runName", run.name),
        source=str(run),
        kind="MLflow",
        columns=tuple(files),
        read=lambda column: _values(files[column]),
        parameters=_texts(run / "params"),
    )


def _values(path: Path) -> Series:
    found: Series = []
    for at, line in enumerate(_text(path).splitlines(), start=1):
        try:
            _, value, step = line.split()
            found.append((int(step), float(value)))
        except ValueError:
            raise ValueError(
                f"{path}, line {at}: {line[:80]!r} is not a timestamp, a value and a step"
            ) from None
    return found


def _texts(folder: Path) -> Mapping[str, str]:
    if not folder.is_dir():
        return {}
    return {
        path.relative_to(folder).as_posix(): _text(path).strip()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
