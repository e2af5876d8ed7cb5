"""The `.ts` files of the UCR and UEA time series classification archives, read line by line.

A header of `@` tags, then a series in each line: its channels, which the format calls dimensions,
separated by colons, each with its values separated by commas, and at the end the label.

    @classLabel true walking running
    @dimensions 2
    @data
    0.1,0.2,0.3:1.5,1.5,1.6:walking
"""

import re
from codecs import BOM_UTF8

import numpy as np

from attnlstm.data.formats import register_reader
from attnlstm.data.formats.compression import open_unpacked
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.lines import read_lines
from attnlstm.data.formats.series import EMPTY, to_numbers
from attnlstm.data.formats.series_lines import SeriesLines, stack_channels

LONGEST_HEADER_LINE = 1 << 20
LONGEST_HEADER = 10_000  # lines
TAGS = ("@timestamps", "@targetlabel", "@classlabel", "@univariate", "@dimensions", "@dimension")


@register_reader(".ts")
class TsFile(SeriesLines):
    """The series of one `.ts` file.

    Labels must match those of the `@classLabel` line exactly; an empty one and `?` are missing.
    `label_names` is in the order of that line. With `@targetLabel true`, they are numbers to
    predict. Lengths are those of the values, whatever the header says. Time stamps are refused.
    """

    longest_line = 1 << 23
    comment_marks = (b"#", b"%")

    def _parse_line(self, line: str) -> tuple[np.ndarray, str | None]:
        fields = line.split(":")
        has_label = self.label_names is not None or self.task == "regression"
        label = fields.pop().strip() if has_label else None
        if self._num_channels not in (None, len(fields)):
            raise RowProblemError("wrong number of channels")
        if not any(field.strip() for field in fields):
            raise RowProblemError(EMPTY)
        series = stack_channels([to_numbers(field.split(",")) for field in fields])
        if label in self._declared:
            return series, label
        if label in (None, "", "?", "NaN"):
            return series, None
        if self.task == "regression":
            return series, label
        raise RowProblemError("label that the @classLabel line does not declare")

    def _read_header(self, needs_labels: bool) -> None:
        self._tags, self._header_lines = self._read_tags()
        if self._says("@timestamps", "true"):
            raise self._error("has time stamps: save it without them, evenly sampled")
        if self._says("@targetlabel", "true"):
            self.task = "regression"
        else:
            self.label_names = self._declared_labels(needs_labels)
        self._declared = set(self.label_names or ())
        self._num_channels = self._declared_channels()

    def _read_tags(self) -> tuple[dict[str, list[str]], int]:
        """Return the words after each tag, and the number of the `@data` line."""
        tags: dict[str, list[str]] = {}
        with open_unpacked(self.path) as file:
            for line, content in read_lines(file, self.longest_line):
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
                    content = content.removeprefix(BOM_UTF8)
                if self._is_comment(content):
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
        """Return the number of channels, None if the header does not give it."""
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
