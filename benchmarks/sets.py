"""The data sets of the accuracy benchmarks."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from attnlstm.data.rows import RowSource
from attnlstm.data.sources.archive import ArchiveRows
from attnlstm.data.sources.bbc_news import BBCNews
from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.errors import UserError

Kind = Literal["series", "text"]

BUNDLED = (
    *("ACSF1", "ArrowHead", "BasicMotions", "GunPoint", "ItalyPowerDemand", "JapaneseVowels"),
    *("OSULeaf", "PickupGestureWiimoteZ"),
)
"""Sets of the UCR and UEA archives that come with aeon. Two others that also do are left out,
because they are not benchmarks in the literature: UnitTest is Chinatown with 22 of its test rows,
made for aeon's own tests, and Covid3Month_disc is a regression set with discretized targets."""


class BenchmarkSet(NamedTuple):
    """A set with a training and a test part.

    overrides: of `python train.py`; they select the set and nothing else.
    open_train: opens the training part without reading the test part.
    """

    name: str
    kind: Kind
    overrides: tuple[str, ...]
    open_train: Callable[[], RowSource]


def find_sets(folder: Path | None) -> dict[str, BenchmarkSet]:
    """Return the bundled sets and those in a folder, by name.

    The folder holds series as `NAME_TRAIN.npz` and `NAME_TEST.npz`, directly or in a subfolder
    `ucr`, and texts as `NAME/train.parquet` and `NAME/test.parquet`.

    Raises:
        UserError: the folder contains no sets, or two sets have the same name.
    """
    found = [_bundled_series(name) for name in BUNDLED]
    found.append(BenchmarkSet("bbc_news", "text", ("data=bbc_news",), lambda: BBCNews("train")))
    if folder is not None:
        in_folder = _sets_in(folder.resolve())
        if not in_folder:
            raise UserError(f"{folder} has neither NAME_TRAIN.npz nor NAME/train.parquet")
        found += in_folder
    sets: dict[str, BenchmarkSet] = {}
    for benchmark_set in found:
        if benchmark_set.name in sets:
            raise UserError(f"two sets are called {benchmark_set.name}: rename one in {folder}")
        sets[benchmark_set.name] = benchmark_set
    return sets


def choose_sets(folder: Path | None, names: list[str] | None) -> list[BenchmarkSet]:
    """Return the named sets of `find_sets`, or all.

    Raises:
        UserError: as in `find_sets`, or a name is unknown.
    """
    sets = find_sets(folder)
    for name in names or ():
        if name not in sets:
            raise UserError(f"--sets: unknown set {name}, choose from {', '.join(sets)}")
    return [sets[name] for name in names or sets]


def _bundled_series(name: str) -> BenchmarkSet:
    return BenchmarkSet(name, "series", (f"data.name={name}",), lambda: ArchiveRows(name, "train"))


def _sets_in(folder: Path) -> list[BenchmarkSet]:
    series = [
        (path.name.removesuffix("_TRAIN.npz"), path)
        for path in sorted([*folder.glob("*_TRAIN.npz"), *folder.glob("ucr/*_TRAIN.npz")])
    ]
    texts = [(path.parent.name, path) for path in sorted(folder.glob("*/train.parquet"))]
    return [
        *(
            _set_of_files(name, "series", train, train.with_name(f"{name}_TEST.npz"))
            for name, train in series
        ),
        *(
            _set_of_files(name, "text", train, train.with_name("test.parquet"))
            for name, train in texts
        ),
    ]


def _set_of_files(name: str, kind: Kind, train: Path, test: Path) -> BenchmarkSet:
    config: SeriesFilesSource | TextFilesSource = TextFilesSource(name=name, train=str(train))
    if kind == "series":
        config = SeriesFilesSource(name=name, train=str(train), axes="row,time,channel")
    overrides = (
        f"data={config.source}",
        f"data.name={name}",
        f"data.train={train}",
        f"data.test={test}",
        *(["data.axes=row,time,channel"] if kind == "series" else []),
    )
    return BenchmarkSet(name, kind, overrides, lambda: open_sources(config)["train"])
