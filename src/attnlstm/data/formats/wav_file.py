"""A recording in a `.wav` file: one series, with a channel for each channel of sound."""

import wave
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import BinaryIO

import numpy as np

from attnlstm.console import counted
from attnlstm.data.formats import register_reader
from attnlstm.data.formats.arrays import MAX_BYTES
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.series import SeriesFile
from attnlstm.files import open_binary

EXTENSIBLE = b"\xfe\xff"
"""The format of many files with 24 bits or several channels; what it extends follows later."""

MOST_BEFORE_FORMAT = 4096  # bytes of other chunks

PCM = bytes.fromhex("0100000000001000800000aa00389b71")


@register_reader(".wav")
class WavFile(SeriesFile):
    """The one series of a file of PCM sound with 8, 16, 24 or 32 bits, between -1 and 1.

    The file holds no label. Sound that is compressed or in floats is refused.

    Attributes:
        rate: steps per second.
    """

    def _read_header(self, needs_labels: bool) -> None:
        with self._open() as file:
            self._width, self._num_channels = file.getsampwidth(), file.getnchannels()
            num_steps, self.rate = file.getnframes(), file.getframerate()
        if self._width not in (1, 2, 3, 4):
            raise self._error(f"has samples of {8 * self._width} bits: save it with 16 bits")
        if num_steps * self._num_channels * 8 > MAX_BYTES:
            raise self._error(
                f"has {num_steps:,} steps of {counted(self._num_channels, 'channel')}, more than "
                "can be read at once: cut it into shorter files, or sample it at a lower rate"
            )
        self._num_steps = num_steps
        if needs_labels:
            raise self._error(
                "holds no label: give a folder with a folder for each class, or say "
                "data.label_from=folder or data.label_from=name:PATTERN"
            )

    def _contents(self) -> Iterator[tuple[None, bytes]]:
        with self._open() as file:
            content = file.readframes(self._num_steps)
        yield None, content

    def _parse(self, content: bytes) -> tuple[np.ndarray, None]:
        if len(content) != self._num_steps * self._num_channels * self._width:
            raise RowProblemError("cut off: fewer samples than it says")
        if self._width == 1:  # the only width without a sign
            values = np.frombuffer(content, np.uint8).astype(np.float64) - 128
        elif self._width == 3:
            high = np.zeros((len(content) // 3, 4), np.uint8)
            high[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
            values = high.view("<i4")[:, 0].astype(np.float64) / 256
        else:
            values = np.frombuffer(content, f"<i{self._width}").astype(np.float64)
        return (values / 2 ** (8 * self._width - 1)).reshape(-1, self._num_channels), None

    @contextmanager
    def _open(self) -> Iterator[wave.Wave_read]:
        with open_binary(self.path) as file:
            try:
                opened = wave.open(self._as_plain(file))  # noqa: SIM115 - the file is closed here
            except (wave.Error, EOFError, RuntimeError) as error:  # the last from seeking too far
                details = str(error) or "it ends too early"
                reason = "of floats or compressed" if "unknown format" in details else "broken"
                raise self._error(
                    f"is {reason}, or not a .wav file ({details}): save it as PCM with 16 bits"
                ) from error
            yield opened

    def _as_plain(self, file: BinaryIO) -> BinaryIO:
        """Return a file in the extensible format as plain PCM; Python 3.12 reads it as it is."""
        beginning = file.read(MOST_BEFORE_FORMAT)
        place = beginning.find(b"fmt ") + 8
        file.seek(0)
        if beginning[place : place + 2] != EXTENSIBLE or beginning[place + 24 :][:16] != PCM:
            return file
        if self.path.stat().st_size > MAX_BYTES:
            raise self._error("has more than 256 MiB: cut it into shorter files")
        content = bytearray(file.read())
        content[place : place + 2] = b"\1\0"
        return BytesIO(content)
