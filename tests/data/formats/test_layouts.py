"""The same series in some 900 files: all are read to the same, or refused by a message with a key.

None may be read as something else.
"""

import re
from collections import Counter
from itertools import cycle, product

import numpy as np
import pytest

from attnlstm.data.formats.series import SeriesOptions
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.errors import UserError
from tests.data.formats.series_tables import (
    CHANNELS,
    CODES,
    LABELS,
    SERIES,
    arrange,
    long_records,
    table,
    wide_records,
    write,
)

INDICES = (None, "", "Unnamed: 0", "__index_level_0__", "row")
DELIMITERS = (",", ";", "\t")


def outcome(path, channels, labels, **options):
    """Return "read" if the file gives the series, or the message that refuses it."""
    try:
        source = SeriesFiles([path], key="data.train", **options)
        rows = list(source)
    except UserError as error:
        message = str(error)
    else:
        return compare(source, rows, channels, labels)
    assert "data." in message
    return message


def compare(source, rows, channels, labels):
    problems = {row.problem for row in rows} - {None}
    if problems:
        return f"bad rows: {problems}"
    assert [row.label for row in rows] == labels
    names = source.channel_names or list(CHANNELS[:channels])
    assert sorted(names) == list(CHANNELS[:channels])
    for row, expected in zip(rows, SERIES, strict=True):
        places = [CHANNELS.index(name) for name in names]
        np.testing.assert_array_equal(row.value, expected[:, places])
    return "read"


TEXT_KINDS = [("csv", delimiter) for delimiter in DELIMITERS] + [("tsv", "\t")]
KINDS = [*TEXT_KINDS, ("parquet", ","), ("jsonl", ",")]


def option_of(kind, delimiter):
    is_usual = delimiter == ("\t" if kind == "tsv" else ",")
    return {} if is_usual else {"delimiter": delimiter}


@pytest.mark.slow
@pytest.mark.parametrize(("names", "channels"), [("x_0", 1), ("x0", 2), ("0_x", 3)])
def test_wide_tables(tmp_path, names, channels):
    places = cycle(("first", "last", "last"))  # so that each meets all others
    for (kind, delimiter), index, identity in product(KINDS, INDICES, (None, "id")):
        place = next(places)
        records = arrange(wide_records(channels, names, LABELS), identity, index, place)
        path = write(tmp_path, records, kind, delimiter)
        case = (kind, delimiter, index, identity, place)
        assert outcome(path, channels, LABELS, **option_of(kind, delimiter)) == "read", case


@pytest.mark.slow
@pytest.mark.parametrize(("identity", "channels"), [("id", 1), ("session", 3), ("subject", 2)])
def test_long_tables(tmp_path, identity, channels):
    places = cycle(("first", "last", "last"))
    for (kind, delimiter), index, time in product(KINDS, INDICES, (True, False)):
        place = next(places)
        records = arrange(long_records(channels, time, LABELS), identity, index, place)
        path = write(tmp_path, records, kind, delimiter)
        case = (kind, delimiter, index, time, place)
        assert outcome(path, channels, LABELS, **option_of(kind, delimiter)) == "read", case


@pytest.mark.slow
def test_files_without_a_header(tmp_path):
    """One channel; the label is first or last, a text or a number, and there may be an index."""
    outcomes = Counter()
    for (kind, delimiter), index, identity, place, labels in product(
        [*TEXT_KINDS, ("txt", ","), ("txt", " "), ("txt", "\t"), ("txt", ";")],
        (None, "row"),
        (None, "id"),
        ("first", "last"),
        (LABELS, CODES),
    ):
        records = arrange(wide_records(1, "x_0", labels), identity, index, place)
        path = write(tmp_path, records, kind, delimiter, header=False)
        found = outcome(path, 1, labels)
        assert found == "read" or "data.label_column=" in found, found
        outcomes[found == "read"] += 1
        if index is None and identity is None:
            assert found == "read", (kind, delimiter, place, labels[0])
    assert outcomes[True] > 3 * outcomes[False]


def test_decimal_commas_are_read_or_refused(tmp_path):
    for kind, identity, is_wide in product(("csv", "tsv"), (None, "id"), (True, False)):
        records = wide_records(2, "x_0", LABELS) if is_wide else long_records(2, True, LABELS)
        delimiter = {"csv": ";", "tsv": "\t"}[kind]
        arranged = arrange(records, identity if is_wide else "id", None, "last")
        path = write(tmp_path, arranged, kind, delimiter, decimal=",")
        assert outcome(path, 2, LABELS, **option_of(kind, delimiter))


