"""Finds the files that hold one series each, and their labels."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from attnlstm.config.data import Axes
from attnlstm.console import counted, enumerate_names, shorten
from attnlstm.data.formats import READERS
from attnlstm.data.formats.compression import without_packing
from attnlstm.data.formats.npy_file import read_array
from attnlstm.data.formats.opening import import_readers
from attnlstm.errors import UserError
from attnlstm.files import is_saved

SHOWN = 3
"""Labels that the log shows with an example."""

PART_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
WHOLE_ENDINGS = (".npz", ".ts", ".arff")
"""The endings of files that hold several series."""

OTHER_READING = "say data.train='{folder}/*/*' (more stars, or an ending) data.label_from=folder"


class Recording(NamedTuple):
    """A file that is a series, and its label; None if it has no label, or has it inside."""

    path: Path
    label: str | None


def find_recordings(
    files: Sequence[Path], label_from: str | None, key: str, needs_labels: bool
) -> tuple[list[Recording], list[str]]:
    """Return the recordings among files and folders, and lines about them for the log.

    Args:
        files: files, and folders with a folder for each class.
        label_from: see `data.label_from`; it does not apply to folders.
        key: what messages call the choice of these files, such as "data.train".
        needs_labels: whether a folder may hold recordings without labels, in no folder of a class.

    Raises:
        UserError: it is not certain which files are recordings or what their labels are.
    """
    read_label = None if label_from is None else _label_reader(label_from)
    recordings: list[Recording] = []
    notes: list[str] = []
    mismatched: list[Path] = []
    for path in files:
        if path.is_dir() and not is_saved(path):
            found, note = _read_folder(path, key, needs_labels)
            recordings += found
            notes += note
            continue
        label = None if read_label is None else read_label(path)
        if read_label is not None and label is None:
            mismatched.append(path)
        recordings.append(Recording(path, label))
    if mismatched:
        names = enumerate_names([path.name for path in mismatched])
        raise UserError(
            f"data.label_from={label_from} finds no label in the names of "
            f"{counted(len(mismatched), 'file')} of {key} ({names}): change the pattern, or leave "
            "these files out"
        )
    several = [path for path, _ in recordings if _ending(path) in WHOLE_ENDINGS]
    if several:
        raise UserError(
            f"{key} names {several[0]}, which holds several series with their own labels, among "
            "files that are one series each: give it by itself"
        )
    if label_from is not None and recordings:
        notes.append(_describe(recordings, f"data.label_from={label_from}"))
    return recordings, notes


def guess_axes(paths: Sequence[Path], key: str) -> Axes:
    """Return the order of the axes of `.npy` files that are one series each.

    Raises:
        UserError: it is not certain, or the arrays have other numbers of axes.
    """
    shapes = {path: read_array(path, key).shape for path in paths if path.suffix.lower() == ".npy"}
    for path, shape in shapes.items():
        if len(shape) not in (1, 2):
            raise UserError(
                f"{key}: {path} has the shape {list(shape)}: a file that is one series must be "
                "[time, channel] or [channel, time]"
            )
    sizes = [shape for shape in shapes.values() if len(shape) == 2]
    firsts, seconds = ({shape[axis] for shape in sizes} for axis in (0, 1))
    if not sizes or seconds == {1} or (len(seconds) == 1 < len(firsts) and firsts != {1}):
        return "time,channel"
    if firsts == {1} or len(firsts) == 1 < len(seconds):
        return "channel,time"
    path, shape = next((path, shape) for path, shape in shapes.items() if len(shape) == 2)
    raise UserError(
        f"{key}: {path} has the shape {list(shape)}, which may be [time, channel] or "
        "[channel, time], and the other files do not tell: say data.axes=time,channel or "
        "data.axes=channel,time"
    )


def _label_reader(label_from: str) -> Callable[[Path], str | None]:
    kind, colon, pattern = label_from.partition(":")
    if label_from == "folder":
        return lambda path: path.absolute().parent.name
    if kind != "name" or not colon:
        raise UserError(
            f"data.label_from={label_from}: it must be folder, or name:PATTERN, such as "
            r"'name:(.+)_\d+'"
        )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"data.label_from={label_from}: {pattern!r} is no regular expression ({error})"
        ) from error
    if compiled.groups != 1:
        raise UserError(
            f"data.label_from={label_from}: the pattern has {counted(compiled.groups, 'group')}, "
            r"and must have one, the label, such as '(.+)_\d+'"
        )

    def read(path: Path) -> str | None:
        found = compiled.search(path.name)
        return found[1].strip() or None if found and found[1] else None

    return read


def _read_folder(folder: Path, key: str, needs_labels: bool) -> tuple[list[Recording], list[str]]:
    """Return the recordings of a folder with a folder for each class, and lines about them."""
    import_readers()
    wanted = READERS.keys() - set(WHOLE_ENDINGS)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [file for file in files if not _is_hidden(file.relative_to(folder))]
    found = [file for file in files if _ending(file) in wanted]
    others = Counter(_ending(file) or "without an ending" for file in files)
    for file in found:
        others[_ending(file)] -= 1
    ignored = +others
    if not found:
        raise UserError(
            f"{key}={folder} has no recordings: it must have a folder for each class with a file "
            f"for each series ({', '.join(sorted(wanted))})"
        )
    endings = {_ending(file) for file in found}
    if len(endings) > 1:
        raise UserError(
            f"{key}={folder} has recordings of several kinds ({', '.join(sorted(endings))}), and "
            f"it is not certain which are meant: {OTHER_READING.format(folder=folder)}"
        )
    depths = {len(file.relative_to(folder).parts) for file in found}
    if depths == {1} and not needs_labels:
        recordings = [Recording(file, None) for file in found]
    elif depths == {2}:
        recordings = [Recording(file, file.parent.name) for file in found]
    else:
        odd = next(file for file in found if len(file.relative_to(folder).parts) != 2)
        raise UserError(
            f"{key}={folder} must have a folder for each class with its files directly inside, and "
            f"has {odd.relative_to(folder)}: move it, or {OTHER_READING.format(folder=folder)}"
        )
    labels = {recording.label for recording in recordings}
    if {str(label).lower() for label in labels} <= PART_NAMES and None not in labels:
        raise UserError(
            f"{key}={folder} has the folders {enumerate_names(sorted(map(str, labels)))}, which "
            "look like parts of the data and not like classes: give each part its own key, such as "
            f"data.train={folder}/train data.test={folder}/test"
        )
    notes = [_describe(recordings, f"{key}={folder}")]
    if ignored:
        listed = ", ".join(f"{count} {ending}" for ending, count in sorted(ignored.items()))
        notes.append(f"{key}={folder}: files left out: {listed}")
    return recordings, notes


def _ending(path: Path) -> str:
    """Return the ending that says what a file holds, without that of a packed file."""
    return without_packing(path).suffix.lower()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _describe(recordings: Sequence[Recording], where: str) -> str:
    """Return a line for the log with the number of files and the labels of the first ones."""
    labels = {recording.label for recording in recordings} - {None}
    if not labels:
        return f"{where}: {counted(len(recordings), 'file')}, without labels"
    by_label = {recording.label: recording for recording in reversed(recordings)}
    shown = {recording: "/".join(recording.path.parts[-2:]) for recording in by_label.values()}
    examples = [
        f"{shorten(path)} is {shorten(str(recording.label))}"
        for recording, path in list(shown.items())[::-1][:SHOWN]
    ]
    return (
        f"{where}: {counted(len(recordings), 'file')}, {counted(len(labels), 'label')}: "
        f"{', '.join(examples)}{', ...' * (len(labels) > SHOWN)}"
    )
