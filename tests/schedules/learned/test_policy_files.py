"""A file of a policy is read without trust, and what is wrong with it is said."""

import json
import math

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot.schedules import Policy, load_policy
from lrpilot.schedules.learned import Action
from lrpilot.schedules.learned.features import NAMES
from lrpilot.schedules.learned.policy import LARGEST_FILE, as_tensors, from_bytes
from lrpilot.schedules.learned.tensor_file import read_tensors, write_tensors
from policies import random_policy

POLICY = random_policy(4, kind="anchored", base="cosine", about={"trained on": "nothing – at all"})
DATA = write_tensors(as_tensors(POLICY))
SIZE = int.from_bytes(DATA[:8], "little")
HEADER = json.loads(DATA[8 : 8 + SIZE])
BODY = DATA[8 + SIZE :]


def file_of(header: object, body: bytes = BODY) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def with_tensor(name: str = "layer0.bias", **changed: object) -> bytes:
    return file_of(HEADER | {name: HEADER[name] | changed})


def with_metadata(**changed: object) -> bytes:
    kept = HEADER["__metadata__"] | changed
    kept = {name: value for name, value in kept.items() if value is not None}
    return file_of(HEADER | {"__metadata__": kept})


def with_weights(**changed: np.ndarray) -> bytes:
    file = as_tensors(POLICY)
    return write_tensors(file._replace(tensors=file.tensors | changed))


def test_what_is_written_is_what_is_read(tmp_path):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(DATA)
    read = load_policy(path)
    assert read == POLICY == load_policy(str(path)) == load_policy(read)
    assert (read.name, read.about, read.action) == ("mine", POLICY.about, POLICY.action)
    assert (read.base, read.squash) == ("cosine", "tanh")
    assert read.act((0.1,) * len(NAMES)) == POLICY.act((0.1,) * len(NAMES))
    assert write_tensors(as_tensors(read)) == DATA


def test_the_safetensors_package_reads_what_we_write_and_we_what_it_writes():
    ours, theirs = as_tensors(POLICY), safetensors.numpy.load(DATA)
    assert theirs.keys() == ours.tensors.keys()
    for name, array in ours.tensors.items():
        assert np.array_equal(theirs[name], array)
        assert theirs[name].dtype == np.float32
    metadata = dict(ours.metadata)
    written = safetensors.numpy.save({k: np.array(v) for k, v in ours.tensors.items()}, metadata)
    assert from_bytes("theirs", written, "file") == POLICY


@given(
    arrays=st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=4),
    metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
)
def test_any_arrays_go_through_the_safetensors_package_and_back(arrays, metadata):
    rng = np.random.default_rng(0)
    tensors = {f"t{at}": np.array(rng.normal(size=shape), "f4") for at, shape in enumerate(arrays)}
    found = read_tensors(safetensors.numpy.save(tensors, metadata), "file")
    back = safetensors.numpy.load(write_tensors(found))
    assert found.metadata == metadata
    for name, array in tensors.items():
        assert np.array_equal(found.tensors[name], array)
        assert np.array_equal(back[name], array)


def test_every_truncation_is_refused():
    for size in range(len(DATA)):
        with pytest.raises(ValueError, match=r"^that file .*(damaged|header)"):
            from_bytes("cut", DATA[:size], "that file")


