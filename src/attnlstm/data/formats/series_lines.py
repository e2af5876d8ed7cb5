"""What `.arff` and `.ts` files share: a header, and then a series in each line."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from attnlstm.data.formats.compression import open_unpacked
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.lines import NOT_UTF8, read_lines
from attnlstm.data.formats.series import SeriesFile


class SeriesLines(SeriesFile):
    """The series of a file of lines; `_read_header` sets `_header_lines`, their number."""

    is_packable = True

    longest_line: ClassVar[int]
    """In bytes; a longer line is a bad row."""
    comment_marks: ClassVar[tuple[bytes, ...]]
    """The beginnings of lines that are comments."""

    _header_lines: int

    def _contents(self) -> Iterator[tuple[int, bytes]]:
        with open_unpacked(self.path) as file:
            for line, content in read_lines(file, self.longest_line):
                if line > self._header_lines and not self._is_comment(content):
                    yield line, content

    def _parse(self, content: bytes) -> tuple[np.ndarray, str | None]:
        if len(content) == self.longest_line:
            raise RowProblemError(f"longer than {self.longest_line >> 20} Mi characters")
        try:
            line = content.decode().strip()
        except UnicodeDecodeError:
            raise RowProblemError(NOT_UTF8) from None
        return self._parse_line(line)

    @abstractmethod
    def _parse_line(self, line: str) -> tuple[np.ndarray, str | None]:
        """Return the series `[time, channel]` of a line and its label; see `_parse`."""

    def _is_comment(self, content: bytes) -> bool:
        """Return whether a line is a comment or blank."""
        content = content.strip()
        return not content or content.startswith(self.comment_marks)


def stack_channels(channels: list[np.ndarray]) -> np.ndarray:
    """Return channels `[time]` as a series `[time, channel]`, or raise a RowProblemError."""
    if len({len(channel) for channel in channels}) > 1:
        raise RowProblemError("channels of different lengths")
    return np.stack(channels, axis=1)
