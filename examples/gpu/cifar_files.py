"""Read CIFAR-10 and CIFAR-100 from the folder or archive that their authors publish.

Pickled batches are read by an unpickler that knows arrays of bytes and containers; it runs nothing.
"""

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32

Array = np.ndarray
Read = Callable[[str], bytes]


class Images(NamedTuple):
    """Images as bytes (n, 3, 32, 32) and their classes (n,), counted from 0."""

    images: Array
    classes: Array


class Cifar(NamedTuple):
    """A data set as published: 50,000 images to train on and 10,000 to test on."""

    train: Images
    test: Images
    class_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a data set is published.

    labels: the key of the classes in a pickled batch; empty for the binary layout.
    label_bytes: before each image of the binary layout; the last one is the class.
    """

    name: str
    folder: str
    archive: str
    train: tuple[str, ...]
    test: str
    class_count: int
    labels: str = ""
    label_bytes: int = 1


LAYOUTS = (
    Layout(
        name="CIFAR-10",
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        train=tuple(f"data_batch_{k}" for k in range(1, 6)),
        test="test_batch",
        class_count=10,
        labels="labels",
    ),
    Layout(
        name="CIFAR-10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
        test="test_batch.bin",
        class_count=10,
    ),
    Layout(
        name="CIFAR-100",
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        train=("train",),
        test="test",
        class_count=100,
        labels="fine_labels",
    ),
    Layout(
        name="CIFAR-100",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test="test.bin",
        class_count=100,
        label_bytes=2,  # coarse, then fine
    ),
)
TRAIN_IMAGES, TEST_IMAGES = 50_000, 10_000

# What a damaged stream makes an unpickler raise.
DAMAGED = (
    *(pickle.UnpicklingError, ArithmeticError, AttributeError, EOFError, LookupError),
    *(MemoryError, TypeError, ValueError),
)


@cache  # a process trains many times on the same images
def read_cifar(data: str, *, subset: bool = False) -> Cifar:
    """CIFAR-10 or CIFAR-100 from ``data``, in any of the published layouts.

    data: the folder that the archive unpacks to, one that has it or the archive in it, or the
        archive itself, which is not unpacked.
    subset: accept batches with fewer images than are published.

    Raises ValueError if there is no such data set, if there are two, or if a file is incomplete.
    """
    if not data:
        raise ValueError(
            "LRPILOT_DATA is not set, and nothing is downloaded; set it to the folder or the "
            ".tar.gz of CIFAR-10 or CIFAR-100 (docs/gpu-tier.md says where to get them)"
        )
    path = Path(data).expanduser()
    if not path.exists():
        raise ValueError(f"LRPILOT_DATA is {data!r}, which does not exist; correct the path")
    layout, read = _found_in_folder(path) if path.is_dir() else _found_in_archive(path)
    parts = [_batch(read, layout, name) for name in layout.train]
    train = Images(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    test = _batch(read, layout, layout.test)
    for what, found, published in (("train", train, TRAIN_IMAGES), ("test", test, TEST_IMAGES)):
        if len(found.images) != published and not subset:
            raise ValueError(
                f"{path} has {len(found.images):,} images to {what} on, and {layout.name} has "
                f"{published:,}; get it again, or set LRPILOT_SUBSET=1 if it is a subset"
            )
    return Cifar(train, test, layout.class_count)


def _found_in_folder(path: Path) -> tuple[Layout, Read]:
    """The layout whose files lie in ``path``, in its own folder there, or in its archive there."""
    found: dict[str, tuple[Layout, Read]] = {}
    for layout in LAYOUTS:
        for folder in (path, path / layout.folder):
            if (folder / layout.test).is_file():
                found.setdefault(layout.name, (layout, _reader(folder)))
    for layout in LAYOUTS:
        if layout.name not in found and (path / layout.archive).is_file():
            found[layout.name] = _found_in_archive(path / layout.archive)
    if not found:
        names = ", ".join(layout.folder for layout in LAYOUTS)
        raise ValueError(
            f"LRPILOT_DATA is {str(path)!r}, a folder without CIFAR; it must be, or hold, one of "
            f"{names}, or the archive that unpacks to it"
        )
    if len(found) > 1:
        raise ValueError(
            f"LRPILOT_DATA is {str(path)!r}, which has {' and '.join(found)}; give the folder of "
            f"one of them"
        )
    return next(iter(found.values()))


def _reader(folder: Path) -> Read:
    def read(name: str) -> bytes:
        try:
            return (folder / name).read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {folder / name} ({error}); unpack it again") from None

    return read


def _found_in_archive(path: Path) -> tuple[Layout, Read]:
    """The layout whose files are in the archive, which is read as a whole and not unpacked."""
    wanted = {name: layout for layout in LAYOUTS for name in (*layout.train, layout.test)}
    files: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                file = archive.extractfile(member) if name in wanted and member.isfile() else None
                if file is not None:
                    files[name] = file.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise ValueError(
            f"{path} is not a complete .tar.gz ({error}); get it again, or give the unpacked folder"
        ) from None
    for layout in LAYOUTS:
        if layout.test in files:  # no two layouts share a name
            return layout, lambda name: _member(path, files, name)
    raise ValueError(
        f"{path} is an archive without CIFAR; it must be one of "
        f"{', '.join(layout.archive for layout in LAYOUTS)}"
    )


def _member(path: Path, files: dict[str, bytes], name: str) -> bytes:
    if name not in files:
        raise ValueError(f"{path} has no file {name}; get it again")
    return files[name]


def _batch(read: Read, layout: Layout, name: str) -> Images:
    where, content = f"{name} of {layout.folder}", read(name)
    if not layout.labels:
        images, classes = _binary(content, layout, where)
    else:
        images, classes = _pickled(content, layout, where)
    if len(images) == 0 or len(images) != len(classes):
        raise ValueError(
            f"{where} has {len(images)} images and {len(classes)} classes; there must be as many "
            f"of both, and some; get it again"
        )
    if classes.min() < 0 or classes.max() >= layout.class_count:
        raise ValueError(
            f"{where} has classes from {classes.min()} to {classes.max()}; they must lie in 0 to "
            f"{layout.class_count - 1}; get it again"
        )
    return Images(images.reshape(-1, *SHAPE), classes)


def _binary(content: bytes, layout: Layout, where: str) -> tuple[Array, Array]:
    record = layout.label_bytes + PIXELS
    if len(content) % record:
        raise ValueError(
            f"{where} is truncated: {len(content):,} bytes are no multiple of the {record:,} of an "
            f"image; get it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    return records[:, layout.label_bytes :], records[:, layout.label_bytes - 1].astype(np.int64)


def _pickled(content: bytes, layout: Layout, where: str) -> tuple[Array, Array]:
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except _Refused as error:
        raise ValueError(f"{where} is refused: {error}") from None
    # What a damaged stream makes the unpickler raise.
    except (
        pickle.UnpicklingError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
    ) as error:
        _damaged(where, error)
    except (MemoryError, TypeError, ValueError) as error:
        _damaged(where, error)
    if not isinstance(batch, dict):
        _damaged(where, TypeError(f"it holds a {type(batch).__name__}, not a dict"))
    by_name = {key.decode() if isinstance(key, bytes) else key: batch[key] for key in batch}
    images, classes = by_name.get("data"), by_name.get(layout.labels)
    if not isinstance(images, _Array) or not isinstance(classes, list):
        raise ValueError(
            f"{where} must have an array 'data' and a list {layout.labels!r}, and has "
            f"{', '.join(map(repr, by_name))}; get it again"
        )
    if not all(type(one) is int for one in classes):
        _damaged(where, TypeError("a class is not a whole number"))
    try:
        return images.array().reshape(-1, PIXELS), np.array(classes, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        _damaged(where, error)


def _damaged(where: str, error: Exception) -> NoReturn:
    raise ValueError(f"{where} is truncated or damaged ({error}); get it again") from None


class _Refused(Exception):  # noqa: N818  not an error of ours, but of the file
    """A pickle asks for something that no CIFAR batch needs."""


class _Array:
    """Stands in for a pickled ``numpy.ndarray``, so that not even NumPy's own code is run."""

    state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def array(self) -> Array:
        """The bytes as an array. Raises TypeError or ValueError if they are not one."""
        _version, shape, kind, is_fortran, content = self.state  # type: ignore[misc]
        if not isinstance(kind, _Kind) or kind.name not in ("u1", b"u1"):
            raise TypeError("an array is not of bytes")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _Kind:
    """Stands in for a pickled ``numpy.dtype``, of which the name counts."""

    def __init__(self, name: object = "", *flags: object) -> None:
        del flags
        self.name = name

    def __setstate__(self, state: object) -> None:
        del state


def _reconstructed(*arguments: object) -> _Array:
    del arguments
    return _Array()


ALLOWED = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("numpy.core.multiarray", "_reconstruct"): _reconstructed,
    ("numpy._core.multiarray", "_reconstruct"): _reconstructed,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """What may be named in a CIFAR batch; everything else is refused before it is run."""
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise _Refused(
                f"it asks for {module}.{name}, which no CIFAR batch needs and which may be "
                f"hostile; nothing was run. Get the file from its authors"
            ) from None
