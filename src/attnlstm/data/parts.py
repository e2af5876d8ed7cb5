"""The parts of a data set: which rows are for training, validation and testing."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from attnlstm.config.data import Task
from attnlstm.data.rows import Row, RowSource


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of one or more sources, and their targets; see `attnlstm.data.targets`."""

    pieces: tuple[tuple[RowSource, np.ndarray, np.ndarray], ...]  # rows [row] ascending, targets
    lengths: np.ndarray | None = None  # [row], steps or characters; None for a sum of parts
    num_channels: int = 0  # of the series; 0 for texts

    def __len__(self) -> int:
        return sum(len(rows) for _, rows, _ in self.pieces)

    def __add__(self, other: "Part") -> "Part":
        """Return the rows of both, those of one source in its order."""
        merged: dict[RowSource, tuple[np.ndarray, np.ndarray]] = {}
        for source, rows, targets in self.pieces + other.pieces:
            if source in merged:
                rows = np.concatenate([merged[source][0], rows])
                targets = np.concatenate([merged[source][1], targets])
                order = np.argsort(rows, kind="stable")
                rows, targets = rows[order], targets[order]
            merged[source] = rows, targets
        return Part(tuple((source, *piece) for source, piece in merged.items()))

    def select(self, chosen: np.ndarray) -> "Part":
        """Return the rows with these numbers within this part, [row] ascending."""
        pieces, start = [], 0
        for source, rows, targets in self.pieces:
            first, last = np.searchsorted(chosen, (start, start + len(rows)))
            here = chosen[first:last] - start
            pieces.append((source, rows[here], targets[here]))
            start += len(rows)
        return Part(tuple(pieces))

    @property
    def targets(self) -> np.ndarray:
        """The targets, [row] or [row, target]."""
        return np.concatenate([targets for _, _, targets in self.pieces])

    def __iter__(self) -> Iterator[Row]:
        """Read the rows from their sources."""
        for source, rows, _ in self.pieces:
            is_chosen = np.bincount(rows).tolist()  # up to the last chosen row
            yield from compress(source, is_chosen)

    def fingerprint(self) -> str:
        """Return a digest of the row numbers, the content of the sources and the targets."""
        digest = hashlib.sha256()
        for source, rows, targets in self.pieces:
            digest.update(_fingerprint(source).encode())
            digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
            digest.update(np.ascontiguousarray(targets).tobytes())
        return digest.hexdigest()


_FINGERPRINTS: WeakKeyDictionary[RowSource, str] = WeakKeyDictionary()


def _fingerprint(source: RowSource) -> str:
    """Read all files of a source, once."""
    if source not in _FINGERPRINTS:
        _FINGERPRINTS[source] = source.fingerprint()
    return _FINGERPRINTS[source]


class LabelledParts(NamedTuple):
    """The parts of a data set, and what is to be predicted."""

    parts: dict[str, Part]  # "train", "validation" and "test", or fewer
    label_names: list[str]  # see `Targets`
    folds: np.ndarray | None = None  # [row], the fold of each row of "train", from 0
    warnings: tuple[str, ...] = ()  # what the log should say about the rows
    task: Task = "classification"
