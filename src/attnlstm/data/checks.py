"""One pass over a source before anything is trained: what is in it, and which rows are bad."""

import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from attnlstm.console import printable, shorten
from attnlstm.data.rows import Row, RowSource
from attnlstm.errors import UserError

SHOWN = 10  # rows, and channels of a row, that a message names; of the others it gives the count

LONGEST_LABEL = 1 << 14  # characters; a longer one is a text, from the wrong column

MOST_CLASSES = 5_000
"""Metrics keep a matrix of all classes against all: with 5,000 it takes 200 MB."""


class Problem(NamedTuple):
    """What is wrong with a row: the same words for all such rows, and what is particular to it."""

    what: str
    detail: str = ""


def find_problem(row: Row, num_channels: int) -> Problem | None:
    """What makes the row's value unusable; None for a sound one. Labels are not looked at.

    Args:
        row: any.
        num_channels: what a series has to have; texts have none.
    """
    if row.problem is not None:
        return Problem(row.problem)
    if row.value is None:
        return Problem("no value")
    if isinstance(row.value, str):
        return None if row.value.strip() else Problem("no text")
    if not row.value.size:  # no steps, or no channels
        return Problem("empty series")
    if row.value.shape[1] != num_channels:
        return Problem(f"{row.value.shape[1]} instead of {num_channels} channels")
    with np.errstate(over="ignore"):
        values = row.value.astype(np.float32)  # what the model computes with
    if np.isfinite(values).all():
        return None
    is_missing = np.isnan(values)
    bad = is_missing if is_missing.any() else np.isinf(values)
    channels = np.flatnonzero(bad.any(axis=0))
    listed = ", ".join(map(str, channels[:SHOWN])) + ", ..." * (len(channels) > SHOWN)
    return Problem(
        "missing values (NaN)" if is_missing.any() else "infinite values",
        f"channel{'s' * (len(channels) > 1)} {listed}",
    )


@dataclass
class BadRows:
    """The rows of one file that share a problem: how many, and where the first of them are."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, row: Row, detail: str = "") -> None:
        """Count one more; `detail` is what is particular to it."""
        self.count += 1
        if len(self.places) < SHOWN:
            self.places.append(f"{row.place}, {detail}" if detail else row.place)

    def __str__(self) -> str:
        """Such as "12 rows: row 3 (line 5), row 8 (line 10), ..."."""
        more = ", ..." * (self.count > len(self.places))
        return f"{self.count:,} row{'s' * (self.count > 1)}: {'; '.join(self.places)}{more}"


@dataclass
class Survey:
    """What one pass over a source has found.

    labels: [row] int32, the place of each row's label in `names`; -1 where it has none.
    names: the labels, in the order of their first appearance.
    contents: [row] int64, equal for rows with equal values (texts: but for case and white space).
    usable: [row] bool, neither a problem nor a missing label.
    problems: what is wrong -> the file -> the rows.
    num_channels: of the series; 0 for texts.
    lengths: [row] int64, the steps of series, the characters of texts; 0 where there is no value.
    is_complete: whether it went through all rows.
    """

    labels: np.ndarray
    names: list[str]
    contents: np.ndarray
    usable: np.ndarray
    problems: dict[str, dict[str, BadRows]]
    num_channels: int
    lengths: np.ndarray
    is_complete: bool = True

    def describe_problems(self) -> list[str]:
        """A part of a sentence for each problem and file."""
        return [
            f"{what} in {file}, {bad_rows}"
            for what, files in self.problems.items()
            for file, bad_rows in files.items()
        ]


def survey(
    source: RowSource,
    known_labels: Iterable[str] | None = None,
    num_channels: int | None = None,
    most_bad: int | None = None,
) -> Survey:
    """Go through all rows of a source.

    Args:
        source: what to go through.
        known_labels: the classes that there are; a row with another label is bad. None: any label
            will do.
        num_channels: what every series has to have. None: what most of the first series have.
        most_bad: it stops after this many bad rows. None: it never does.

    Raises:
        UserError: there are more than `MOST_CLASSES` labels, which could fill the memory.
    """
    known = None if known_labels is None else set(known_labels)
    num_channels = num_channels or _usual_channels(source)
    numbers: dict[str, int] = {}
    labels, contents, usable, lengths = array("i"), array("q"), array("b"), array("q")
    problems: dict[str, dict[str, BadRows]] = defaultdict(lambda: defaultdict(BadRows))
    num_bad = 0
    for row in show_progress(source, f"checking {source.name}"):
        problem = find_problem(row, num_channels)
        if problem is None and row.label is None:
            problem = Problem("no label")
        if problem is None and len(str(row.label)) > LONGEST_LABEL:
            problem = Problem(f"label longer than {LONGEST_LABEL:,} characters")
        if problem is None and known is not None and row.label not in known:
            problem = Problem(f"label {shorten(str(row.label))!r}, which no training row has,")
        if problem is not None:
            problems[problem.what][row.file].add(row, problem.detail)
        labels.append(-1 if problem else numbers.setdefault(str(row.label), len(numbers)))
        if len(numbers) > MOST_CLASSES:
            raise UserError(
                f"{source.name} has more than {MOST_CLASSES:,} classes: check data.label_column"
            )
        contents.append(_digest(row.value))
        lengths.append(0 if row.value is None else len(row.value))
        usable.append(problem is None)
        num_bad += problem is not None
        if num_bad == most_bad:
            break
    return Survey(
        np.array(labels, np.int32),
        list(numbers),
        np.array(contents, np.int64),
        np.array(usable, np.bool_),
        problems,
        num_channels,
        np.array(lengths, np.int64),
        is_complete=most_bad is None or num_bad < most_bad,
    )


def show_progress(rows: Iterable[Row], description: str) -> Iterator[Row]:
    """The rows themselves, with a progress line in a terminal."""
    with Progress(
        TextColumn("{task.description}", markup=False),  # file names may look like it
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
        transient=True,
        disable=not sys.stderr.isatty(),
        console=Console(stderr=True),
    ) as progress:
        task = progress.add_task(printable(description), total=None)
        for number, row in enumerate(rows, start=1):
            yield row
            if number % 1000 == 0:
                progress.update(task, completed=number)


def _usual_channels(source: RowSource) -> int:
    """What most of the first hundred series have; 0 for texts."""
    values = (row.value for row in islice(source, 100))
    counts = Counter(
        value.shape[1] for value in values if isinstance(value, np.ndarray) and value.size
    )
    return max(counts, key=lambda channels: counts[channels], default=0)


def _digest(value: str | np.ndarray | None) -> int:
    """Equal for equal values of the same process; a 64-bit number, so that others differ."""
    if isinstance(value, str):
        return hash(" ".join(value.lower().split()))
    if value is None:
        return 0
    with np.errstate(over="ignore"):
        return hash((value.shape, value.astype(np.float32).tobytes()))