@settings(max_examples=300)
@given(flips=st.lists(st.integers(0, 8 * len(DATA) - 1), min_size=1, max_size=4))
def test_flipped_bits_make_another_policy_or_an_error_that_names_the_file(flips):
    data = bytearray(DATA)
    for bit in flips:
        data[bit // 8] ^= 1 << bit % 8
    check_read(bytes(data))


@settings(max_examples=200)
@given(garbage=st.binary(max_size=200), keep=st.integers(0, len(DATA)))
def test_garbage_is_refused_by_name(garbage, keep):
    check_read(DATA[:keep] + garbage)


def check_read(data: bytes) -> None:
    try:
        policy = from_bytes("mine", data, "that file")
    except ValueError as error:
        text = str(error)
        assert text.startswith("that file is no ")
        assert len(text) < 1500
        assert text.isprintable()
    else:
        assert -1 <= policy.act((0.5,) * len(NAMES)) <= 1


deep = b"[" * 100_000
HOSTILE = {
    "nothing": (b"", "it has 0 bytes"),
    "a huge header": ((2**63).to_bytes(8, "little") + DATA[8:], "its header claims"),
    "a header beyond the file": (len(DATA).to_bytes(8, "little") + DATA[8:], "header claims"),
    "deep JSON": (file_of(deep), "its header is not JSON"),
    "deep JSON in an entry": (
        file_of(b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"),
        "'a' is no float32 array|is not JSON",
    ),
    "a number without end": (file_of(b'{"a":' + b"9" * 9999 + b"}"), "its header is not JSON"),
    "a list": (file_of([]), "its header is not a table"),
    "not UTF-8": (file_of(b"{\xff}"), "its header is not JSON"),
    "metadata of numbers": (with_metadata(base=3), "its metadata are not text by name"),
    "metadata of another kind": (file_of(HEADER | {"__metadata__": 3}), "metadata are not text"),
    "half floats": (with_tensor(dtype="F16"), "'layer0.bias' is no float32 array: {'dtype': 'F16'"),
    "no dtype": (file_of(HEADER | {"layer0.bias": {}}), "'layer0.bias' is no float32 array"),
    "a negative offset": (with_tensor(data_offsets=[-16, 0]), "is no float32 array"),
    "a fraction": (with_tensor(data_offsets=[0.0, 16.0]), "is no float32 array"),
    "true": (with_tensor(shape=[True] * 4), "is no float32 array"),
    "backward offsets": (with_tensor(data_offsets=[16, 0]), "does not fit"),
    "overlap": (with_tensor("layer1.bias", data_offsets=[0, 4]), "overlap or leave gaps"),
    "beyond the end": (with_tensor(data_offsets=[10**6, 10**6 + 16]), "does not fit"),
    "a size that wraps": (with_tensor(shape=[2**31 - 1] * 4), "does not fit"),
    "many axes": (with_tensor(shape=[1] * 100 + [4]), "is no float32 array"),
    "an empty array": (with_tensor(shape=[2**31 - 1] * 7 + [0]), "is no float32 array"),
    "text as a shape": (with_tensor(shape="4"), "is no float32 array"),
    "trailing bytes": (DATA + b"\0\0\0\0", "overlap or leave gaps"),
    "another shape": (with_tensor(shape=[2, 2]), "do not lead from"),
    "NaN": (with_weights(**{"layer1.bias": np.float32([math.nan])}), "must be finite.*got nan"),
    "infinity": (with_weights(**{"layer1.bias": np.float32([-math.inf])}), "finite.*got -inf"),
    "huge weights": (with_weights(**{"layer1.bias": np.float32([1e38])}), "finite.*got 1e.38"),
    "two actions": (
        with_weights(
            **{"layer1.weight": np.ones((4, 2), "f4"), "layer1.bias": np.ones(2, "f4")},
        ),
        f"do not lead from {len(NAMES)} features to one action",
    ),
    "layers that do not fit": (
        with_weights(**{"layer1.weight": np.ones((5, 1), "f4")}),
        "do not lead from",
    ),
    "other inputs": (
        with_weights(**{"layer0.weight": np.ones((3, 4), "f4")}),
        "do not lead from",
    ),
    "a scalar as a bias": (
        with_weights(**{"layer1.bias": np.ones((), "f4")}),
        "do not lead from",
    ),
    "a layer too many": (
        with_weights(**{"layer9.weight": np.ones((1, 1), "f4")}),
        "it has no layer2.weight",
    ),
    "a bias too few": (
        write_tensors(
            as_tensors(POLICY)._replace(
                tensors={k: v for k, v in as_tensors(POLICY).tensors.items() if "1.bias" not in k}
            )
        ),
        "it has no layer1.bias",
    ),
    "no arrays": (file_of({"__metadata__": HEADER["__metadata__"]}, b""), "do not lead from"),
    "no metadata": (
        file_of({name: entry for name, entry in HEADER.items() if name != "__metadata__"}),
        "it has no format",
    ),
    "another format": (with_metadata(format="x\ny" * 999), "its format is .* another kind of file"),
    "another version": (with_metadata(format_version="2"), "'2' instead of '1': another release"),
    "other features": (
        with_metadata(features="0: loss"),
        "its features is '0: loss' instead of .*: it was trained on other features; train it again",
    ),
    "an unknown base": (
        with_metadata(base="cosin"),
        "base schedule 'cosin'; did you mean 'cosine'",
    ),
    "a base of lines": (with_metadata(base="x\n" * 9999), "unknown base schedule"),
    "an unknown squash": (with_metadata(squash="x"), "unknown squash 'x'"),
    "an unknown action": (with_metadata(action_kind="x"), "kind of an action must be steps"),
    "a size of 0": (with_metadata(action_size="0"), r"size of an action must lie in \(0, 20\)"),
    "a size that is none": (with_metadata(action_size="x"), "could not convert"),
    "a limit of NaN": (with_metadata(action_limit="nan"), "limit of an action must lie in"),
    **{
        f"no {name}": (with_metadata(**{name: None}), f"it has no {name}")
        for name in sorted(HEADER["__metadata__"].keys() - POLICY.about)
    },
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_by_name(tmp_path, what):
    data, why = HOSTILE[what]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"bad\.safetensors is no .*{why}") as caught:
        load_policy(path)
    assert str(caught.value).isprintable(), "one line"
    assert len(str(caught.value)) < 1500
    check_read(data)


def test_a_file_that_is_none_or_cannot_be_read_is_named(tmp_path):
    for source, why in [
        ("nmff", "no policy 'nmff'; did you mean 'nmf'"),
        ("", r"no policy ''; \(known: net, nmf, or the path of a file"),
        (tmp_path, "no policy "),
        (tmp_path / "none.safetensors", r"no policy .*none\.safetensors"),
        ("x" * 5000, "cannot read the policy 'xxx"),
        ("a\0b", "no policy"),
    ]:
        with pytest.raises(ValueError, match=why):
            load_policy(source)
    large = tmp_path / "large.safetensors"
    with large.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)
    with pytest.raises(ValueError, match=r"large\.safetensors is no policy: it has more than"):
        load_policy(large)


def test_equal_policies_are_those_that_decide_alike():
    again = random_policy(4, kind="anchored", base="cosine")
    assert again == POLICY
    assert hash(again) == hash(POLICY)
    others = [
        random_policy(4, kind="steps", base="cosine"),
        random_policy(4, kind="anchored", base="linear"),
        random_policy(4, kind="anchored", base="cosine", squash="clip"),
        random_policy(4, kind="anchored", base="cosine", seed=1),
        random_policy(5, kind="anchored", base="cosine"),
    ]
    assert len({POLICY, again, *others}) == 6
    assert len({repr(policy) for policy in (POLICY, again, *others)}) == 6


def test_nobody_can_change_the_weights_of_a_policy():
    weights = [np.zeros((len(NAMES), 1))]
    policy = Policy(name="mine", weights=tuple(weights), biases=([0.0],), action=Action())
    before = policy.fingerprint
    weights[0][:] = 7
    assert Policy(name="mine", weights=policy.weights, biases=policy.biases).fingerprint == before
    with pytest.raises(ValueError, match="read-only"):
        policy.weights[0][:] = 7
