"""What the labels of rows are: one class of several, several classes, or numbers.

A label is a text or, if a row has several, a tuple of texts. They become the targets, which are the
numbers that a model learns to predict:

    classification   [row]          int64, the number of the class
    ordinal          [row]          int64, the same for classes in order, such as one to five stars
    multilabel       [row, class]   int8, 1 for the classes that the row has, otherwise 0
    regression       [row, target]  float64, the numbers themselves
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnlstm.config.data import Task, TaskChoice
from attnlstm.console import counted, enumerate_names, shorten
from attnlstm.data.checks import MOST_CLASSES, Survey
from attnlstm.data.rows import Label, as_tuple, to_number
from attnlstm.errors import UserError

ENOUGH_ROWS = 10
"""From this many rows on, labels that do not repeat are no classes; of fewer, rows are missing."""

MOST_UNIQUE = 0.9
"""Above this number of labels per row, too few repeat for them to be classes."""

MANY_NUMBERS = 20
"""From this many classes on, decimal numbers are more likely measurements than classes."""

LARGEST = float(np.finfo(np.float32).max)

FEWEST_DIGITS = 1e-4
"""Below this share of a target's size, its standard deviation has three digits in float32."""

NUM_STRATA = 10
"""The number of ranges of a regression's targets from which rows are chosen evenly."""

FLAGS = {"0": 0, "1": 1, "False": 0, "True": 1}


