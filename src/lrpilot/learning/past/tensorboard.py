"""TensorBoard's event files: the scalars of a folder's files, as one run."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    from google.protobuf.message import DecodeError
    from tensorboard.compat.proto import event_pb2
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
    from tensorboard.util.tensor_util import make_ndarray
except ImportError as error:
    raise ImportError(
        "event files need tensorboard, which is not installed; pip install 'lrpilot[learning]'"
    ) from error

from lrpilot.learning.past.run import Logged, Series

HEAD = struct.Struct("<QI")  # bytes of a record, and their checksum
TAIL = struct.Struct("<I")  # checksum of the record


def read_events(folder: Path, files: Sequence[Path]) -> Logged:
    """The run whose event files these are.

    A file that ends within a record, as that of a run under way does, is taken up to there and
    said to. Raises ValueError, with the place, for one that is damaged.
    """
    scalars: dict[str, Series] = {}
    notes: list[str] = []
    for path in sorted(files):
        for record in _records(path, notes):
            try:
                event = _event(record)
            except DecodeError as error:
                raise ValueError(f"{path} is no event file: {error}") from None
            for value in event.summary.value:
                number = _scalar(value)
                if number is not None:
                    scalars.setdefault(value.tag, []).append((event.step, number))
    if not scalars:
        raise ValueError(f"{', '.join(map(str, files))}: there are no scalars")
    return Logged(
        name=folder.name or str(folder),
        source=str(files[0] if len(files) == 1 else folder),
        kind="TensorBoard",
        columns=tuple(scalars),
        read=lambda column: scalars[column],
        parameters={},
        notes=tuple(notes),
    )


def _event(record: bytes) -> Any:
    # Its classes are made at run time, so their types are not known.
    return event_pb2.Event.FromString(record)  # pyright: ignore[reportAttributeAccessIssue]


def _records(path: Path, notes: list[str]) -> Iterator[bytes]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    at = 0
    while at < len(data):
        if at + HEAD.size > len(data):
            notes.append(_cut(path, at))
            return
        length, check = HEAD.unpack_from(data, at)
        if masked_crc32c(data[at : at + 8]) != check:
            raise ValueError(f"{path} is no event file, or is damaged at byte {at}")
        begin, at = at + HEAD.size, at + HEAD.size + length + TAIL.size
        if at > len(data):
            notes.append(_cut(path, begin))
            return
        record = data[begin : begin + length]
        if masked_crc32c(record) != TAIL.unpack_from(data, begin + length)[0]:
            raise ValueError(f"{path} is damaged at byte {begin}")
        yield record


def _cut(path: Path, at: int) -> str:
    return f"{path} ends within a record, at byte {at}; all before is taken"


def _scalar(value: Any) -> float | None:
    """A scalar, as PyTorch and TensorFlow 1 write it, or as TensorFlow 2 does; None for others."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.HasField("tensor") and value.metadata.plugin_data.plugin_name in ("", "scalars"):
        array = make_ndarray(value.tensor)
        if array.size == 1 and array.dtype.kind in "fiu":
            return float(array.item())
    return None
