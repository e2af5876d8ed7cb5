"""Which rows are for training, which for validation and which for testing."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from attnlstm.config.data import DataConfig, Missing
from attnlstm.config.schema import Validation
from attnlstm.console import counted, enumerate_names, shorten
from attnlstm.data.checks import Survey, survey
from attnlstm.data.groups import choose_groups, connect, deal_groups
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.usable import check_bad_rows, check_classes, describe_single_rows
from attnlstm.errors import UserError

MOST_FOLDED = 8_000
"""`validation=auto` uses folds up to this many training rows; of more, a part says enough."""

MOST_BAD = 10_000
"""A run that stops at bad rows looks for at most this many in a source."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of one or more sources, and their class numbers."""

    pieces: tuple[tuple[RowSource, np.ndarray, np.ndarray], ...]  # rows [row] ascending, classes
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
        """The class numbers, [row]."""
        return np.concatenate([targets for _, _, targets in self.pieces])

    def __iter__(self) -> Iterator[Row]:
        """Read the rows from their sources."""
        for source, rows, _ in self.pieces:
            is_chosen = np.bincount(rows).tolist()  # up to the last chosen row
            yield from compress(source, is_chosen)

    def fingerprint(self) -> str:
        """Return a digest of the row numbers, the content of the sources and the classes."""
        digest = hashlib.sha256()
        for source, rows, targets in self.pieces:
            digest.update(_fingerprint(source).encode())
            digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
            digest.update(np.ascontiguousarray(targets, dtype=np.int64).tobytes())
        return digest.hexdigest()


_FINGERPRINTS: WeakKeyDictionary[RowSource, str] = WeakKeyDictionary()


def _fingerprint(source: RowSource) -> str:
    """Read all files of a source, once."""
    if source not in _FINGERPRINTS:
        _FINGERPRINTS[source] = source.fingerprint()
    return _FINGERPRINTS[source]


class LabelledParts(NamedTuple):
    """The parts of a data set and its classes."""

    parts: dict[str, Part]  # "train", "validation" and "test", or fewer
    label_names: list[str]  # by class number
    folds: np.ndarray | None = None  # [row], the fold of each row of "train", from 0
    warnings: tuple[str, ...] = ()  # what the log should say about the rows


def split_sources(
    sources: Mapping[str, RowSource],
    config: DataConfig,
    seed: int,
    label_names: list[str] | None = None,
    validation: Validation = "holdout",
    num_folds: int = 5,
    carves_test: bool = True,
) -> LabelledParts:
    """Check all rows, and set rows of "train" apart for the parts that have no source.

    The choice is stratified by class and depends only on the seed; rows with the same content stay
    together, and so do rows of the same group. A training row whose content is also in the
    validation source is left out.

    With `validation=folds`, no rows are set apart for validation: each training row is in one of
    `num_folds` folds. `auto` means folds if there is no validation source and there are at most
    `MOST_FOLDED` training rows.

    Args:
        sources: "train" first.
        config: the fractions to set apart, and what to do about bad rows.
        seed: decides which rows are set apart.
        label_names: the classes of a trained model; None: those of the training rows.
        validation: "holdout", "folds" or "auto".
        num_folds: the largest number of folds; there are never more than different training rows.
        carves_test: otherwise there are no test rows if they have no source.

    Raises:
        UserError: there are both folds and a validation source, there are bad rows or no rows, or
            a part would lack a class.
    """
    if validation == "folds" and "validation" in sources:
        raise UserError(
            "validation=folds validates on the training rows in turn: leave data.validation out, "
            "or choose validation=holdout"
        )
    surveys, classes = _survey_sources(sources, config, label_names)
    warnings = check_bad_rows(surveys, config.on_bad_row)
    warnings += check_classes(surveys) if label_names is None else []
    for found in surveys.values():
        warnings += found.describe_gaps(getattr(config, "missing", "stop"))
    for found in surveys.values():
        if not found.usable.any():
            raise UserError(f"{found.source.name} has no usable rows: give a file with rows")
    if label_names is None and len(classes) < 2:
        raise UserError(
            f"{sources['train'].name} has only one class, {shorten(classes[0])!r}: there is "
            "nothing to tell apart; check data.label_column"
        )

    chosen = {name: found.usable for name, found in surveys.items()}
    folds, group_column = None, getattr(config, "group_column", None)
    if "train" in surveys:
        train = surveys["train"]
        warnings += _keep_apart(surveys, chosen)
        if group_column is not None:
            warnings += _describe_shared_groups(surveys, chosen, group_column)
        if "test" not in surveys and carves_test:
            warnings += _carve(train, chosen, "test", config, seed)
        if "validation" not in surveys:
            is_small = chosen["train"].sum() <= MOST_FOLDED
            if validation == "folds" or (validation == "auto" and is_small):
                folds = deal_folds(train, chosen["train"], num_folds, seed)
                if "test" in surveys:  # otherwise `_carve` has named these classes
                    warnings += describe_single_rows(train, chosen["train"])
            else:
                warnings += _carve(train, chosen, "validation", config, seed)
        left = {train.names[label] for label in np.unique(train.labels[chosen["train"]])}
        lost = [label for label in classes if label not in left]
        if lost and label_names is None:
            raise UserError(
                f"{train.source.name} has no row to train on of class {enumerate_names(lost)}: "
                "all of them are also in other parts of the data; add rows or correct the labels"
            )
    parts: dict[str, Part] = {}
    for name in ("train", "validation", "test"):
        if name in chosen:
            found = surveys[name if name in surveys else "train"]
            rows = np.flatnonzero(chosen[name])
            numbers = np.array([classes.index(label) for label in found.names], dtype=np.int64)
            piece = (found.source, rows, numbers[found.labels[rows]])
            parts[name] = Part((piece,), found.lengths[rows], found.num_channels)
    return LabelledParts(parts, classes, folds, tuple(warnings))


