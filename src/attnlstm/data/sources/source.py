"""What every source of rows has in common: its options, and how it opens.

A source is a pydantic model of its options with a method that opens the rows. It extends `Source`
and either `TextConfig` or `SeriesConfig`, which says what its rows are.

    @register_source
    class Haiku(Source, TextConfig):
        \"\"\"Haiku of a folder, one file per poet.\"\"\"

        source: Literal["haiku"] = "haiku"
        folder: str

        def open(self, only=None):
            return {"train": HaikuRows(self.folder)}

Checking a command line imports these modules, so slow imports belong in the method that opens.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from attnlstm.config.data import Axes, DataConfig, FileParts
from attnlstm.data.rows import RowSource
from attnlstm.errors import UserError
from attnlstm.files import find_files

PARTS = ("train", "validation", "test")

LABELS_OF = {"train": "labels", "validation": "validation_labels", "test": "test_labels"}
"""The key that names the label files of the files of a part."""

TRAIN = "data.train"
"""The key of the files that rows are split off from."""


class Source(DataConfig, ABC):
    """The options of a source of rows, and how it opens."""

    @abstractmethod
    def open(self, only: str | None = None) -> Mapping[str, RowSource]:
        """Open "train" and, where the source has them, "validation" and "test".

        Args:
            only: the part that is wanted. If the source has no such part of its own, it has to be
                split off "train", so the others are opened too.

        Raises:
            UserError: a file or a set is missing or cannot be read.
        """

    def check(self) -> None:
        """Raise a UserError for options that their types cannot tell to be wrong; takes no time."""

    def list_inputs(self) -> list[str]:
        """Return the paths and globs of all files of rows and of labels."""
        given = [getattr(self, name, None) or [] for name in (*PARTS, *LABELS_OF.values())]
        return [name for names in given for name in ([names] if isinstance(names, str) else names)]

    def with_channels(self, names: Sequence[str] | None) -> Self:
        """The same source, reading these channels in this order where it has named channels."""
        return self

    def for_model(self, num_channels: int | None, axes: Axes | None) -> Self:
        """The same source, reading arrays as the series of a model were read.

        Args:
            num_channels: of the model; None: any.
            axes: the order of the axes of the arrays that it was trained on, if it was.
        """
        return self


class FileSource(Source, FileParts):
    """A source of rows in files that the user names."""

    @abstractmethod
    def open_files(self, files: Sequence[Path], key: str, needs_labels: bool = True) -> RowSource:
        """Open the rows of one part.

        Args:
            files: at least one.
            key: what messages call the choice of these files, such as "data.train".
            needs_labels: whether files without labels are refused.

        Raises:
            UserError: a file cannot be read, or does not have what is needed.
        """

    def open(self, only: str | None = None) -> Mapping[str, RowSource]:
        patterns = {part: getattr(self, part) for part in PARTS if getattr(self, part)}
        if only in patterns and only != "train":
            patterns = {only: patterns[only]}
        elif "train" not in patterns:
            raise UserError("data.train must be given: add data.train=FILE")
        opened: dict[str, RowSource] = {}
        reader = self
        for part, chosen in patterns.items():
            key = f"data.{part}"
            opened[part] = reader.open_files(find_files(chosen, key), key)
            reader = reader.with_channels(opened[part].channel_names)
            reader = reader.for_model(None, opened[part].axes)
        return opened


def open_sources(config: DataConfig, only: str | None = None) -> Mapping[str, RowSource]:
    """Open the rows of a configuration's `data` section; see `Source.open`."""
    assert isinstance(config, Source)
    return config.open(only)
