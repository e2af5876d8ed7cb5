"""What a run logs about the rows that it has read."""

import numpy as np
import pytest

from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.data.splits import split_sources
from attnlstm.data.summary import describe_rows, list_within

TEXTS = TextFilesSource(name="reviews")
SERIES = SeriesFilesSource(name="walks")


def series(lengths, channels):
    """Series of these lengths, no two of them alike."""
    return [np.full((n, channels), float(row)) for row, n in enumerate(lengths)]


def describe(config, **sources):
    return describe_rows(split_sources(sources, config, seed=0), config)


def test_series_have_steps_channels_and_classes(make_rows):
    lines = describe(
        SERIES,
        train=make_rows(series([7, 9, 10, 12], 2), ["up", "down", "up", "up"]),
        validation=make_rows(series([30, 30], 2), ["up", "down"]),
        test=make_rows(series([1, 1300], 2), ["up", "down"]),
    )
    assert lines == [
        "walks: 4 train, 2 validation, 2 test series, 2 classes",
        "train: series of 7 to 12 steps (median 10), 2 channels",
        "validation: series of 30 steps, 2 channels",
        "test: series of 1 to 1,300 steps (median 650), 2 channels",
        "train rows of each class: down: 1, up: 3",
    ]


def test_lengths_are_those_of_the_rows_that_are_kept(make_rows):
    config = TextFilesSource(name="reviews", on_bad_row="drop")
    problems = {2: "no text"}
    labels = ["a", "b", "a", "b"]
    train = make_rows(["one", "three", "x" * 90, "seventeen"], labels, problems=problems)
    other = make_rows(["first", "2nd"], ["a", "b"])
    lines = describe(config, train=train, validation=other, test=other)
    assert lines[1] == "train: texts of 3 to 9 characters (median 5)"


def test_carved_parts_have_their_own_lengths(make_rows):
    train = make_rows([f"{'y' * n} {n}" for n in range(40)], ["a", "b"] * 20)
    rows = split_sources({"train": train}, TEXTS, seed=0)
    for part in rows.parts.values():
        assert part.lengths is not None
        assert part.lengths.tolist() == [len(row.value) for row in part]


def test_the_largest_and_the_smallest_of_many_classes_are_named(make_rows):
    labels = [f"topic {n}" for n in range(60) for _ in range(n + 1)]
    labels += ["a name \n" + "z" * 100] * 100
    train = make_rows([f"text {row}" for row in range(len(labels))], labels)
    other = make_rows(["one", "two"], ["topic 3", "topic 4"])
    lines = describe(TEXTS, train=train, validation=other, test=other)
    assert all("\n" not in line and len(line) <= 100 for line in lines)
    largest, smallest = lines[-2:]
    assert largest.startswith("largest classes of train: a name zzz")
    assert "...: 100, topic 59: 60, topic 58: 59 and" in largest
    assert smallest.startswith("smallest: topic 0: 1, topic 1: 2, ")
    for line in (largest, smallest):
        assert line.count(": ") - 1 + int(line.split(" and ")[1].split(" more")[0]) == 61


def test_the_columns_that_are_read_are_named(tmp_path):
    path = tmp_path / "mail.csv"
    path.write_text("v1,v2,rest\n" + "".join(f"{n % 2},text {n},x\n" for n in range(20)))
    config = TextFilesSource(train=str(path), text_column="v2", label_column="v1")
    lines = describe(config, **open_sources(config))
    assert lines[1] == "columns of mail.csv: text 'v2', label 'v1'"
    assert lines[2] == "mail.csv: UTF-8 with delimiter ','"


def test_the_channels_of_tables_are_named(tmp_path):
    path = tmp_path / "walks.csv"
    records = [f"{n},{t},{n}.5,{t},{n % 2}\n" for n in range(20) for t in range(3)]
    path.write_text("series,step,x,y,label\n" + "".join(records))
    config = SeriesFilesSource(train=str(path))
    lines = describe(config, **open_sources(config))
    assert lines[1] == "columns of walks.csv: id 'series', time 'step', label 'label'"
    assert lines[2] == "channels: 'x', 'y'"
    assert lines[3] == "walks.csv: UTF-8 with delimiter ','"
    assert lines[4] == "train: series of 3 steps, 2 channels"


@pytest.mark.parametrize("count", [1, 5, 40, 1500])
def test_a_line_says_how_many_more_there_are(count):
    names = [f"channel_{n}" for n in range(count)]
    line = list_within("channels: ", names)
    assert len(line) <= 100
    listed, _, more = line.removeprefix("channels: ").partition(" and ")
    rest = int(more.removesuffix(" more").replace(",", "")) if more else 0
    assert listed.split(", ") == names[: count - rest]