@pytest.mark.parametrize("is_compressed", [False, True])
def test_npz_files(tmp_path, is_compressed):
    path = tmp_path / "data.npz"
    for channels in (1, 2, 3):
        save = np.savez_compressed if is_compressed else np.savez
        save(path, X=SERIES[..., :channels], y=LABELS)
        series = SeriesOptions(axes="row,time,channel")
        assert outcome(path, channels, LABELS, series=series) == "read"
        assert outcome(path, channels, LABELS) == "read" or channels > 1
        save(path, X=np.swapaxes(SERIES[..., :channels], 1, 2), y=LABELS)
        series = SeriesOptions(axes="row,channel,time")
        assert outcome(path, channels, LABELS, series=series) == "read"
        assert outcome(path, channels, LABELS) == "read" or channels > 1


# Tables that can be read in two ways


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("id,height,width,label", ["a,1.5,2,up", "b,2.5,3,down", "c,1,1,up"]),
        ("subject,x1,x2,x3,label", ["a,1,2,3,up", "a,4,5,6,up", "b,7,8,9,down"]),
        ("subject,time,x1,x2,x3,label", ["a,0,1,2,3,up", "a,1,4,5,6,up", "b,0,7,8,9,down"]),
        ("time,x1,x2,x3,label", ["0,1,2,3,up", "1,4,5,6,up", "2,7,8,9,down"]),
        ("ch1,ch2,ch3,label", ["1,2,3,up", "4,5,6,up", "7,8,9,down"]),
    ],
)
def test_what_can_be_read_in_two_ways_is_asked(tmp_path, header, rows):
    path = table(tmp_path, header, rows)
    with pytest.raises(
        UserError, match=r"in two ways: .*data\.layout=wide; or .*data\.layout=long"
    ):
        SeriesFiles([path], key="data.train")
    wide = list(SeriesFiles([path], key="data.train", layout="wide"))
    assert len(wide) == len(rows)
    assert {row.value.shape[1] for row in wide} == {1}


def test_columns_with_two_numbers_are_asked_for(tmp_path):
    names = [f"v{a}_{b}" for a in range(2) for b in range(3)]
    path = table(tmp_path, ",".join([*names, "label"]), ["1,2,3,4,5,6,up", "3,4,5,6,7,8,down"])
    with pytest.raises(UserError, match=r"'v0_0' have two numbers.*channel_columns=\['v0', 'v1'"):
        SeriesFiles([path], key="data.train")
    by_last = SeriesFiles([path], key="data.train", channel_columns=["v0", "v1"])
    assert next(iter(by_last)).value.tolist() == [[1, 4], [2, 5], [3, 6]]
    by_first = SeriesFiles([path], key="data.train", channel_columns=["v_0", "v_1", "v_2"])
    assert next(iter(by_first)).value.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "pattern", ["ch{c}_t{t}", "t{t}_ch{c}", "dim_{c}__{t}", "sensor{c}.step{t}"]
)
def test_words_tell_which_number_counts_the_steps(tmp_path, pattern):
    names = [pattern.format(c=c, t=t) for c in range(2) for t in range(4)]
    path = table(tmp_path, ",".join([*names, "label"]), ["1,2,3,4,5,6,7,8,up"] * 2)
    row = next(iter(SeriesFiles([path], key="data.train")))
    assert row.value.tolist() == [[1, 5], [2, 6], [3, 7], [4, 8]]


def test_nested_cells(tmp_path):
    steps = {"x": [0.5, 1.5, 2.5], "y": [1, 2, 3]}
    longer = {"x": [1.0, 2.0, 3.0, 4.0], "y": [4, 3, 2, 1]}
    records = [steps | {"label": "up"}, longer | {"label": "down"}]
    for kind in ("parquet", "jsonl"):
        source = SeriesFiles([write(tmp_path, records, kind)], key="data.train")
        assert [row.value.tolist() for row in source] == [
            [[0.5, 1], [1.5, 2], [2.5, 3]],
            [[1, 4], [2, 3], [3, 2], [4, 1]],
        ]
        assert source.channel_names == ["x", "y"]
        assert "wide" in (source.layout or "")
    objects = [{"x": {"0": 1.0, "1": 2.0}, "label": "up"}]  # as pandas writes a nested frame
    (row,) = SeriesFiles([write(tmp_path, objects, "jsonl")], key="data.train")
    assert row.value.tolist() == [[1], [2]]


