"""Which rows are trained on, which are for validation and which for the test."""

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from attnlstm.config.data import DataConfig, OnBadRow
from attnlstm.config.schema import Validation
from attnlstm.console import enumerate_names, shorten
from attnlstm.data.checks import Survey, survey
from attnlstm.data.rows import Row, RowSource
from attnlstm.errors import UserError

logger = logging.getLogger(__name__)

MOST_FOLDED = 8_000
"""Training rows up to which `validation=auto` is by folds; of more, a part says enough."""

MOST_BAD = 10_000
"""Bad rows of a source after which a run that stops at bad rows looks for no more."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of one or more sources, and their class numbers.

    pieces: for each source its usable rows [row] in ascending order, and their classes [row].
    lengths: [row], the steps of series or the characters of texts, as they were found when the rows
        were checked; None for a sum of parts.
    num_channels: of the series, found in the same way; 0 for texts.
    """

    pieces: tuple[tuple[RowSource, np.ndarray, np.ndarray], ...]
    lengths: np.ndarray | None = None
    num_channels: int = 0

    def __len__(self) -> int:
        return sum(len(rows) for _, rows, _ in self.pieces)

    def __add__(self, other: "Part") -> "Part":
        """The rows of both; those of one source stay in its order."""
        pieces = list(self.pieces)
        for source, rows, targets in other.pieces:
            same = next((i for i, piece in enumerate(pieces) if piece[0] is source), None)
            if same is None:
                pieces.append((source, rows, targets))
                continue
            rows = np.concatenate([pieces[same][1], rows])
            targets = np.concatenate([pieces[same][2], targets])
            order = np.argsort(rows, kind="stable")
            pieces[same] = (source, rows[order], targets[order])
        return Part(tuple(pieces))

    def select(self, chosen: np.ndarray) -> "Part":
        """Some of the rows: their numbers within this part, [row] ascending."""
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
        """The rows, read anew from their sources."""
        for source, rows, _ in self.pieces:
            wanted = iter(rows.tolist())
            next_wanted = next(wanted, None)
            for number, row in enumerate(source):
                if next_wanted is None:
                    break
                if number == next_wanted:
                    yield row
                    next_wanted = next(wanted, None)

    def fingerprint(self) -> str:
        """A digest of which rows these are, of their content and of their classes."""
        digest = hashlib.sha256()
        for source, rows, targets in self.pieces:
            digest.update(_fingerprint(source).encode())
            digest.update(np.ascontiguousarray(rows, dtype=np.int64).tobytes())
            digest.update(np.ascontiguousarray(targets, dtype=np.int64).tobytes())
        return digest.hexdigest()


@lru_cache(maxsize=8)
def _fingerprint(source: RowSource) -> str:
    """Computed once for each source: it reads all of its files."""
    return source.fingerprint()


class LabelledParts(NamedTuple):
    """The parts of a data set and its classes.

    parts: "train", "validation" and "test", or fewer.
    label_names: in the classes' order.
    folds: `[row]`, the fold of each row of "train", from 0; None without folds.
    """

    parts: dict[str, Part]
    label_names: list[str]
    folds: np.ndarray | None = None


