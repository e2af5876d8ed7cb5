"""Pretrained word vectors in text files: GloVe's, and word2vec's with their first line "N D"."""

import math
import re
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from attnlstm.data.formats.lines import read_lines
from attnlstm.errors import UserError
from attnlstm.files import check_is_file

SHOWN = 10  # malformed lines that a message describes; of the others it gives the number
SNIFFED_LINES = 100  # in which the size of the vectors is looked for
SNIFFED_BYTES = 1 << 16  # in which a binary file is recognized
LONGEST_LINE = 1 << 20  # bytes
LARGEST_SIZE = 10_000  # values of a vector; longer ones are something else
LARGEST = float(np.finfo(np.float32).max)
HEADER = re.compile(rb"(\d{1,18}) (\d{1,18})")
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xfd7zXZ": "xz"}


class WordVectors(NamedTuple):
    """The vectors of the words that are in both a vocabulary and a file.

    vectors: [found, size] float32, in the order of the file.
    ids: [found] int64, the numbers of the words in the vocabulary.
    num_malformed: the number of lines that could not be used.
    """

    vectors: np.ndarray
    ids: np.ndarray
    num_malformed: int


def load_vectors(
    path: str | Path, vocabulary: Mapping[str, int], *, skip_malformed: bool
) -> WordVectors:
    """Read a file of `word value value ...` lines, keeping only the words of the vocabulary.

    Words are compared as they are, without changing case. A word may contain spaces, as some of
    GloVe's do; the first vector of a word counts. Blank lines are skipped. Every line is checked,
    also those of other words.

    Args:
        path: a text file in UTF-8, the values separated by single spaces or tabs.
        vocabulary: the number of each word.
        skip_malformed: skip and count malformed lines instead of raising.

    Raises:
        UserError: the file cannot be read, is packed, binary or without vectors, has none of the
            words, or has malformed lines: not UTF-8, another number of values than most, a value
            that is not a finite float32, or a header with another number or size of vectors.
    """
    path = Path(path)
    _check_is_text(path)
    size, announced = _sniff(path)
    vectors: dict[int, np.ndarray] = {}
    malformed: list[str] = []
    num_malformed = num_lines = 0
    for number, line in _lines(path):
        if announced is not None and number == 1:
            continue  # the header
        num_lines += 1
        try:
            word, values = _parse(line, size)
        except ValueError as error:
            num_malformed += 1
            if num_malformed <= SHOWN:
                malformed.append(f"line {number} ({error})")
            continue
        word_id = vocabulary.get(word)
        if word_id is not None and word_id not in vectors:
            vectors[word_id] = np.array(values, dtype=np.float32)
    if announced not in (None, (num_lines, size)):
        num_malformed += 1
        says = "line 1 ({} vectors of {} values announced, {} of {} found)"
        malformed = [says.format(*announced, num_lines, size), *malformed][:SHOWN]
    if num_malformed and not skip_malformed:
        more = ", ..." * (num_malformed > SHOWN)
        drop = ", or set data.on_bad_row=drop" * (2 * num_malformed <= num_lines)
        raise UserError(
            f"{path} has {num_malformed} malformed line{'s' * (num_malformed > 1)}: "
            f"{', '.join(malformed)}{more}: fix or remove them{drop}"
        )
    if not vectors:
        raise UserError(
            f"model.embedding.vectors={path} has none of the {len(vocabulary)} tokens of the "
            "vocabulary: choose vectors of the same language, data.tokenizer.kind=word, and "
            "data.tokenizer.lowercase as in the file"
        )
    return WordVectors(np.stack(list(vectors.values())), np.array(list(vectors)), num_malformed)


def _check_is_text(path: Path) -> None:
    # a pipe would block, and opening a folder says what it is
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"model.embedding.vectors={path} is not a file: give a text file")
    check_is_file(path)
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
    """Yield the lines that are not blank with their numbers, only the beginning of long ones."""
    with path.open("rb") as file:
        for number, line in read_lines(file, LONGEST_LINE):
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            line = line.replace(b"\t", b" ").rstrip(b" \r\n")
            if line:
                yield number, line


def _sniff(path: Path) -> tuple[int, tuple[int, int] | None]:
    """Return the size of the vectors, and the number and size that a word2vec header announces.

    The most common size counts, because any line may be malformed, also the first.
    """
    first, *others = [line for _, line in islice(_lines(path), SNIFFED_LINES)] or [b""]
    sizes = Counter(map(_count_values, [*others, first]))  # header last: it loses a tie
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
    """Return the number of numbers at the end of a line, after its first word."""
    return sum(1 for _ in takewhile(_is_number, reversed(line.split(b" ")[1:])))


def _parse(line: bytes, size: int) -> tuple[str, list[float]]:
    """Return the word and its `size` values, or raise a ValueError that says what is wrong."""
    word, *parts = line.rsplit(b" ", size)  # from the right: the word may contain spaces
    try:
        if b"_" in b"".join(parts):  # a thousands separator to Python
            raise ValueError
        values = list(map(float, parts))
    except ValueError:
        values = []
    # the first of too many values would count as the end of the word
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
