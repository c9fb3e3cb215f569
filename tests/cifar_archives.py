"""Small data sets in the layouts that CIFAR is published in, written as their authors did."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np


def images_of(classes: np.ndarray, seed: int) -> np.ndarray:
    """Noisy images (n, 3072) whose brightness says the class."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (len(classes), 3072))
    return (noise + 19 * (classes[:, None] % 10)).astype(np.uint8)


class Python2Pickler(pickle._Pickler):
    """Writes strings as Python 2 did, in which the published batches were made."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, text):
        self.write(b"T" + struct.pack("<i", len(text)) + text)
        self.memoize(text)

    dispatch[bytes] = save_string


def pickled(batch: dict) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(batch)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def files_of(name: str, per_file: int = 40) -> dict[str, bytes]:
    """The files of a layout by their names, ``per_file`` images in each."""
    is_100, is_binary = name.startswith("cifar-100"), "bin" in name
    if is_100:
        parts = ["train", "test"]
    else:
        parts = [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]
    files = {}
    for seed, part in enumerate(parts):
        classes = np.arange(per_file) % (100 if is_100 else 10)
        images = images_of(classes, seed)
        if is_binary:
            labels = np.stack([classes // 5, classes], 1) if is_100 else classes[:, None]
            files[f"{part}.bin"] = np.hstack([labels, images]).astype(np.uint8).tobytes()
        elif is_100:
            fine, coarse = classes.tolist(), (classes // 5).tolist()
            batch = {b"data": images, b"fine_labels": fine, b"coarse_labels": coarse}
            files[part] = pickled(batch)
        else:
            files[part] = pickled({b"data": images, b"labels": classes.tolist()})
    return files


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path