def _survey_sources(
    sources: Mapping[str, RowSource], config: DataConfig, classes: list[str] | None
) -> tuple[dict[str, Survey], list[str]]:
    """Survey "train" first, which decides the number of channels and, unless given, the classes."""
    surveys: dict[str, Survey] = {}
    num_channels = None
    missing: Missing = getattr(config, "missing", "stop")  # of series only
    for name, source in sources.items():
        found = survey(
            source,
            classes,
            num_channels,
            MOST_BAD if config.on_bad_row == "stop" else None,
            missing,
            needs_groups=name == "train" and getattr(config, "group_column", None) is not None,
        )
        if classes is None:
            present = set(found.names)
            classes = [label for label in source.label_names or [] if label in present]
            classes = classes or sort_labels(present)
        num_channels = found.num_channels
        surveys[name] = found
    assert classes is not None
    return surveys, classes


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sort labels as numbers if all of them are numbers, otherwise as text."""
    in_order = sorted(labels)  # sorting by number alone would leave "nan" where it was
    try:
        return sorted(in_order, key=lambda label: (float(label), label))
    except ValueError:
        return in_order


def _keep_apart(surveys: Mapping[str, Survey], chosen: Mapping[str, np.ndarray]) -> list[str]:
    """Take validation rows out of training; return warnings, also of test rows that are known."""
    warnings = []
    train = surveys["train"]
    learnt = [train.contents[chosen["train"]]]
    if "validation" in surveys:
        held_out = surveys["validation"].contents[chosen["validation"]]
        learnt.append(held_out)  # a refit trains on it too
        shared = chosen["train"] & np.isin(train.contents, held_out)
        if shared.any():
            warnings.append(
                f"{shared.sum()} rows of {train.source.name} are left out, as "
                f"{surveys['validation'].source.name} holds the same"
            )
            chosen["train"][shared] = False
    if "test" in surveys:
        test = surveys["test"].contents[chosen["test"]]
        known = np.isin(test, np.concatenate(learnt)).sum()
        if known:
            warnings.append(
                f"{known} of {len(test)} test rows are also training rows: they make the test "
                "look easier"
            )
    return warnings


def _describe_shared_groups(
    surveys: Mapping[str, Survey], chosen: Mapping[str, np.ndarray], group_column: str
) -> list[str]:
    """Return warnings about groups of the training rows that other sources have, too."""
    warnings, train = [], surveys["train"]
    assert train.groups is not None
    known = train.groups[chosen["train"]]
    for name in ("validation", "test"):
        found = surveys.get(name)
        if found is None or found.groups is None:
            continue
        own = np.unique(found.groups[chosen[name]])
        if shared := int(np.isin(own, known).sum()):
            warnings.append(
                f"{shared} of {counted(len(own), 'group')} ({shorten(group_column)}) of "
                f"{found.source.name} are also in {train.source.name}: they make the {name} rows "
                "look easier"
            )
    return warnings


def _carve(
    train: Survey, chosen: dict[str, np.ndarray], part: str, config: DataConfig, seed: int
) -> list[str]:
    """Move a fraction of the training rows to a part; return a warning if it lacks classes.

    Raises:
        UserError: no class has two different rows.
    """
    key = "test_fraction" if part == "test" else "val_fraction"
    fraction: float = getattr(config, key)
    rows = np.flatnonzero(chosen["train"])
    if train.groups is None:
        group, labels = _group_by_content(train, rows)
        carved = stratified_choice(labels, fraction, seed)
        is_carved = carved[group]
        too_few = "no class has two different rows: add rows"
    else:
        labels = train.labels[rows]
        group = connect(train.contents[rows], train.groups[rows])
        carved = is_carved = choose_groups(labels, group, fraction, seed)
        too_few = (
            f"its {counted(group.max() + 1, 'group')} of rows that stay together (see "
            f"data.group_column) cannot be split so that training keeps every class: add groups, "
            f"or give data.{part}=FILE"
        )
    if not carved.any():
        raise UserError(f"{train.source.name}: data.{key}={fraction}: {too_few}")
    chosen[part] = np.zeros_like(chosen["train"])
    chosen[part][rows[is_carved]] = True
    chosen["train"] = chosen["train"] & ~chosen[part]
    rare = sorted(train.names[label] for label in np.setdiff1d(labels, labels[carved]))
    if not rare:
        return []
    plural = "es" * (len(rare) > 1)
    return [f"data.{key}={fraction} takes no row of the rare class{plural} {enumerate_names(rare)}"]


def stratified_choice(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Choose a fraction of every class, the same for the same seed; [row] bool.

    The number of rows of each class is rounded so that the total comes out right, and at least one
    row of each class is left. A rare class may get none; libraries refuse to split such data.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    expected, shared_out = 0.0, 0
    for rows in _shuffle_classes(labels, seed):
        expected += fraction * len(rows)
        share = math.ceil(expected - 1e-9) - shared_out  # a rounding error must not add a row
        shared_out += share
        chosen[rows[: min(share, len(rows) - 1)]] = True
    return chosen


def deal_folds(found: Survey, available: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """Return the fold of each available row, with the rows of each class dealt out evenly.

    Raises:
        UserError: all rows have the same content.
    """
    rows = np.flatnonzero(available)
    if found.groups is not None:
        group = connect(found.contents[rows], found.groups[rows])
        if group.max() < 1:
            raise UserError(
                f"{found.source.name}: validation=folds needs two groups of rows that stay "
                "together (see data.group_column), and there is one: add groups, or choose another "
                "group_column"
            )
        return deal_groups(found.labels[rows], group, num_folds, seed)
    group, labels = _group_by_content(found, rows)
    if len(labels) < 2:
        raise UserError("validation=folds needs rows that differ: add rows")
    folds = np.empty_like(labels)
    dealt = 0
    for rows in _shuffle_classes(labels, seed):
        folds[rows] = (dealt + np.arange(len(rows))) % min(num_folds, len(labels))
        dealt += len(rows)
    return folds[group]


def _shuffle_classes(labels: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Yield the row numbers of each class, classes and rows in random order."""
    generator = np.random.default_rng(seed)
    for label in generator.permutation(np.unique(labels)):
        yield generator.permutation(np.flatnonzero(labels == label))


def _group_by_content(found: Survey, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the group with the same content, and for each group its class.

    Groups are numbered in the order of their first rows. If the labels of a group differ, its class
    is the rarest of them, so that no class is lost.
    """
    labels = found.labels[rows]
    _, first, group = np.unique(found.contents[rows], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # so that the digests do not matter
    group = rank[group]
    rarest_first = np.lexsort((np.bincount(labels)[labels], group))
    _, rarest = np.unique(group[rarest_first], return_index=True)
    return group, labels[rarest_first[rarest]]
