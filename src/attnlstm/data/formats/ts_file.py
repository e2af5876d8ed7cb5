"""The `.ts` files of the UCR and UEA time series classification archives, read line by line.

A header of `@` tags, then a series on each line: its channels, which the format calls dimensions,
between colons, each with its values between commas, and last the label.

    @classLabel true walking running
    @dimensions 2
    @data
    0.1,0.2,0.3:1.5,1.5,1.6:walking
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.series import (
    EMPTY,
    check_series_values,
    register_series,
    to_numbers,
)
from attnlstm.data.formats.table import NOT_UTF8
from attnlstm.data.rows import Row, RowSource
from attnlstm.errors import UserError
from attnlstm.files import file_fingerprint, open_binary, read_line

LONGEST_LINE = 1 << 23  # bytes; more than that are never held at a time
LONGEST_HEADER_LINE = 1 << 20
LONGEST_HEADER = 10_000  # lines
TAGS = ("@timestamps", "@targetlabel", "@classlabel", "@univariate", "@dimensions", "@dimension")

TOO_LONG = "longer than 8 Mi characters"
WRONG_CHANNELS = "wrong number of channels"
UNDECLARED_LABEL = "label that the @classLabel line does not declare"
UNEQUAL_CHANNELS = "channels of different lengths"


@register_series(".ts")
class TsFile(RowSource):
    """The series of one `.ts` file, a line at a time.

    Labels are written as in the file, and match those of the `@classLabel` line exactly; an empty
    one and `?` stand for none. `label_names` is in the order of that line. Of the header only
    `@classLabel`, `@dimensions` and `@univariate` matter; lengths are those of the values.

    Args:
        path: the file.
        key: what messages call the choice of this file, such as "data.train".
        name: what rows and messages call the file.
        needs_labels: whether a file that says `@classLabel false` is refused.

    Raises:
        UserError: the header is missing or makes no sense, it announces time stamps or a target
            for regression, or there are no labels where they are needed.
    """

    def __init__(self, path: str | Path, *, key: str, name: str, needs_labels: bool = True) -> None:
        self.path = Path(path)
        self.key = key
        self.name = name
        self._tags, self._header_lines = self._read_header()
        self._check_header()
        self.label_names = self._declared_labels(needs_labels)
        self._declared = set(self.label_names or ())
        self._num_channels = self._declared_channels()

    def __iter__(self) -> Iterator[Row]:
        number = 0
        with open_binary(self.path) as file:
            for line, content in enumerate(_lines(file), start=1):
                if line > self._header_lines and not _is_comment(content):
                    yield self._read_row(number, line, content)
                    number += 1

    def fingerprint(self) -> str:
        return file_fingerprint(self.path)

    def _read_row(self, number: int, line: int, content: bytes) -> Row:
        try:
            series, label = self._parse(content)
        except RowProblemError as problem:
            return Row(self.name, number, None, problem=str(problem), line=line)
        return Row(self.name, number, series, label, line=line)

    def _parse(self, content: bytes) -> tuple[np.ndarray, str | None]:
        """The series `[time, channel]` and the label of a line."""
        if len(content) == LONGEST_LINE:
            raise RowProblemError(TOO_LONG)
        try:
            fields = content.decode().strip().split(":")
        except UnicodeDecodeError:
            raise RowProblemError(NOT_UTF8) from None
        label = fields.pop().strip() if self.label_names is not None else None
        if self._num_channels not in (None, len(fields)):
            raise RowProblemError(WRONG_CHANNELS)
        if not any(field.strip() for field in fields):
            raise RowProblemError(EMPTY)
        channels = [to_numbers(field.split(",")) for field in fields]
        if len({len(channel) for channel in channels}) > 1:
            raise RowProblemError(UNEQUAL_CHANNELS)
        series = np.stack(channels, axis=1)  # [time, channel]
        check_series_values(series)
        if self.label_names is None or label in self._declared:
            return series, label
        if label in ("", "?"):
            return series, None
        raise RowProblemError(UNDECLARED_LABEL)

    def _read_header(self) -> tuple[dict[str, list[str]], int]:
        """The words behind each tag, and the number of the `@data` line."""
        tags: dict[str, list[str]] = {}
        with open_binary(self.path) as file:
            for line, content in enumerate(_lines(file), start=1):
                if line > LONGEST_HEADER:
                    raise self._error(
                        f"has no @data line in its first {LONGEST_HEADER:,} lines: choose a .ts "
                        "file with a header and data"
                    )
                if len(content) > LONGEST_HEADER_LINE:
                    raise self._error(
                        f"is not a .ts file: line {line} is longer than a line of a header"
                    )
                if line == 1:
                    content = content.removeprefix(b"\xef\xbb\xbf")  # a byte order mark
                if _is_comment(content):
                    continue
                if not content.lstrip().startswith(b"@"):
                    raise self._error(
                        f"is not a .ts file: line {line} comes before @data and is neither a tag "
                        "(@...) nor a comment (#...)"
                    )
                try:
                    tag, *words = content.decode().split()
                except UnicodeDecodeError:
                    raise self._error(f"is not UTF-8 in line {line}: save it as UTF-8") from None
                if tag.lower() == "@data":
                    return tags, line
                if tag.lower() in TAGS:
                    tags[tag.lower()] = words
        raise self._error("has no @data line: choose a .ts file with a header and data")

    def _check_header(self) -> None:
        if self._says("@timestamps", "true"):
            raise self._error("has time stamps: save it without them, evenly sampled")
        if self._says("@targetlabel", "true"):
            raise self._error(
                "has numbers to predict (@targetlabel true) and no classes: choose a set for "
                "classification"
            )

    def _declared_labels(self, needs_labels: bool) -> list[str] | None:
        example = "such as '@classLabel true walking running'"
        if "@classlabel" not in self._tags:
            raise self._error(f"has no @classLabel line: add one before @data, {example}")
        if self._says("@classlabel", "false"):
            if needs_labels:
                raise self._error("has no labels (@classLabel false): choose a file with labels")
            return None
        names = list(dict.fromkeys(self._tags["@classlabel"][1:]))
        if not self._says("@classlabel", "true") or not names:
            raise self._error(f"has a @classLabel line without class names: write it {example}")
        return names

    def _declared_channels(self) -> int | None:
        """The number of channels; None where the header does not say it."""
        if self._says("@univariate", "true"):
            return 1
        for tag in ("@dimensions", "@dimension"):
            if tag in self._tags:
                words = self._tags[tag]
                if len(words) != 1 or not re.fullmatch("0*[1-9][0-9]{0,8}", words[0]):
                    raise self._error(f"has a {tag} line without a count: write it '{tag} 3'")
                return int(words[0])
        return None

    def _says(self, tag: str, word: str) -> bool:
        words = self._tags.get(tag, [])
        return bool(words) and words[0].lower() == word

    def _error(self, problem: str) -> UserError:
        return UserError(f"{self.key}: {self.path} {problem}")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Each line with its end; of one that is too long, the beginning."""
    while line := read_line(file, LONGEST_LINE):
        yield line


def _is_comment(content: bytes) -> bool:
    content = content.strip()
    return not content or content.startswith((b"#", b"%"))