@dataclass(frozen=True)
class Targets:
    """How labels become targets.

    task: what is to be predicted.
    names: the classes in the order of their numbers, or the names of the numbers of a regression.
    """

    task: Task
    names: list[str]

    @property
    def has_classes(self) -> bool:
        """Whether a row has exactly one class."""
        return self.task in ("classification", "ordinal")

    def find_problem(self, label: Label, in_columns: bool = False) -> str | None:
        """Return why a label cannot be encoded, or None; for `in_columns` see `encode`."""
        if (problem := find_label_problem(label, self.task, in_columns)) is not None:
            return problem
        if self.task == "multilabel" and in_columns:
            return None
        if self.task == "regression":
            if len(as_tuple(label)) != len(self.names):
                return f"{len(as_tuple(label))} instead of {counted(len(self.names), 'number')}"
            return None
        for name in as_tuple(label):
            if name not in self._numbers:
                return f"label {shorten(name)!r}, which no training row has,"
        return None

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def encode(self, labels: Sequence[Label], in_columns: bool = False) -> np.ndarray:
        """Return the targets of labels; see `attnlstm.data.targets` for their shape.

        With `in_columns`, each label is a tuple of a value for each column: one "0" or "1" for each
        class, or the numbers, in the order of the names.
        """
        if self.task == "regression":
            numbers = [[float(item) for item in as_tuple(label)] for label in labels]
            return np.array(numbers, np.float64).reshape(len(labels), len(self.names))
        if self.has_classes:
            return np.array([self._numbers[str(label)] for label in labels], np.int64)
        if in_columns:
            flags = [[FLAGS[item] for item in as_tuple(label)] for label in labels]
            return np.array(flags, np.int8).reshape(len(labels), len(self.names))
        targets = np.zeros((len(labels), len(self.names)), np.int8)
        for row, label in enumerate(labels):
            targets[row, [self._numbers[name] for name in as_tuple(label)]] = 1
        return targets

    def decode(self, target: np.ndarray) -> Label:
        """Return the label of a row's target, `[]` or `[target]`."""
        if self.task == "regression":
            return tuple(map(repr, target.tolist()))
        if self.task == "multilabel":
            return tuple(self.names[number] for number in np.flatnonzero(target))
        return self.names[int(target)]

    def find_lost(self, values: np.ndarray) -> list[str]:
        """Return the classes that none of these rows has, given their targets."""
        if self.task == "regression":
            return []
        if self.has_classes:
            counts = np.bincount(values, minlength=len(self.names))
        else:
            counts = values.sum(axis=0, dtype=np.int64)
        return [name for name, count in zip(self.names, counts, strict=True) if not count]

    def stratify(self, targets: np.ndarray) -> np.ndarray:
        """Return the group of each row from which the parts of the data get even shares, `[row]`.

        It is the class, the rarest class of a row of several (or none of them), or a tenth of the
        rows in the order of a regression's targets.
        """
        if self.has_classes:
            return targets
        if self.task == "multilabel":
            rarity = np.where(targets == 1, targets.sum(axis=0, dtype=np.int64), len(targets) + 1)
            return np.where(targets.any(axis=1), rarity.argmin(axis=1), len(self.names))
        ranks = targets.argsort(axis=0, kind="stable").argsort(axis=0, kind="stable")
        order = ranks.sum(axis=1).argsort(kind="stable").argsort(kind="stable")
        count = max(1, min(NUM_STRATA, len(targets) // NUM_STRATA))
        return order * count // max(1, len(targets))


def choose_targets(surveys: Mapping[str, Survey], task: TaskChoice) -> Targets:
    """Return the targets of the training rows.

    Args:
        surveys: "train", and parts whose rows are usable if the training rows have their label.
        task: as configured.

    Raises:
        UserError: the labels do not fit the task, or it is not plain from them what it is; the
            message says which keys decide it.
    """
    train = surveys["train"]
    columns = train.source.target_names
    if columns is not None and len(columns) > MOST_CLASSES:
        raise UserError(
            f"data.label_column names {len(columns):,} columns: name at most {MOST_CLASSES:,}"
        )
    if task == "auto":
        task = _find_task(surveys)
    if task == "regression":
        return Targets(task, columns or [train.source.columns_used.get("label", "target")])
    if task == "multilabel" and columns is not None:
        return Targets(task, columns)
    declared, present = train.source.label_names, set[str]()
    for label in train.names:
        present.update(as_tuple(label))
    names = [name for name in declared or [] if name in present] or sort_labels(present)
    if task == "multilabel" and names and not declared and present <= FLAGS.keys():
        raise UserError(
            f"{train.source.name} has no labels but {enumerate_names(names)}, and task=multilabel "
            "needs a column of 0 and 1 for each class, as in data.label_column=[a,b], or the names "
            "of the classes; for one class or the other, use task=classification"
        )
    if len(names) > MOST_CLASSES:
        raise UserError(f"{train.source.name} has more than {MOST_CLASSES:,} classes")
    if task == "ordinal" and not declared and None in map(to_number, names):
        raise UserError(
            f"task=ordinal needs classes with an order, and those of {train.source.name} "
            f"({enumerate_names(names[:3])}) are not numbers: write them as numbers, or use "
            "task=classification"
        )
    return Targets(task, names)


def _find_task(surveys: Mapping[str, Survey]) -> Task:
    """Return the task that the labels of the training rows are plainly for."""
    train = surveys["train"]
    if (columns := train.source.target_names) is not None:
        values = [set(column) for column in zip(*map(as_tuple, train.names), strict=True)]
        flags = [
            name for name, items in zip(columns, values, strict=False) if items <= FLAGS.keys()
        ]
        if len(flags) == len(columns):
            return "multilabel"
        if None in map(to_number, set().union(*values)):
            raise UserError(
                f"{train.source.name}: the label columns {enumerate_names(columns)} hold neither "
                "only 0 and 1 (a class each) nor only numbers (a regression): name other columns "
                "with data.label_column"
            )
        if flags:
            others = [name for name in columns if name not in flags]
            raise UserError(
                f"{train.source.name}: the label columns {enumerate_names(flags)} hold only 0 and "
                f"1, and {enumerate_names(others)} other numbers: add task=regression to predict "
                "them as numbers, or correct the values for task=multilabel"
            )
        return "regression"
    if any(isinstance(label, tuple) for label in train.names):
        items = {item for label in train.names for item in as_tuple(label)}
        numbers = [to_number(item) for item in items]
        are_decimals = any(number and number % 1 for number in numbers)
        if None not in numbers and are_decimals and len(items) > MANY_NUMBERS:
            raise UserError(
                f"{train.source.name} has lists of numbers as labels: to predict them, give a "
                "column for each number, as in data.label_column=[a,b]; add task=multilabel if "
                "they are classes"
            )
        return "multilabel"
    if train.names and all(re.fullmatch(r"\[.*\]", str(label), re.S) for label in train.names):
        raise UserError(
            f"{train.source.name}: labels such as {shorten(str(train.names[0]))!r} look like lists "
            "written as text: give lists in JSON Lines or Parquet, or texts with a separator and "
            "data.label_separator; or add task=classification if each text is one class"
        )
    return _find_single_task(surveys)


def _find_single_task(surveys: Mapping[str, Survey]) -> Task:
    """Return whether labels of one text each are classes or numbers."""
    train = surveys["train"]
    names, num_rows = train.names, int(train.usable.sum())
    values = [to_number(str(label)) for label in names]
    are_numbers = None not in values
    have_decimals = are_numbers and any(value and value % 1 for value in values)
    # A test set with the same labels shows that they are classes; bad rows explain their number.
    others = [found for part, found in surveys.items() if part != "train"]
    is_explained = 2 * num_rows < len(train.labels) or any(
        2 * found.usable.sum() > len(found.labels) for found in others
    )
    what = f"{train.source.name} has {len(names):,} different labels in " + (
        f"{counted(num_rows, 'row')}, such as {enumerate_names([str(n) for n in names[:3]])}"
    )
    if are_numbers and 2 * len(names) > max(num_rows, MANY_NUMBERS) and not is_explained:
        if have_decimals:
            return "regression"
        raise UserError(
            f"{what}: add task=regression if these are numbers to predict, or task=classification "
            "if they are classes; if they are neither, check data.label_column"
        )
    if len(names) > MOST_UNIQUE * num_rows >= MOST_UNIQUE * ENOUGH_ROWS and not is_explained:
        raise UserError(
            f"{what}: these are not classes; check data.label_column, or give labels that several "
            "rows share"
        )
    if have_decimals and len(names) > MANY_NUMBERS:
        raise UserError(
            f"{what}: add task=regression if these are numbers to predict, or task=classification "
            "if they are classes"
        )
    return "classification"


def check_variety(train: Survey, values: np.ndarray, targets: Targets) -> None:
    """Raise a UserError if the training rows leave nothing to learn."""
    if targets.task != "regression" and len(targets.names) < 2:
        only = f"only one class, {shorten(targets.names[0])!r}" if targets.names else "no classes"
        raise UserError(
            f"{train.source.name} has {only}: there is nothing to tell apart; "
            "check data.label_column"
        )
    if absent := targets.find_lost(values[train.usable]):
        raise UserError(
            f"{train.source.name} has no row of class {enumerate_names(absent)}: leave such "
            "columns out of data.label_column, or add rows"
        )
    if targets.task == "regression":
        # A model computes in single precision, which cannot tell other numbers apart.
        ranges = np.ptp(values[train.usable].astype(np.float32), axis=0)
        same = [name for name, size in zip(targets.names, ranges, strict=True) if not size]
        if same:
            raise UserError(
                f"{train.source.name} has only one value of {enumerate_names(same)} in single "
                "precision: there is nothing to learn; check data.label_column, or subtract the "
                "mean and scale the differences"
            )


def describe_doubts(train: Survey, values: np.ndarray, targets: Targets) -> list[str]:
    """Return a line for each thing that makes the targets of training rows look wrong."""
    values = values[train.usable]
    if targets.task == "multilabel" and values.sum(axis=1).max() < 2:
        return [
            f"no row of {train.source.name} has more than one class: check data.label_separator, "
            "or add task=classification"
        ]
    if targets.task != "regression":
        return []
    sizes, deviations = np.abs(values).max(axis=0), values.std(axis=0)
    return [
        f"{shorten(name)!r} of {train.source.name} differs by {deviation:.3g} around "
        f"{values[:, place].mean():.3g}, and the model computes in single precision, with seven "
        "digits: subtract the mean to keep more digits of the differences"
        for place, (name, size, deviation) in enumerate(
            zip(targets.names, sizes, deviations, strict=True)
        )
        if deviation < FEWEST_DIGITS * size
    ]


def find_label_problem(label: Label, task: TaskChoice, in_columns: bool = False) -> str | None:
    """Return why a row's label cannot be of the task, or None; for `in_columns` see `encode`."""
    if task == "multilabel" and in_columns:
        others = [item for item in as_tuple(label) if item not in FLAGS]
        return f"label {shorten(others[0])!r} instead of 0 or 1" if others else None
    if task == "regression":
        if isinstance(label, tuple) and not in_columns:
            return "several numbers in one column (see data.label_column)"
        numbers = [to_number(item) for item in as_tuple(label)]
        if not all(number is not None and abs(number) <= LARGEST for number in numbers):
            return "label is not a number"
    if task in ("classification", "ordinal") and not isinstance(label, str):
        return "several labels (see task=multilabel)"
    return None


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sort labels as numbers if all of them are numbers, otherwise as text."""
    in_order = sorted(labels)  # sorting by number alone would leave "nan" where it was
    try:
        return sorted(in_order, key=lambda label: (float(label), label))
    except ValueError:
        return in_order
