"""Read text as tokens: bytes, a tokenizer's, or shards of tokens made elsewhere."""

import json
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

try:
    from tokenizers import Tokenizer
except ImportError:  # text is read as bytes, or comes as shards
    Tokenizer = None

PLAIN = (".txt", ".md", ".py")
SHARDS = (".bin", ".npy")
BYTES = 256
GPT2_VOCABULARY = 50_257
END_OF_TEXT = "<|endoftext|>"
SHARES = (0.9, 0.05)  # of the tokens: to train, to validate; the rest is the test part

# Header of the shards of llm.c: 256 int32, of which the first is this number, the third the count.
LLM_C_MAGIC, LLM_C_HEADER = 20_240_520, 1024

Array = np.ndarray


class Tokens:
    """Arrays of tokens as one sequence, which may be memory-mapped and is never copied as a whole.

    vocabulary: tokens lie in 0 to ``vocabulary - 1``.
    """

    def __init__(self, arrays: Sequence[Array], vocabulary: int, source: str) -> None:
        self.arrays, self.vocabulary, self.source = arrays, vocabulary, source
        self.ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def window(self, start: int, length: int) -> Array:
        """``length`` tokens from ``start`` on, as int64; they may span shards."""
        pieces: list[Array] = []
        at = int(np.searchsorted(self.ends, start, side="right"))
        offset = start - int(self.ends[at - 1]) if at else start
        while length > 0:
            piece = self.arrays[at][offset : offset + length]
            pieces.append(piece)
            length -= len(piece)
            at, offset = at + 1, 0
        return np.concatenate(pieces).astype(np.int64)


class Part(NamedTuple):
    """A contiguous part of the tokens, from ``start`` up to ``end``."""

    tokens: Tokens
    start: int
    end: int

    def windows(self, starts: Array, context: int) -> tuple[Array, Array]:
        """Inputs and the tokens that follow them, (n, context) both, from ``starts`` on.

        Raises ValueError for a token outside of the vocabulary.
        """
        rows = np.stack(
            [self.tokens.window(self.start + int(start), context + 1) for start in starts]
        )
        if rows.max() >= self.tokens.vocabulary:
            raise ValueError(
                f"{self.tokens.source} has a token {rows.max()}, and the vocabulary is "
                f"{self.tokens.vocabulary:,}; set LRPILOT_VOCABULARY to the tokenizer's size"
            )
        return rows[:, :-1], rows[:, 1:]

    def drawn(self, rng: np.random.Generator, count: int, context: int) -> tuple[Array, Array]:
        """``count`` windows that start anywhere in the part."""
        return self.windows(rng.integers(0, self.end - self.start - context, count), context)

    def fixed(self, count: int, context: int) -> tuple[Array, Array]:
        """The same windows every time: at most ``count``, evenly spread over the part."""
        last = self.end - self.start - context - 1
        return self.windows(np.unique(np.linspace(0, last, count).astype(np.int64)), context)


class Parts(NamedTuple):
    """What to train, validate and test on, in this order in the text."""

    train: Part
    validation: Part
    test: Part


def split(tokens: Tokens, context: int) -> Parts:
    """The first 90 % to train on, the next 5 % to validate, the last 5 % to test.

    Raises ValueError if a part is shorter than a window.
    """
    train, validation = SHARES
    count = len(tokens)
    cuts = (0, int(count * train), int(count * (train + validation)), count)
    parts = [Part(tokens, start, end) for start, end in pairwise(cuts)]
    shortest = min(part.end - part.start for part in parts)
    if shortest < context + 1:
        raise ValueError(
            f"{tokens.source} has {len(tokens):,} tokens, of which 5 % ({shortest:,}) are held "
            f"out, too few for a window of {context:,} and the token after it; give at least "
            f"{20 * (context + 2):,} tokens or lower LRPILOT_CONTEXT"
        )
    return Parts(*parts)