def test_cells_of_different_lengths(tmp_path):
    records = [{"x": [1.0, 2.0], "y": [1.0], "label": "up"}]
    (row,) = SeriesFiles([write(tmp_path, records, "jsonl")], key="data.train")
    assert row.problem == "channels of different lengths"


def test_dimensions_in_files_of_their_own(tmp_path):
    paths = []
    for channel in (1, 0, 2):
        path = tmp_path / f"Walks_Dimension{channel + 1}_TRAIN.txt"
        lines = [
            f"{row % 2 + 1} " + " ".join(map(str, SERIES[row, :, channel])) for row in range(6)
        ]
        path.write_text("\n".join(lines))
        paths.append(path)
    source = SeriesFiles(paths, key="data.train")
    assert source.name == "Walks_TRAIN.txt"
    assert source.channel_names == ["dimension_1", "dimension_2", "dimension_3"]
    for row, expected in zip(source, SERIES[:6], strict=True):
        np.testing.assert_array_equal(row.value, expected)
        assert row.label == str(row.number % 2 + 1)
    one = SeriesFiles(paths, key="data.train", channel_columns=["dimension_3"])
    np.testing.assert_array_equal(next(iter(one)).value, SERIES[0, :, 2:])
    with pytest.raises(UserError, match=r"but not dimension 2: name the files"):
        SeriesFiles([paths[1], paths[2]], key="data.train")
    paths[0].write_text("1 0.5 3.5 2.5\n")
    with pytest.raises(UserError, match="do not have the same number of rows"):
        list(SeriesFiles(paths, key="data.train"))


def test_files_of_the_archives_without_an_ending(tmp_path):
    path = tmp_path / "Walks_TRAIN"
    path.write_text(
        "".join(
            f"{code},{','.join(map(str, SERIES[row, :, 0]))}\n" for row, code in enumerate(CODES)
        )
    )
    assert outcome(path, 1, CODES) == "read"


def test_missing_values_at_the_end_are_padding(tmp_path):
    path = table(tmp_path, "x_0,x_1,x_2,y_0,y_1,y_2,label", ["1,2,,3,4,,up", "1,,3,4,5,6,down"])
    first, second = SeriesFiles([path], key="data.train")
    assert first.value.tolist() == [[1, 3], [2, 4]]
    assert second.problem == "missing values (NaN)"


def test_what_was_read_is_said(tmp_path):
    records = arrange(wide_records(2, "x_0", LABELS), "id", "", "last")
    for record in records:
        record["age"] = 3
    source = SeriesFiles([write(tmp_path, records, "csv")], key="data.train")
    assert source.layout is not None
    assert re.match("wide: a series in each row, as each 'id' has one row", source.layout)
    assert "'x' from 9 columns, 'x_0' to 'x_8', 'y' from 9 columns, 'y_0' to 'y_8'" in source.layout
    assert source.columns_used == {"id": "id", "label": "label"}
    assert source.left_out == {"": "an index", "age": "not a step"}


# Other files for the same model


def test_channels_are_matched_by_name(tmp_path):
    path = table(tmp_path, "y_0,y_1,y_2,x_2,x_1,x_0,label", ["1,2,3,4,5,6,up"] * 2)
    for names, steps in (
        (["x", "y"], [[6, 1], [5, 2], [4, 3]]),
        (["y"], [[1], [2], [3]]),
    ):
        source = SeriesFiles([path], key="data.test", channel_columns=names)
        assert next(iter(source)).value.tolist() == steps
    with pytest.raises(UserError, match=r"no (channel|column) 'z' \(data\.channel_columns\)"):
        SeriesFiles([path], key="data.test", channel_columns=["z"])


def test_files_with_other_channels_are_refused(tmp_path):
    first = table(tmp_path, "x_0,x_1,x_2,y_0,y_1,y_2,label", ["1,2,3,4,5,6,up"] * 2)
    second = tmp_path / "other.csv"
    second.write_text("x_0,x_1,x_2,z_0,z_1,z_2,label\n" + "1,2,3,4,5,6,up\n" * 2)
    with pytest.raises(UserError, match="do not have the same channels, only one has 'y', 'z'"):
        SeriesFiles([first, second], key="data.train")
