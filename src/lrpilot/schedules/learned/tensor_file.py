"""Safetensors files of small float32 arrays, read and written without trust and without pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LARGEST_HEADER = 1_000_000  # bytes; a policy's is below 4,000
MOST_AXES = 8  # NumPy allows some more


class TensorFile(NamedTuple):
    """What a file holds: arrays of float32 by name, and text by name."""

    tensors: dict[str, NDArray[np.float32]]
    metadata: Mapping[str, str]


def read_tensors(data: bytes, name: str) -> TensorFile:
    """The arrays and the text in ``data``; ``name`` is what an error calls it.

    Raises ValueError, which says what is wrong, unless ``data`` is a well-formed safetensors file
    of float32 arrays, none of them empty, that fill it without gaps or overlaps.
    """
    if len(data) < 8:
        raise _damaged(name, f"it has {len(data)} bytes")
    size = int.from_bytes(data[:8], "little")
    if size > min(LARGEST_HEADER, len(data) - 8):
        raise _damaged(name, f"its header claims {size} bytes of {len(data) - 8}")
    try:
        header = json.loads(data[8 : 8 + size])
    except (ValueError, RecursionError):
        raise _damaged(name, "its header is not JSON") from None
    if not isinstance(header, dict):
        raise _damaged(name, "its header is not a table")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(x, str) for x in metadata.values()):
        raise _damaged(name, "its metadata are not text by name")
    body, spans, tensors = data[8 + size :], [], {}
    for key, entry in header.items():
        begin, end, shape = _span(entry, name, key)
        if not begin <= end <= len(body) or end - begin != 4 * math.prod(shape):
            raise _damaged(name, f"{key[:80]!r} does not fit: {shape} in bytes {begin} to {end}")
        spans.append((begin, end))
        tensors[key] = np.frombuffer(body[begin:end], dtype="<f4").reshape(shape)
    spans.sort()
    if [0, *(end for _, end in spans)] != [*(begin for begin, _ in spans), len(body)]:
        raise _damaged(name, "its arrays overlap or leave gaps")
    return TensorFile(tensors, metadata)


def write_tensors(file: TensorFile) -> bytes:
    """The bytes of a safetensors file; equal arrays and text make equal bytes."""
    header: dict[str, Any] = {"__metadata__": dict(sorted(file.metadata.items()))}
    body = b""
    for key, array in sorted(file.tensors.items()):
        data = np.ascontiguousarray(array, dtype="<f4").tobytes()
        span = [len(body), len(body) + len(data)]
        header[key] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": span}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


def _span(entry: Any, name: str, key: str) -> tuple[int, int, list[int]]:
    match entry:
        case {"dtype": "F32", "shape": [*shape], "data_offsets": [begin, end]} if (
            len(shape) <= MOST_AXES
            and 0 not in shape
            and all(type(number) is int and 0 <= number < 2**31 for number in (*shape, begin, end))
        ):
            return begin, end, shape
        case _:
            raise _damaged(name, f"{key[:80]!r} is no float32 array: {repr(entry)[:80]}")


def _damaged(name: str, what: str) -> ValueError:
    return ValueError(f"{name} is no safetensors file of a policy, or damaged: {what}")
