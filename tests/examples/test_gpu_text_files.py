"""Text is read as bytes, tokens or shards, and split into contiguous parts."""

import json

import numpy as np
import pytest
from text_files import LLM_C_MAGIC, read_tokens, split
from tokenizers import Tokenizer, models, pre_tokenizers

SENTENCE = "the cat sat on the mat. "


def all_of(tokens):
    return tokens.window(0, len(tokens))


def test_a_text_is_its_bytes(tmp_path):
    (tmp_path / "a.txt").write_text("na\u00efve")
    tokens = read_tokens(str(tmp_path / "a.txt"))
    assert bytes(all_of(tokens).tolist()) == "na\u00efve".encode()
    assert tokens.vocabulary == 256


def test_a_folder_is_read_in_depth_in_the_order_of_names_with_a_zero_between(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.py").write_text("three")
    (tmp_path / "b.jsonl").write_text('{"text": "two", "id": 1}\n\n{"text": "two more"}\n')
    (tmp_path / "a.md").write_text("one")
    (tmp_path / "picture.png").write_bytes(b"no text")
    found = bytes(all_of(read_tokens(str(tmp_path))).tolist())
    assert found == b"one\0two\0two more\0three"


def word_tokenizer(path, *, end=True):
    words = ["?", "the", "cat", "sat", "on", "mat", ".", *(["<|endoftext|>"] if end else [])]
    model = models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="?")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return str(path)


def test_a_tokenizer_ends_each_document_with_its_own_token(tmp_path):
    (tmp_path / "a.txt").write_text("the cat")
    (tmp_path / "b.txt").write_text("the dog")
    tokens = read_tokens(str(tmp_path), tokenizer=word_tokenizer(tmp_path / "t.json"))
    assert all_of(tokens).tolist() == [1, 2, 7, 1, 0, 7]
    assert tokens.vocabulary == 8
    endless = word_tokenizer(tmp_path / "endless.json", end=False)
    assert all_of(read_tokens(str(tmp_path), tokenizer=endless)).tolist() == [1, 2, 1, 0]


def test_shards_are_mapped_and_windows_span_them(tmp_path):
    np.arange(10, dtype="<u2").tofile(tmp_path / "a.bin")
    np.save(tmp_path / "b.npy", np.arange(10, 15, dtype=np.uint16))
    header = np.zeros(256, dtype="<i4")
    header[:3] = LLM_C_MAGIC, 1, 5
    (tmp_path / "c.bin").write_bytes(header.tobytes() + np.arange(15, 20, dtype="<u2").tobytes())
    tokens = read_tokens(str(tmp_path))
    assert all(isinstance(array, np.memmap) for array in tokens.arrays)
    assert tokens.vocabulary == 50_257
    assert all_of(tokens).tolist() == list(range(20))
    for start in range(20):
        for length in range(1, 21 - start):
            assert tokens.window(start, length).tolist() == [*range(start, start + length)]


def parts_of(tmp_path, count=1000, context=9):
    np.arange(count, dtype="<u2").tofile(tmp_path / f"{count}.bin")
    return split(read_tokens(str(tmp_path / f"{count}.bin")), context)


def test_parts_are_contiguous_and_share_nothing(tmp_path):
    parts = parts_of(tmp_path)
    assert [(part.start, part.end) for part in parts] == [(0, 900), (900, 950), (950, 1000)]


def test_windows_lie_in_their_part_and_reach_both_of_its_ends(tmp_path):
    parts = parts_of(tmp_path)
    for part in parts:
        tokens, following = part.drawn(np.random.default_rng(0), 4000, 9)
        assert (following == tokens + 1).all()
        assert (tokens.min(), following.max()) == (part.start, part.end - 1)
        tokens, following = part.fixed(5, 9)
        assert (tokens[0, 0], following[-1, -1]) == (part.start, part.end - 1)
        assert len(np.unique(tokens[:, 0])) == 5


