"""Which rows are for training, which for validation and which for testing."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from attnlstm.config.data import DataConfig, Missing, TaskChoice
from attnlstm.config.schema import Validation
from attnlstm.console import counted, enumerate_names, shorten
from attnlstm.data.checks import Survey, survey
from attnlstm.data.groups import choose_groups, connect, deal_groups
from attnlstm.data.parts import LabelledParts, Part
from attnlstm.data.rows import RowSource, as_tuple
from attnlstm.data.targets import (
    Targets,
    check_variety,
    choose_targets,
    describe_doubts,
    find_label_problem,
)
from attnlstm.data.usable import check_bad_rows, describe_single_rows
from attnlstm.errors import UserError

MOST_FOLDED = 8_000
"""`validation=auto` uses folds up to this many training rows; of more, a part says enough."""

MOST_BAD = 10_000
"""A run that stops at bad rows looks for at most this many in a source."""


def split_sources(
    sources: Mapping[str, RowSource],
    config: DataConfig,
    seed: int,
    label_names: list[str] | None = None,
    validation: Validation = "holdout",
    num_folds: int = 5,
    carves_test: bool = True,
    task: TaskChoice = "auto",
) -> LabelledParts:
    """Check all rows, and set rows of "train" apart for the parts that have no source.

    The choice is stratified (see `Targets.stratify`) and depends only on the seed; rows with the
    same content stay together, and so do rows of the same group. A training row whose content is
    also in the validation source is left out.

    With `validation=folds`, no rows are set apart for validation: each training row is in one of
    `num_folds` folds. `auto` means folds if there is no validation source and there are at most
    `MOST_FOLDED` training rows.

    Args:
        sources: "train" first.
        config: the fractions to set apart, and what to do about bad rows.
        seed: decides which rows are set apart.
        label_names: of a trained model, see `Targets`; None: those of the training rows.
        validation: "holdout", "folds" or "auto".
        num_folds: the largest number of folds; there are never more than different training rows.
        carves_test: otherwise there are no test rows if they have no source.
        task: what is to be predicted; "auto": what the labels are plainly for.

    Raises:
        UserError: there are both folds and a validation source, there are bad rows or no rows, or
            a part would lack a class.
    """
    if validation == "folds" and "validation" in sources:
        raise UserError(
            "validation=folds validates on the training rows in turn: leave data.validation out, "
            "or choose validation=holdout"
        )
    known = None
    if label_names is not None:
        known = Targets("classification" if task == "auto" else task, label_names)
    surveys, targets = _survey_sources(sources, config, known, task)
    warnings = check_bad_rows(surveys, config.on_bad_row, targets.task)
    for found in surveys.values():
        warnings += found.describe_gaps(getattr(config, "missing", "stop"))
    for found in surveys.values():
        if not found.usable.any():
            raise UserError(f"{found.source.name} has no usable rows: give a file with rows")
    values = {name: _encode(found, targets) for name, found in surveys.items()}
    if label_names is None:
        check_variety(surveys["train"], values["train"], targets)
        warnings += describe_doubts(surveys["train"], values["train"], targets)

    chosen = {name: found.usable for name, found in surveys.items()}
    folds, group_column = None, getattr(config, "group_column", None)
    if "train" in surveys:
        train = surveys["train"]
        warnings += _keep_apart(surveys, chosen)
        if group_column is not None:
            warnings += _describe_shared_groups(surveys, chosen, group_column)
        strata = _stratify(train, values["train"], targets)
        if "test" not in surveys and carves_test:
            warnings += _carve(train, strata, chosen, "test", config, seed)
        if "validation" not in surveys:
            is_small = chosen["train"].sum() <= MOST_FOLDED
            if validation == "folds" or (validation == "auto" and is_small):
                folds = deal_folds(train, strata.numbers, chosen["train"], num_folds, seed)
                if "test" in surveys:  # otherwise `_carve` has named these classes
                    single = strata.numbers[chosen["train"]]
                    warnings += describe_single_rows(train.source, single, strata.names)
            else:
                warnings += _carve(train, strata, chosen, "validation", config, seed)
        lost = targets.find_lost(values["train"][chosen["train"]])
        if lost and label_names is None:
            raise UserError(
                f"{train.source.name} has no row to train on of class {enumerate_names(lost)}: "
                "all of them are also in other parts of the data; add rows or correct the labels"
            )
    parts: dict[str, Part] = {}
    for name in ("train", "validation", "test"):
        if name in chosen:
            origin = name if name in surveys else "train"
            found, rows = surveys[origin], np.flatnonzero(chosen[name])
            piece = (found.source, rows, values[origin][rows])
            parts[name] = Part((piece,), found.lengths[rows], found.num_channels)
    return LabelledParts(parts, targets.names, folds, tuple(warnings), targets.task)


def _survey_sources(
    sources: Mapping[str, RowSource], config: DataConfig, known: Targets | None, task: TaskChoice
) -> tuple[dict[str, Survey], Targets]:
    """Survey all sources; "train" decides the number of channels and, unless known, the targets."""
    missing: Missing = getattr(config, "missing", "stop")  # of series only
    surveys: dict[str, Survey] = {}

    def look(name: str, find_problem: Callable[..., str | None]) -> None:
        in_columns = sources[name].target_names is not None
        surveys[name] = survey(
            sources[name],
            partial(find_problem, in_columns=in_columns),
            next((found.num_channels for found in surveys.values()), None),
            MOST_BAD if config.on_bad_row == "stop" else None,
            missing,
            needs_groups=name == "train" and getattr(config, "group_column", None) is not None,
        )

    targets = known
    if targets is None:
        if task == "auto":
            task = sources["train"].task or task
        look("train", partial(find_label_problem, task=task))
        others = [name for name in sources if name != "train"]
        names = {name for label in surveys["train"].names for name in as_tuple(label)}
        if task == "auto" and sources["train"].target_names is None:
            # labels that come again in other parts are classes
            for name in others:
                look(name, Targets("multilabel", sorted(names)).find_problem)
        targets = choose_targets(surveys, task)
        for name in others:
            if name not in surveys or targets.task == "regression":
                look(name, targets.find_problem)
    else:
        for name in sources:
            look(name, targets.find_problem)
    return surveys, targets


def _encode(found: Survey, targets: Targets) -> np.ndarray:
    """Return the targets of all rows; those of bad rows mean nothing.

    Raises:
        UserError: the columns of 0 and 1 are not the classes of the model.
    """
    columns = found.source.target_names
    values = targets.encode(found.names, in_columns=columns is not None)[found.labels]
    if columns is None or columns == targets.names:
        return values
    if set(columns) == set(targets.names):
        return values[:, [columns.index(name) for name in targets.names]]
    if targets.task == "multilabel":
        raise UserError(
            f"{found.source.name}: the label columns {enumerate_names(columns)} are not the "
            f"classes of the model, {enumerate_names(targets.names)}: set data.label_column"
        )
    return values


class _Strata(NamedTuple):
    """The groups of rows that each part gets an even share of.

    numbers: the group of each row, `[row]`; of bad rows, it means nothing.
    names: of the groups that are classes.
    """

    numbers: np.ndarray
    names: Sequence[str]


def _stratify(train: Survey, values: np.ndarray, targets: Targets) -> _Strata:
    if targets.has_classes:
        return _Strata(train.labels, [str(label) for label in train.names])
    numbers = np.zeros(len(values), np.int64)
    numbers[train.usable] = targets.stratify(values[train.usable])
    return _Strata(numbers, targets.names if targets.task == "multilabel" else [])


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
    train: Survey,
    strata: _Strata,
    chosen: dict[str, np.ndarray],
    part: str,
    config: DataConfig,
    seed: int,
) -> list[str]:
    """Move a fraction of the training rows to a part; return a warning if it lacks classes.

    Raises:
        UserError: no class has two different rows.
    """
    key = "test_fraction" if part == "test" else "val_fraction"
    fraction: float = getattr(config, key)
    rows = np.flatnonzero(chosen["train"])
    if train.groups is None:
        group, labels = _group_by_content(train, strata.numbers, rows)
        carved = stratified_choice(labels, fraction, seed)
        is_carved = carved[group]
        too_few = "no class has" if strata.names else "there are no"
        too_few += " two different rows: add rows"
    else:
        labels = strata.numbers[rows]
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
    absent = np.setdiff1d(labels, labels[carved])
    rare = sorted(strata.names[number] for number in absent if number < len(strata.names))
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


def deal_folds(
    found: Survey, strata: np.ndarray, available: np.ndarray, num_folds: int, seed: int
) -> np.ndarray:
    """Return the fold of each available row, with the rows of each stratum dealt out evenly.

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
        return deal_groups(strata[rows], group, num_folds, seed)
    group, labels = _group_by_content(found, strata, rows)
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


def _group_by_content(
    found: Survey, strata: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the group with the same content, and for each group its stratum.

    Groups are numbered in the order of their first rows. If the strata of a group differ, its own
    is the rarest of them, so that no class is lost.
    """
    labels = strata[rows]
    _, first, group = np.unique(found.contents[rows], return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # so that the digests do not matter
    group = rank[group]
    rarest_first = np.lexsort((np.bincount(labels)[labels], group))
    _, rarest = np.unique(group[rarest_first], return_index=True)
    return group, labels[rarest_first[rarest]]
