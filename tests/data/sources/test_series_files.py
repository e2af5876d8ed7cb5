import numpy as np
import pytest

from attnlstm.data.sources.series_files import SeriesFiles, SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.errors import UserError

TS = "@univariate true\n@classLabel true up down\n@data\n1,2:up\n"
CSV = "id,x,y,label\na,1,2,up\n"


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        return path

    return write


def open_files(*files, **options):
    return SeriesFiles(files, key="data.train", **options)


def test_files_of_all_kinds_one_after_the_other(write, tmp_path):
    np.savez(tmp_path / "c.NPZ.npz", X=np.ones((2, 3, 1)), y=["up", "left"])
    source = open_files(
        write("b.TS", TS), write("a.csv", "id,x,label\na,1,up\n"), tmp_path / "c.NPZ.npz"
    )
    assert source.name == "b.TS and 2 more"
    assert source.label_names is None  # not all declare theirs
    expected = [("b.TS", 0), ("a.csv", 0), ("c.NPZ.npz", 0), ("c.NPZ.npz", 1)]
    assert [(row.file, row.number) for row in source] == expected
    assert [(row.file, row.number) for row in source] == expected


def test_an_id_in_two_files_is_two_series(write):
    source = open_files(write("a.csv", CSV), write("b.csv", CSV.replace("1,2", "3,4")))
    assert [(row.file, row.number, row.name, row.value.tolist()) for row in source] == [
        ("a.csv", 0, "a", [[1, 2]]),
        ("b.csv", 0, "a", [[3, 4]]),
    ]


def test_files_of_the_same_name_are_told_apart(write):
    files = [write("first/a.csv", CSV), write("second/a.csv", CSV)]
    assert [row.file for row in open_files(*files)] == list(map(str, files))


def test_channels_are_in_the_order_of_the_first_file(write):
    source = open_files(write("a.csv", CSV), write("b.csv", "y,label,id,x\n2,up,b,1\n"))
    assert [row.value.tolist() for row in source] == [[[1, 2]], [[1, 2]]]
    assert source.channel_names == ["x", "y"]


def test_tables_with_different_channels(write):
    files = write("a.csv", CSV), write("b.csv", "id,x,z,label\na,1,2,up\n")
    with pytest.raises(UserError, match=r"b\.csv and a\.csv do not .* only one has 'y', 'z': give"):
        open_files(*files)
    assert [row.value.tolist() for row in open_files(*files, channel_columns=["x"])] == [
        [[1]],
        [[1]],
    ]


def test_declared_labels_of_several_files(write):
    other = TS.replace("up down", "down left up")
    source = open_files(write("a.ts", TS), write("b.ts", other))
    assert source.label_names == ["up", "down", "left"]


@pytest.mark.parametrize(
    "options",
    [
        {"id_column": "id"},
        {"time_column": "t"},
        {"label_column": "y"},
        {"channel_columns": ["x"]},
        {"delimiter": ";"},
    ],
)
@pytest.mark.parametrize("name", ["a.ts", "a.npz"])
def test_settings_of_tables_for_other_files(write, name, options):
    (setting,) = options
    with pytest.raises(UserError, match=rf"^data\.{setting} is for tables, but data\.train names"):
        open_files(write(name, TS), **options)


@pytest.mark.parametrize(
    "option", [{"id_column": "id"}, {"layout": "long"}, {"encoding": "cp1252"}]
)
def test_settings_of_tables_without_a_table_to_train_on(write, option):
    config = SeriesFilesSource(train=str(write("a.ts", TS)), **option)
    (setting,) = option
    with pytest.raises(UserError, match=rf"^data\.{setting} is for tables, .*leave .* out$"):
        open_sources(config)


@pytest.mark.parametrize("extra", ["", 'c,7,8,9,"down","the, garden"\n'])  # read otherwise
def test_kept_columns_of_a_wide_table(write, extra):
    table = "id,x_0,x_1,x_2,label,place\na,1,2,3,up,hall\nb,4,,6,up,\n"
    source = open_files(write("a.csv", table + extra), layout="wide")
    assert source.keep_columns(None) == ["place"]
    kept = [("hall",), ("",)] + [("the, garden",)] * bool(extra)
    assert [row.kept for row in source] == kept
    assert source.keep_columns(["x_1", "id", "place"]) == ["x_1", "id", "place"]
    assert [row.kept for row in source][:2] == [("2", "a", "hall"), ("", "b", "")]


def test_a_column_without_a_name_can_be_kept(write):
    source = open_files(write("a.jsonl", '{"": "one", "x": [1, 2], "label": "up"}\n'))
    assert source.keep_columns(None) == [""]
    assert [row.kept for row in source] == [("one",)]


def test_files_without_columns_to_keep(write):
    source = open_files(write("a.ts", TS))
    assert source.keep_columns(None) == []
    with pytest.raises(UserError, match=r"^keep=\[place\]: a\.ts has no columns .*keep=none$"):
        source.keep_columns(["place"])


def test_a_model_of_tables_reads_other_files(write):
    config = SeriesFilesSource(train="tables.csv", id_column="id", channel_columns=["x"])
    (row,) = config.open_files([write("new.ts", TS)], "input", needs_labels=False)
    assert row.label == "up"


def test_a_file_of_unknown_kind(write):
    with pytest.raises(UserError, match="is not a known kind of file"):
        open_files(write("a.xls", "x"))


def test_the_fingerprint_is_of_content_and_settings(write):
    path = write("a.csv", CSV)
    fingerprint = open_files(path).fingerprint()
    assert len(fingerprint) == 64
    assert fingerprint == open_files(write("renamed.csv", CSV)).fingerprint()
    different = [
        open_files(path, channel_columns=["x"]),
        open_files(path, channel_columns=["y", "x"]),
        open_files(path, label_column="y", channel_columns=["x"]),
        open_files(path, path),
        open_files(write("b.csv", CSV.replace("1", "3"))),
        open_files(write("c.ts", TS)),
        open_files(write("d.ts", TS + "1,2:up\n")),
    ]
    assert len({fingerprint, *(source.fingerprint() for source in different)}) == 8