def split_sources(
    sources: Mapping[str, RowSource],
    config: DataConfig,
    seed: int,
    label_names: list[str] | None = None,
    validation: Validation = "holdout",
    num_folds: int = 5,
) -> LabelledParts:
    """Check all rows, and carve out of "train" what there is no source for.

    The carvings are stratified by class and decided by the seed; rows with the same content stay
    together. A training row whose content is also in the validation source is left out.

    With `validation=folds` nothing is carved for validation: each training row is in one of
    `num_folds` folds. `auto` is that where there is no validation source and there are at most
    `MOST_FOLDED` training rows.

    Args:
        sources: "train", and where there are any "validation" and "test"; without "train" nothing
            is carved.
        config: the fractions to carve, and what to do about bad rows.
        seed: decides the carving.
        label_names: the classes of a trained model; None: those of the training rows.
        validation: which rows a run is watched on.
        num_folds: how many there are at most; never more than different training rows.

    Raises:
        UserError: folds are wanted beside a validation source, there are bad rows, or none at
            all, or a part would lack a class.
    """
    if validation == "folds" and "validation" in sources:
        raise UserError(
            "validation=folds validates on the training rows by turns: leave data.validation out, "
            "or choose validation=holdout"
        )
    if doubts := [source.doubt for source in sources.values() if source.doubt is not None]:
        logger.warning("%s", doubts[0])  # the other parts are most likely alike
    surveys: dict[str, Survey] = {}
    known, num_channels = label_names, None
    for name, source in sources.items():  # "train" first
        most_bad = MOST_BAD if config.on_bad_row == "stop" else None
        surveys[name] = survey(source, known, num_channels, most_bad)
        if name == "train" and known is None:
            known = order_labels(source, surveys[name].names)
        num_channels = surveys[name].num_channels
    assert known is not None
    handle_bad_rows(surveys, config.on_bad_row)
    for name, found in surveys.items():
        if not found.usable.any():
            raise UserError(f"{sources[name].name} has no usable rows: give a file with rows")
    if label_names is None and len(known) < 2:
        raise UserError(
            f"{sources['train'].name} has only one class, {shorten(known[0])!r}: there is nothing "
            "to tell apart; check data.label_column"
        )

    chosen = {name: found.usable.copy() for name, found in surveys.items()}
    if "train" in surveys:
        _keep_apart(sources, surveys, chosen)
    origin = {name: name for name in surveys}
    folds = None
    for name, key, fraction in (
        ("test", "test_fraction", config.test_fraction),
        ("validation", "val_fraction", config.val_fraction),
    ):
        if "train" in surveys and name not in surveys:
            if name == "validation" and validation == "auto":
                few = chosen["train"].sum() <= MOST_FOLDED
                validation = "folds" if few else "holdout"
            if name == "validation" and validation == "folds":
                folds = deal_folds(surveys["train"], chosen["train"], num_folds, seed)
                continue
            try:
                carved = _carve(surveys["train"], chosen["train"], key, fraction, seed)
            except UserError as error:
                raise UserError(f"{sources['train'].name}: {error}") from error
            chosen[name], origin[name] = carved, "train"
            chosen["train"] = chosen["train"] & ~carved
    if label_names is None:
        train = surveys["train"]
        left = {train.names[label] for label in np.unique(train.labels[chosen["train"]])}
        if lost := [name for name in known if name not in left]:
            raise UserError(
                f"{sources['train'].name} has no row to train on of class {enumerate_names(lost)}: "
                "all of them are also in other parts of the data; add rows or correct the labels"
            )
    parts = {}
    for name in ("train", "validation", "test"):
        if name in chosen:
            found = surveys[origin[name]]
            rows = np.flatnonzero(chosen[name])
            numbers = np.array([known.index(label) for label in found.names], dtype=np.int64)
            targets = numbers[found.labels[rows]]
            piece = (sources[origin[name]], rows, targets)
            parts[name] = Part((piece,), found.lengths[rows], found.num_channels)
    return LabelledParts(parts, known, folds)


def order_labels(source: RowSource, found: Iterable[str]) -> list[str]:
    """The classes that training rows have: as declared, or sorted, as numbers where all are."""
    found = set(found)
    if source.label_names is not None:
        return [name for name in source.label_names if name in found]
    return sort_labels(found)


