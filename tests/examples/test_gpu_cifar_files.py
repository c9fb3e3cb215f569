"""CIFAR is read in every layout that is published, and nothing else is."""

import os
import pickle

import numpy as np
import pytest
from cifar_files import LAYOUTS, read_cifar

from cifar_archives import files_of, images_of, pickled, write_archive, write_folder

FOLDERS = [layout.folder for layout in LAYOUTS]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("place", ["folder", "parent", "archive", "folder of the archive"])
def test_images_and_classes_are_those_that_were_written(tmp_path, folder, place):
    layout = next(one for one in LAYOUTS if one.folder == folder)
    files = files_of(folder)
    if "archive" in place:
        archive = write_archive(tmp_path / layout.archive, folder, files)
        data = archive if place == "archive" else tmp_path
    else:
        written = write_folder(tmp_path / folder, files)
        data = written if place == "folder" else tmp_path
    cifar = read_cifar(str(data), subset=True)
    classes = np.arange(40) % layout.class_count
    assert cifar.class_count == layout.class_count
    assert (cifar.train.classes == np.tile(classes, len(layout.train))).all()
    assert (cifar.test.classes == classes).all()
    assert cifar.train.images.dtype == np.uint8
    assert (cifar.train.images[:40].reshape(40, -1) == images_of(classes, 0)).all()
    assert cifar.test.images.shape == (40, 3, 32, 32)
    assert (cifar.test.images.reshape(40, -1) == images_of(classes, len(layout.train))).all()


def test_a_batch_that_was_pickled_again_by_python_3_is_read_too(tmp_path):
    files = files_of("cifar-10-batches-py")
    images = np.asfortranarray(images_of(np.arange(40) % 10, 5))
    again = {"data": images, "labels": list(range(10)) * 4}
    files["test_batch"] = pickle.dumps(again, protocol=4)
    cifar = read_cifar(str(write_folder(tmp_path / "again", files)), subset=True)
    assert (cifar.test.images.reshape(40, -1) == images).all()


class Hostile:
    """Runs a command when an ordinary unpickler reads it."""

    def __reduce__(self):
        return os.system, ("touch was-run",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_and_nothing_is_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    files = files_of("cifar-10-batches-py")
    files["data_batch_3"] = pickle.dumps({"data": Hostile(), "labels": []}, protocol)
    folder = write_folder(tmp_path / "hostile", files)
    with pytest.raises(ValueError, match=r"data_batch_3 .* is refused: it asks for .*system"):
        read_cifar(str(folder), subset=True)
    assert not (tmp_path / "was-run").exists()
    pickle.loads(files["data_batch_3"])  # it does run elsewhere
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [("builtins", "eval"), ("numpy", "load"), ("numpy.core.multiarray", "scalar")],
)
def test_whatever_is_no_array_is_refused(tmp_path, module, name):
    files = files_of("cifar-100-python")
    files["test"] = f"c{module}\n{name}\n.".encode()
    folder = write_folder(tmp_path / "other", files)
    with pytest.raises(ValueError, match=f"asks for {module}.{name}, which no CIFAR batch needs"):
        read_cifar(str(folder), subset=True)


def changed(name, content):
    return lambda files: files | {name: content(files[name])}


@pytest.mark.parametrize(
    ("folder", "change", "message"),
    [
        (
            "cifar-10-batches-bin",
            changed("data_batch_2.bin", lambda content: content[:-1]),
            r"data_batch_2.bin of .* is truncated: 122,919 bytes are no multiple of the 3,073",
        ),
        (
            "cifar-10-batches-py",
            changed("test_batch", lambda content: content[:5000]),
            "test_batch of .* is truncated or damaged .*; get it again",
        ),
        (
            "cifar-10-batches-py",
            changed("test_batch", lambda content: b""),
            "test_batch of .* is truncated or damaged",
        ),
        (
            "cifar-10-batches-py",
            changed("test_batch", lambda content: pickle.dumps([1])),
            "it holds a list, not a dict",
        ),
        (
            "cifar-10-batches-py",
            changed("test_batch", lambda content: pickle.dumps({"data": 1})),
            "must have an array 'data' and a list 'labels', and has 'data'; get",
        ),
        (
            "cifar-10-batches-py",
            changed("test_batch", lambda _: pickled({b"data": np.ones((1, 3072)), b"labels": [1]})),
            "an array is not of bytes",
        ),
        (
            "cifar-10-batches-py",
            changed(
                "test_batch",
                lambda _: pickled({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}),
            ),
            "has 2 images and 1 classes",
        ),
        (
            "cifar-10-batches-py",
            changed(
                "test_batch",
                lambda _: pickled({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}),
            ),
            "classes from 10 to 10; they must lie in 0 to 9",
        ),
        (
            "cifar-10-batches-py",
            lambda files: {name: files[name] for name in files if name != "data_batch_4"},
            "cannot read .*data_batch_4",
        ),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, folder, change, message):
    data = write_folder(tmp_path / folder, change(files_of(folder)))
    with pytest.raises(ValueError, match=message):
        read_cifar(str(data), subset=True)


def test_a_cut_archive_is_named(tmp_path):
    whole = write_archive(tmp_path / "a.tar.gz", "cifar-10-batches-py", files_of("cifar-10-py"))
    for name, content in (("cut", whole.read_bytes()[:-9000]), ("other", b"not an archive")):
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.tar.gz is not a complete .tar.gz"):
            read_cifar(str(path), subset=True)


def test_an_archive_of_something_else_is_named(tmp_path):
    path = write_archive(tmp_path / "a.tar.gz", "letters", {"one.txt": b"dear"})
    with pytest.raises(ValueError, match="an archive without CIFAR; it must be one of cifar-10-"):
        read_cifar(str(path))


def test_fewer_images_than_published_are_refused_unless_a_subset_is_meant(tmp_path):
    folder = write_folder(tmp_path / "few", files_of("cifar-10-batches-bin"))
    message = "has 200 images to train on, and CIFAR-10 has 50,000; get it again, or set LRPILOT_SU"
    with pytest.raises(ValueError, match=message):
        read_cifar(str(folder))


def test_a_place_without_cifar_is_named_with_what_it_must_have(tmp_path):
    with pytest.raises(ValueError, match="LRPILOT_DATA is not set, and nothing is downloaded"):
        read_cifar("")
    with pytest.raises(ValueError, match="which does not exist; correct the path"):
        read_cifar(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="a folder without CIFAR; it must be, or hold, one of"):
        read_cifar(str(tmp_path))


def test_two_data_sets_in_one_folder_are_not_chosen_from(tmp_path):
    for folder in ("cifar-10-batches-py", "cifar-100-binary"):
        write_folder(tmp_path / folder, files_of(folder))
    with pytest.raises(ValueError, match="has CIFAR-10 and CIFAR-100; give the folder of one"):
        read_cifar(str(tmp_path), subset=True)
