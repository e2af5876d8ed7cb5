"""One pass over a source before training: what it contains, and which rows are bad."""

import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from attnlstm.config.data import Missing
from attnlstm.console import printable
from attnlstm.data.label_leaks import FEWEST_ROWS, LabelLeaks
from attnlstm.data.rows import Label, Row, RowSource, as_tuple, to_number
from attnlstm.errors import UserError

SHOWN = 10  # rows, and channels of a row, that a message names before it only counts them

MISSING = "missing values (NaN)"

LONGEST_LABEL = 1 << 14  # characters; a longer one is a text from the wrong column

MOST_CLASSES = 5_000
"""Metrics keep a confusion matrix: with 5,000 classes it takes 200 MB."""


class Problem(NamedTuple):
    """What is wrong with a row: wording shared by all such rows, and details of this one."""

    what: str
    detail: str = ""


def find_problem(row: Row, num_channels: int, missing: Missing = "stop") -> Problem | None:
    """Return what makes the value of a row unusable, or None; its label is not checked.

    A series must have `num_channels` channels. `missing` is `data.missing`: to interpolate, each
    channel must have a value, and to mask, any channel.
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
        values = row.value.astype(np.float32)  # the precision of the model
    if np.isfinite(values).all():
        return None
    is_missing = np.isnan(values)
    what, bad = MISSING, is_missing.any(axis=0)  # [channel]
    if missing == "mask":
        what, bad = "no values", is_missing.all(axis=0) & is_missing.all()
    elif missing == "interpolate":
        what, bad = "no values to interpolate", is_missing.all(axis=0)
    if not bad.any():
        what, bad = "infinite values", np.isinf(values).any(axis=0)
    if not bad.any():
        return None
    channels = np.flatnonzero(bad)
    listed = ", ".join(map(str, channels[:SHOWN])) + ", ..." * (len(channels) > SHOWN)
    return Problem(what, f"channel{'s' * (len(channels) > 1)} {listed}")


FindLabelProblem = Callable[[Label], str | None]


def _find_label_problem(label: Label | None, find: FindLabelProblem) -> Problem | None:
    if label is None:
        return Problem("no label")
    if max(map(len, as_tuple(label)), default=0) > LONGEST_LABEL:
        return Problem(f"label longer than {LONGEST_LABEL:,} characters")
    problem = find(label)
    return None if problem is None else Problem(problem)


@dataclass
class BadRows:
    """The rows of one file that share a problem: their number, and where the first ones are."""

    count: int = 0
    places: list[str] = field(default_factory=list)

    def add(self, row: Row, detail: str = "") -> None:
        """Count a row; `detail` is what its message adds."""
        self.count += 1
        if len(self.places) < SHOWN:
            self.places.append(f"{row.place}, {detail}" if detail else row.place)

    def __str__(self) -> str:
        """Return for example "12 rows: row 3 (line 5), row 8 (line 10), ..."."""
        more = ", ..." * (self.count > len(self.places))
        return f"{self.count:,} row{'s' * (self.count > 1)}: {'; '.join(self.places)}{more}"


@dataclass
class Survey:
    """What one pass over a source has found."""

    source: RowSource
    labels: np.ndarray  # [row] int32, the index of each row's label in `names`; -1 for a bad row
    names: list[Label]  # the different labels, in the order of their first appearance
    bad_labels: set[Label]  # the labels of rows that are bad for another reason
    contents: np.ndarray  # [row] int64, equal for equal values; see `_digest`
    problems: dict[str, dict[str, BadRows]]  # what is wrong -> the file -> the rows
    num_channels: int  # 0 for texts
    lengths: np.ndarray  # [row] int64, steps or characters; 0 without a value
    doubts: list[str]  # what looks wrong with the values of good rows
    is_complete: bool  # whether all rows were read
    num_gaps: np.ndarray | None = None  # [channel], usable rows that lack values; None without any
    groups: np.ndarray | None = None  # [row] int64, equal for rows of a group; None without groups

    @property
    def usable(self) -> np.ndarray:
        """Which rows have no problem, `[row]` bool."""
        return self.labels >= 0

    def describe_gaps(self, missing: Missing) -> list[str]:
        """Return a line about the missing values of usable rows, if there are any."""
        if self.num_gaps is None:
            return []
        channels = np.flatnonzero(self.num_gaps)
        listed = ", ".join(
            f"{channel} ({self.num_gaps[channel]:,})" for channel in channels[:SHOWN]
        )
        done = "interpolated along time" if missing == "interpolate" else "set to 0 and marked"
        return [
            f"{self.source.name} has missing values, {done}, in channel{'s' * (len(channels) > 1)} "
            f"(series): {listed}{', ...' * (len(channels) > SHOWN)}"
        ]

    def describe_problems(self) -> list[str]:
        """Return part of a sentence for each problem and file."""
        return [
            f"{what} in {file}, {bad_rows}"
            for what, files in self.problems.items()
            for file, bad_rows in files.items()
        ]


def survey(
    source: RowSource,
    find_label_problem: FindLabelProblem = lambda label: None,
    num_channels: int | None = None,
    most_bad: int | None = None,
    missing: Missing = "stop",
    needs_groups: bool = False,
) -> Survey:
    """Go through all rows of a source.

    Args:
        source: the rows.
        find_label_problem: returns why a label cannot be used, or None.
        num_channels: the channels that each series must have. None: those that most of the first
            series have.
        most_bad: the number of bad rows after which it stops. None: it reads all rows.
        missing: what is done about missing values in series, see `find_problem`.
        needs_groups: whether a row without a group is bad.

    Raises:
        UserError: there are more than `MOST_CLASSES` classes, which could fill the memory.
    """
    num_channels = num_channels or _usual_channels(source)
    numbers: dict[Label, int] = {}
    classes: set[str] = set()  # but not numbers, which a regression may predict
    labels, contents, lengths, groups = array("i"), array("q"), array("q"), array("q")
    has_groups, num_gaps = needs_groups, None
    problems: dict[str, dict[str, BadRows]] = defaultdict(lambda: defaultdict(BadRows))
    bad_labels: set[Label] = set()
    num_bad, leaks = 0, LabelLeaks()
    for row in show_progress(source, f"checking {source.name}"):
        problem = None
        if row.label not in numbers:
            problem = _find_label_problem(row.label, find_label_problem)
        if (bad_value := find_problem(row, num_channels, missing)) is not None:
            if problem is None and row.label is not None and len(bad_labels) <= MOST_CLASSES:
                bad_labels.add(row.label)
            problem = bad_value
        if problem is None and needs_groups and row.group is None:
            problem = Problem("no group")
        if problem is None and missing != "stop" and isinstance(row.value, np.ndarray):
            gaps = np.isnan(row.value).any(axis=0)
            if gaps.any():
                num_gaps = gaps + (0 if num_gaps is None else num_gaps)
        has_groups = has_groups or row.group is not None
        groups.append(hash(row.group))
        if problem is not None or row.label is None:
            labels.append(-1)
        else:
            if row.label not in numbers:
                classes.update(i for i in as_tuple(row.label) if to_number(i) is None)
            labels.append(numbers.setdefault(row.label, len(numbers)))
        contents.append(_digest(row.value))
        lengths.append(0 if row.value is None else len(row.value))
        if len(classes) > MOST_CLASSES:
            raise UserError(
                f"{source.name} has more than {MOST_CLASSES:,} classes: check data.label_column"
            )
        if problem is None and isinstance(row.value, np.ndarray):
            leaks.add(row.value, str(row.label))
        if problem is not None:
            problems[problem.what][row.file].add(row, problem.detail)
            num_bad += 1
            if num_bad == most_bad:
                break
    doubts = _doubt_lengths(source, num_channels, np.array(lengths, np.int64))
    if leak := leaks.describe(source.channel_names):
        doubts.append(f"{source.name}: {leak}")
    return Survey(
        source,
        np.array(labels, np.int32),
        list(numbers),
        bad_labels,
        np.array(contents, np.int64),
        problems,
        num_channels,
        np.array(lengths, np.int64),
        doubts,
        is_complete=most_bad is None or num_bad < most_bad,
        num_gaps=num_gaps,
        groups=np.array(groups, np.int64) if has_groups else None,
    )


def _doubt_lengths(source: RowSource, num_channels: int, lengths: np.ndarray) -> list[str]:
    """Return a warning if most series have one step, as if each row of a table were one."""
    lengths = lengths[lengths > 0]
    if not num_channels or len(lengths) < FEWEST_ROWS or np.median(lengths) > 1:
        return []
    return [
        f"{source.name}: {(lengths == 1).sum():,} of {len(lengths):,} series have one step, so "
        "there is no order to learn from: is a row a whole series (data.layout=wide), or does the "
        "id differ in each row?"
    ]


def show_progress(rows: Iterable[Row], description: str) -> Iterator[Row]:
    """Yield the rows, with a progress bar if stderr is a terminal."""
    with Progress(
        TextColumn("{task.description}", markup=False),  # a file name may contain markup
        BarColumn(),
        TextColumn("{task.completed:,.0f} rows"),
        TimeElapsedColumn(),
        transient=True,
        disable=not sys.stderr.isatty(),
        console=Console(stderr=True),
    ) as progress:
        yield from progress.track(rows, description=printable(description))


def _usual_channels(source: RowSource) -> int:
    """Return the most common number of channels of the first hundred series; 0 for texts."""
    values = [row.value for row in islice(source, 100)]
    series = [value for value in values if isinstance(value, np.ndarray) and value.size]
    counts = Counter(value.shape[1] for value in series)
    return max(counts, key=counts.__getitem__, default=0)


def _digest(value: str | np.ndarray | None) -> int:
    """Return a 64-bit number, equal for equal values within a process.

    Letter case and white space of texts do not count.
    """
    if isinstance(value, str):
        return hash(" ".join(value.lower().split()))
    if value is None:
        return 0
    with np.errstate(over="ignore"):
        return hash((value.shape, value.astype(np.float32).tobytes()))