def sort_labels(labels: Iterable[str]) -> list[str]:
    """In the order of the numbers where all labels are numbers, otherwise of the letters."""
    labels = sorted(labels)  # the order of "nan" among numbers depends on where it stands
    try:
        return sorted(labels, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(labels)


def handle_bad_rows(surveys: Mapping[str, Survey], on_bad_row: OnBadRow) -> None:
    """Stop, or say how many rows are left out.

    Raises:
        UserError: there are bad rows, and `on_bad_row` is stop; it names where the first ones are.
    """
    problems = [text for found in surveys.values() for text in found.describe_problems()]
    if not problems:
        return
    if on_bad_row == "stop":
        if not all(found.is_complete for found in surveys.values()):
            problems.append("and perhaps more, as no more were looked for")
        raise UserError(
            f"{'; '.join(problems)}. Rows and channels count from 0, lines from 1. Fix or remove "
            "these rows, or set data.on_bad_row=drop to go on without them"
        )
    count = sum(int((~found.usable).sum()) for found in surveys.values())
    logger.warning("dropped %d bad row%s:", count, "s" * (count > 1))
    for text in problems:
        logger.warning("  %s", text)


def _keep_apart(
    sources: Mapping[str, RowSource],
    surveys: Mapping[str, Survey],
    chosen: Mapping[str, np.ndarray],
) -> None:
    """No training row also for validation; what the test shares with training is told."""
    train = surveys["train"].contents
    if "validation" in surveys:
        held_out = surveys["validation"].contents[chosen["validation"]]
        shared = chosen["train"] & np.isin(train, held_out)
        if shared.any():
            logger.warning(
                "%d rows of %s are left out, as %s holds the same",
                shared.sum(),
                sources["train"].name,
                sources["validation"].name,
            )
            chosen["train"][shared] = False
    if "test" in surveys:
        test = surveys["test"].contents[chosen["test"]]
        learnt = train[chosen["train"]]
        if "validation" in surveys:  # a refit trains on it too
            learnt = np.concatenate([learnt, held_out])
        known = np.isin(test, learnt).sum()
        if known:
            logger.warning(
                "%d of %d test rows are also training rows: they make the test look easier",
                known,
                len(test),
            )


def _carve(
    found: Survey, available: np.ndarray, key: str, fraction: float, seed: int
) -> np.ndarray:
    """Which of the available rows to set apart, [row] bool."""
    rows = np.flatnonzero(available)
    group, labels = _group_by_content(found, rows)
    carved = stratified_choice(labels, found.names, key, fraction, seed)
    mask = np.zeros_like(available)
    mask[rows[carved[group]]] = True
    return mask


def deal_folds(found: Survey, available: np.ndarray, num_folds: int, seed: int) -> np.ndarray:
    """The fold of each available row, every class dealt out as evenly as can be.

    Raises:
        UserError: all rows have the same content.
    """
    group, labels = _group_by_content(found, np.flatnonzero(available))
    if len(labels) < 2:
        raise UserError("validation=folds needs rows that differ: add rows")
    generator = np.random.default_rng(seed)
    folds = np.empty_like(labels)
    dealt = 0
    for label in generator.permutation(np.unique(labels)):
        members = generator.permutation(np.flatnonzero(labels == label))
        folds[members] = (dealt + np.arange(len(members))) % min(num_folds, len(labels))
        dealt += len(members)
    return folds[group]


def _group_by_content(found: Survey, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The group of the same content that each of some rows is in, and the class of each group.

    Groups are in the order of their first rows. Where their labels differ, the class is the rarest
    of them, so that no class is lost to the others'.
    """
    labels = found.labels[rows]
    _, first, group = np.unique(found.contents[rows], return_index=True, return_inverse=True)
    order = np.argsort(first)  # whatever the digests
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    group = rank[group]
    rarest_first = np.lexsort((np.bincount(labels)[labels], group))
    _, rarest = np.unique(group[rarest_first], return_index=True)
    return group, labels[rarest_first[rarest]]


def stratified_choice(
    labels: np.ndarray, names: list[str], key: str, fraction: float, seed: int
) -> np.ndarray:
    """Choose a fraction of every class, the same for the same seed; [row] bool.

    Of each class it is the fraction of its rows, rounded up or down so that the whole comes out
    right, and at least one row is left. Which classes get no row at all is told: libraries refuse
    to split rows with such rare classes, which real data have.

    Raises:
        UserError: `fraction` is not between 0 and 1, or each class has only one row.
    """
    if not 0 < fraction < 1:
        raise UserError(f"data.{key}={fraction} must lie between 0 and 1, such as 0.2")
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), dtype=bool)
    expected, shared_out = 0.0, 0
    for label in generator.permutation(np.unique(labels)):
        rows = generator.permutation(np.flatnonzero(labels == label))
        expected += fraction * len(rows)
        share = math.ceil(expected - 1e-9) - shared_out  # not up for a rounding error
        shared_out += share
        chosen[rows[: min(share, len(rows) - 1)]] = True
    if not chosen.any():
        raise UserError(f"data.{key}={fraction}: no class has two different rows: add rows")
    without = np.setdiff1d(labels, labels[chosen])
    if without.size:
        rare = sorted(names[label] for label in without)
        logger.warning(
            "data.%s=%s takes no row of the rare class%s %s",
            key,
            fraction,
            "es" * (len(rare) > 1),
            enumerate_names(rare),
        )
    return chosen