@cache  # a process trains many times on the same text
def read_tokens(data: str, *, tokenizer: str = "", vocabulary: int = 0) -> Tokens:
    """The tokens of ``data``, in the order of its files' names.

    data: a file or a folder: .txt, .md, .py (documents), .jsonl (documents in the field ``text``),
        or .bin and .npy (uint16 tokens, memory-mapped). Folders are searched in depth.
    tokenizer: a ``tokenizer.json``; without it tokens are the bytes of the text in UTF-8.
    vocabulary: 0 is that of the bytes, of the tokenizer, or for shards GPT-2's 50,257.

    Between documents of a tokenizer stands its ``<|endoftext|>``, if it has one; of bytes, a zero.
    Raises ValueError, with the file, for what cannot be read.
    """
    if not data:
        raise ValueError(
            "LRPILOT_DATA is not set, and nothing is downloaded; set it to a text file, a folder "
            "of .txt, .md, .py or .jsonl files, or uint16 tokens (.bin, .npy)"
        )
    path = Path(data).expanduser()
    if not path.exists():
        raise ValueError(f"LRPILOT_DATA is {data!r}, which does not exist; correct the path")
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
    shards = [file for file in files if file.suffix in SHARDS]
    texts = [file for file in files if file.suffix in (*PLAIN, ".jsonl")]
    if not shards and not texts:
        raise ValueError(
            f"LRPILOT_DATA is {data!r}, which has none of {', '.join((*PLAIN, '.jsonl', *SHARDS))}"
        )
    if shards and texts:
        raise ValueError(
            f"LRPILOT_DATA is {data!r}, which has tokens ({shards[0].name}) and text "
            f"({texts[0].name}); keep them in folders of their own"
        )
    if shards:
        if tokenizer:
            raise ValueError(
                f"LRPILOT_TOKENIZER does not apply to {shards[0].name}, which has tokens already; "
                f"unset it, and set LRPILOT_VOCABULARY to the size of the tokenizer that made them"
            )
        return Tokens([_shard(file) for file in shards], vocabulary or GPT2_VOCABULARY, data)
    encoded, size = _encoded(documents(texts), tokenizer)
    if vocabulary and vocabulary < size:
        raise ValueError(
            f"LRPILOT_VOCABULARY is {vocabulary:,}, and the text has up to {size:,} tokens; unset "
            f"it or raise it"
        )
    return Tokens([encoded], vocabulary or size, data)


def documents(files: Sequence[Path]) -> Iterator[str]:
    """The documents in the files; a .jsonl has one per line. Raises ValueError if it has none."""
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read {file} as UTF-8 text ({error}); mend it") from None
        if file.suffix != ".jsonl":
            yield text
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            try:
                record = json.loads(line) if line.strip() else {"text": ""}
            except json.JSONDecodeError as error:
                raise ValueError(f"{file}, line {number}, is not JSON ({error})") from None
            if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                raise ValueError(
                    f"{file}, line {number}, has no field 'text' with a string; rename the field"
                )
            if record["text"]:
                yield record["text"]


def _encoded(texts: Iterator[str], tokenizer: str) -> tuple[Array, int]:
    """All documents as one array, and the size of the vocabulary."""
    if not tokenizer:
        whole = b"\0".join(text.encode() for text in texts)
        return np.frombuffer(whole, np.uint8), BYTES
    if Tokenizer is None:
        raise ValueError(
            "LRPILOT_TOKENIZER needs the package tokenizers; pip install tokenizers, or unset it "
            "to read the text as bytes"
        )
    try:
        found = Tokenizer.from_file(tokenizer)
    except Exception as error:  # the package raises nothing finer
        raise ValueError(
            f"LRPILOT_TOKENIZER is {tokenizer!r}, which is not a tokenizer.json ({error})"
        ) from None
    end = found.token_to_id(END_OF_TEXT)
    pieces: list[Array] = []
    for text in texts:
        ids = found.encode(text, add_special_tokens=False).ids
        pieces.append(np.array(ids if end is None else [*ids, end], dtype=np.uint32))
    return np.concatenate(pieces or [np.zeros(0, np.uint32)]), found.get_vocab_size()


def _shard(file: Path) -> Array:
    """The tokens of a shard, memory-mapped."""
    size = file.stat().st_size
    if file.suffix == ".npy":
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{file} is not a complete .npy file ({error}); write it again"
            ) from None
        if array.dtype != np.uint16 or array.ndim != 1:
            raise ValueError(
                f"{file} must be one row of uint16, and is {array.dtype} of shape {array.shape}; "
                f"save tokens.astype('uint16').ravel()"
            )
        return array
    if size == 0 or size % 2:
        raise ValueError(
            f"{file} is truncated: {size:,} bytes are no uint16 tokens; write it again"
        )
    array = np.memmap(file, dtype="<u2", mode="r")
    if size >= LLM_C_HEADER and int(array[:2].view("<i4")[0]) == LLM_C_MAGIC:
        count = int(array[4:6].view("<i4")[0])
        if LLM_C_HEADER + 2 * count != size:
            raise ValueError(
                f"{file} is truncated: its header says {count:,} tokens, and {size:,} bytes hold "
                f"{(size - LLM_C_HEADER) // 2:,}; write it again"
            )
        return array[LLM_C_HEADER // 2 :]
    return array