def test_windows_are_drawn_by_the_seed_and_held_out_ones_are_fixed(tmp_path):
    part = parts_of(tmp_path).train
    first, again, other = (
        part.drawn(np.random.default_rng(seed), 8, 9)[0].tolist() for seed in (1, 1, 2)
    )
    assert first == again != other
    assert (part.fixed(7, 9)[0] == part.fixed(7, 9)[0]).all()
    assert len(parts_of(tmp_path, 200).test.fixed(64, 9)[0]) == 1  # as many as there are


def test_a_text_too_short_for_a_window_is_named_with_what_would_do(tmp_path):
    (tmp_path / "short.txt").write_text("x" * 189)
    message = r"has 189 tokens, of which 5 % \(\d+\) are held out, too few for a window of 9 "
    with pytest.raises(ValueError, match=message):
        split(read_tokens(str(tmp_path / "short.txt")), 9)
    (tmp_path / "enough.txt").write_text("x" * 20 * 11)  # what the message asks for
    split(read_tokens(str(tmp_path / "enough.txt")), 9)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="has 0 tokens"):
        split(read_tokens(str(tmp_path / "empty.txt")), 9)


def test_a_token_outside_of_the_vocabulary_is_named(tmp_path):
    np.full(1000, 300, dtype="<u2").tofile(tmp_path / "a.bin")
    parts = split(read_tokens(str(tmp_path), vocabulary=300), 8)
    with pytest.raises(ValueError, match="has a token 300, and the vocabulary is 300; set LRPILOT"):
        parts.train.drawn(np.random.default_rng(0), 1, 8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bin", b"odd", "a.bin is truncated: 3 bytes are no uint16 tokens"),
        ("a.bin", b"", "a.bin is truncated: 0 bytes"),
        ("a.npy", b"\x93NUMPY", "a.npy is not a complete .npy file"),
        ("a.txt", b"\xff\xfe", "cannot read .*a.txt as UTF-8 text"),
        ("a.jsonl", b'{"text": "x"}\n{', "a.jsonl, line 2, is not JSON"),
        ("a.jsonl", b'{"body": "x"}', "a.jsonl, line 1, has no field 'text' with a string"),
        ("a.csv", b"x", "has none of .txt, .md, .py, .jsonl, .bin, .npy"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_tokens(str(tmp_path))


def test_a_shard_cut_short_of_its_header_is_named(tmp_path):
    header = np.zeros(256, dtype="<i4")
    header[:3] = LLM_C_MAGIC, 1, 50
    (tmp_path / "c.bin").write_bytes(header.tobytes() + bytes(20))
    with pytest.raises(ValueError, match="its header says 50 tokens, and 1,044 bytes hold 10"):
        read_tokens(str(tmp_path))


@pytest.mark.parametrize("array", [np.zeros(4), np.zeros((2, 2), np.uint16)])
def test_an_array_that_is_no_row_of_tokens_is_named(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=r"a.npy must be one row of uint16"):
        read_tokens(str(tmp_path))


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a.npy is not a complete .npy file"):
        read_tokens(str(tmp_path))


def test_settings_that_do_not_fit_the_data_are_named(tmp_path):
    with pytest.raises(ValueError, match="LRPILOT_DATA is not set, and nothing is downloaded"):
        read_tokens("")
    with pytest.raises(ValueError, match="which does not exist"):
        read_tokens(str(tmp_path / "nowhere"))
    (tmp_path / "a.txt").write_text(SENTENCE)
    with pytest.raises(ValueError, match=r"which is not a tokenizer.json"):
        read_tokens(str(tmp_path), tokenizer=str(tmp_path / "a.txt"))
    with pytest.raises(ValueError, match="LRPILOT_VOCABULARY is 100, and the text has up to 256"):
        read_tokens(str(tmp_path), vocabulary=100)
    (tmp_path / "b.bin").write_bytes(bytes(4))
    with pytest.raises(ValueError, match=r"has tokens \(b.bin\) and text \(a.txt\); keep them"):
        read_tokens(str(tmp_path))
    with pytest.raises(ValueError, match=r"LRPILOT_TOKENIZER does not apply to b.bin"):
        read_tokens(str(tmp_path / "b.bin"), tokenizer=json.dumps({}))
