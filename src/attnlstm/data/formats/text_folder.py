"""Folders of texts: one file per text, one folder per class."""

import codecs
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Unpack

from attnlstm.console import counted
from attnlstm.data.formats.encodings import (
    UTF8,
    Undecoded,
    check_encoding,
    find_encoding,
    not_decoded,
)
from attnlstm.data.formats.lines import LONGEST_LINE, NUL, TOO_LONG
from attnlstm.data.formats.table import FormatOptions, Record, Table
from attnlstm.errors import UserError
from attnlstm.files import reading

LARGEST_FILE = 4 * LONGEST_LINE  # bytes


class TextFolder(Table):
    """The `.txt` files of a folder, such as reviews/good/1.txt of the class "good".

    The columns are called text and label. Files that are in no folder of a class are left out; if
    there are only such files, there is no column of labels. Files are sorted by name.

    Raises:
        UserError: files are nested deeper, so that it is unclear which folders are the classes.
    """

    def __init__(self, path: Path, **options: Unpack[FormatOptions]) -> None:
        super().__init__(path, **options)
        self._encoding = options.get("encoding")
        if self._encoding is not None:
            check_encoding(self._encoding)
        self._undecoded = Undecoded()
        with reading(path):
            found = [file.relative_to(path) for file in path.rglob("*") if _is_data(file, path)]
        self._files = sorted(file for file in found if _is_text(file))
        deep = [file for file in self._files if len(file.parts) > 2]
        if deep:
            upper = sorted({str(path / file.parts[0]) for file in deep})
            raise UserError(
                f"{path} has .txt files in folders of folders, such as {deep[0]}: name a folder "
                f"whose folders are the classes, such as data.train={upper[0]}"
            )
        self._has_labels = any(len(file.parts) == 2 for file in self._files)
        if self._has_labels:
            self._files = [file for file in self._files if len(file.parts) == 2]
        self.read_as = f"a folder of {counted(len(self._files), '.txt file')}"
        if self._has_labels:
            classes = {file.parts[0] for file in self._files}
            self.read_as += f", with a class in each of {counted(len(classes), 'folder')}"
        others = Counter(file.suffix or "no ending" for file in set(found) - set(self._files))
        if others:
            kinds = ", ".join(f"{count:,} with {kind}" for kind, count in sorted(others.items()))
            self.read_as += f"; other files are left out ({kinds})"

    def column_names(self) -> list[str]:
        return ["text", "label"] if self._has_labels else ["text"]

    def _records(self, columns: Sequence[str]) -> Iterator[Record]:
        for number, file in enumerate(self._files):
            text, problem = self._read(self.path / file)
            values = {"text": text, "label": file.parts[0]}
            asked = None if problem else {column: values[column] for column in columns}
            yield Record(number, asked, problem, name=str(file))

    def _read(self, file: Path) -> tuple[str, str | None]:
        """Return the text of a file, and what is wrong with it."""
        with reading(file), file.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)
        encoding = find_encoding(content[:4], self._encoding)
        try:
            text = codecs.decode(content[:LARGEST_FILE], encoding)
        except UnicodeDecodeError:
            self._undecoded.add(content.decode(UTF8, "surrogateescape"), encoding)
            return "", not_decoded(encoding)
        if len(content) > LARGEST_FILE or len(text) > LONGEST_LINE:
            return "", TOO_LONG
        return text, NUL if "\0" in text else None

    @property
    def doubt(self) -> str | None:  # type: ignore[override]
        return self._undecoded.advise(self.path.name)


def has_texts(path: Path) -> bool:
    """Return whether a folder, or one in it, holds `.txt` files."""
    return any(_is_data(file, path) and _is_text(file) for file in path.rglob("*"))


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == ".txt"


def _is_data(file: Path, folder: Path) -> bool:
    """Return whether this is a file, and not one of the system such as .DS_Store."""
    parts = file.relative_to(folder).parts
    return file.is_file() and not any(part.startswith((".", "__MACOSX")) for part in parts)
