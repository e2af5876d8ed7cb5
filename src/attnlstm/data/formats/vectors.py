"""Pretrained word vectors from text files: GloVe's, and word2vec's with a first line "N D"."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from attnlstm.errors import UserError
from attnlstm.files import read_line

SHOWN = 10  # malformed lines that a message names before it only counts them
SNIFFED_LINES = 100  # that decide the size of the vectors
SNIFFED_BYTES = 1 << 16  # that decide whether a file is binary
LONGEST_LINE = 1 << 20  # bytes of a line that are held in memory
LARGEST_SIZE = 10_000  # values of a vector; longer lines are not word vectors
LARGEST = float(np.finfo(np.float32).max)
HEADER = re.compile(rb"(\d{1,18}) (\d{1,18})")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz"}


class WordVectors(NamedTuple):
    """The vectors that a file has for the words of a vocabulary."""

    vectors: np.ndarray  # [found, size] float32, in the order of the file
    ids: np.ndarray  # [found] int64, the ids of their words in the vocabulary
    num_malformed: int  # the number of lines that could not be used


def load_vectors(
    path: str | Path, vocabulary: Mapping[str, int], *, skip_malformed: bool
) -> WordVectors:
    """Read a file of `word value value ...` lines, keeping only the words of the vocabulary.

    Words are compared exactly; of a word that occurs twice, the first vector counts. A word may
    contain spaces, as some of GloVe's do. Blank lines are skipped. All other lines are checked.

    Args:
        path: a text file in UTF-8, with single spaces or tabs between the values.
        vocabulary: the id of each word.
        skip_malformed: count malformed lines instead of raising.

    Raises:
        UserError: the file cannot be read, is packed or binary, has none of the words, or has
            malformed lines (not UTF-8, an unusual number of values, a value that is not a finite
            float32, or a first line that announces another number or size of vectors).
    """
    path = Path(path)
    _check_is_text(path)
    size, announced = _sniff(path)
    vectors: dict[int, np.ndarray] = {}
    malformed: list[str] = []
    num_malformed = count = 0
    for number, line in _lines(path):
        if announced is not None and number == 1:
            continue  # the header
        count += 1
        try:
            word, values = _parse(line, size)
        except ValueError as error:
            num_malformed += 1
            if num_malformed <= SHOWN:
                malformed.append(f"line {number} ({error})")
            continue
        word_id = vocabulary.get(word)
        if word_id is not None:
            vectors.setdefault(word_id, np.array(values, dtype=np.float32))
    found = (count, size)
    if announced is not None and announced != found:
        num_malformed += 1
        says = "line 1 ({} vectors of {} values announced, {} of {} found)"
        malformed = [says.format(*announced, *found), *malformed][:SHOWN]
    if num_malformed and not skip_malformed:
        more = ", ..." * (num_malformed > SHOWN)
        raise UserError(
            f"{path} has {num_malformed} malformed line{'s' * (num_malformed > 1)}: "
            f"{', '.join(malformed)}{more}: fix or remove them, or set data.on_bad_row=drop"
        )
    if not vectors:
        raise UserError(
            f"model.embedding.vectors={path} has none of the {len(vocabulary)} tokens of the "
            "vocabulary: choose vectors of the same language, data.tokenizer.kind=word, and "
            "data.tokenizer.lowercase as in the file"
        )
    ids = np.array(list(vectors))
    return WordVectors(np.stack(list(vectors.values())), ids, num_malformed)


def _check_is_text(path: Path) -> None:
    if path.exists() and not path.is_file() and not path.is_dir():  # such as a pipe
        raise UserError(f"model.embedding.vectors={path} is not a file: give a text file")
    try:
        with path.open("rb") as file:
            start = file.read(SNIFFED_BYTES)
    except OSError as error:
        raise UserError(f"model.embedding.vectors={path}: {error.strerror}") from error
    for magic, name in PACKED.items():
        if start.startswith(magic):
            raise UserError(f"model.embedding.vectors={path} is packed ({name}): unpack it first")
    if b"\0" in start or path.suffix == ".bin":
        raise UserError(
            f"model.embedding.vectors={path} is a binary file: choose vectors as text, such as "
            "GloVe's .txt or word2vec's .vec"
        )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers; only the start of very long ones."""
    with path.open("rb") as file:
        lines = iter(lambda: read_line(file, LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            line = line.replace(b"\t", b" ").rstrip(b" \r\n")
            if line:
                yield number, line


def _sniff(path: Path) -> tuple[int, tuple[int, int] | None]:
    """Return the size of the vectors, and the number and size that a word2vec header announces.

    The size is the most common one, as any line can be malformed.
    """
    first, *others = [line for _, line in islice(_lines(path), SNIFFED_LINES)] or [b""]
    sizes = Counter(map(_count_values, [*others, first]))  # in a tie, a header loses
    del sizes[0]
    if not sizes:
        raise UserError(
            f"model.embedding.vectors={path} holds no vectors: choose a text file with a word and "
            "its values in each line, such as GloVe's"
        )
    size = sizes.most_common(1)[0][0]
    if size > LARGEST_SIZE:
        raise UserError(
            f"model.embedding.vectors={path} has vectors of {size:,} values: choose smaller ones"
        )
    if size > 1 and (header := HEADER.fullmatch(first)):
        return size, (int(header[1]), int(header[2]))
    return size, None


def _count_values(line: bytes) -> int:
    """Count the numbers at the end of a line, after its first word."""
    return sum(1 for _ in takewhile(_is_number, reversed(line.split(b" ")[1:])))


def _parse(line: bytes, size: int) -> tuple[str, list[float]]:
    """Return the word and its `size` values, or raise a ValueError that says what is wrong."""
    word, *parts = line.rsplit(b" ", size)  # from the right: the word may contain spaces
    try:
        if b"_" in b"".join(parts):  # Python reads 1_000 as a number
            raise ValueError
        values = list(map(float, parts))
    except ValueError:
        values = []
    # With too many values, the first ones would become the end of the word.
    if len(values) != size or (b" " in word and _is_number(word.rsplit(b" ", 1)[1])):
        count = _count_values(line)
        if count < size <= line.count(b" "):
            raise ValueError("a value is not a number")
        raise ValueError(f"{count} values instead of {size}")
    if not math.isfinite(sum(values)) or max(values) > LARGEST or min(values) < -LARGEST:
        raise ValueError("a value is not finite")
    if not word:
        raise ValueError("no word")
    try:
        return word.decode(), values
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None


def _is_number(part: bytes) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return b"_" not in part
