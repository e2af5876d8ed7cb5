import numpy as np
import pandas as pd
import pytest

from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.errors import UserError
from tests.data.formats.test_wav_file import sound_bytes

GENERATOR = np.random.default_rng(0)
SERIES = {
    f"{label}/{number}": GENERATOR.normal(size=(4 + number, 3)).round(3)
    for label in ("run", "walk")
    for number in range(3)
}


def write_csv(path, series):
    pd.DataFrame(series, columns=["x", "y", "z"]).to_csv(path, index=False)


def write_tsv(path, series):
    pd.DataFrame(series, columns=["x", "y", "z"]).to_csv(path, index=False, sep="\t")


def write_parquet(path, series):
    pd.DataFrame(series, columns=["x", "y", "z"]).to_parquet(path)


def write_transposed(path, series):
    np.save(path, series.T)


WRITERS = {
    ".csv": write_csv,
    ".csv.gz": write_csv,
    ".tsv": write_tsv,
    ".parquet": write_parquet,
    ".npy": np.save,
    "T.npy": write_transposed,
}


def write_all(folder, ending, write):
    for name, series in SERIES.items():
        path = folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, series)
    return folder


def open_rows(train, **options):
    source = SeriesFilesSource(train=str(train), **options)
    return open_sources(source)["train"]


def message_of(train, **options):
    with pytest.raises(UserError) as caught:
        open_rows(train, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("ending", WRITERS)
def test_a_folder_for_each_class(tmp_path, ending):
    rows = open_rows(write_all(tmp_path / "rec", ending, WRITERS[ending]))
    found = list(rows)
    assert [row.label for row in found] == [name.partition("/")[0] for name in SERIES]
    for row, series in zip(found, SERIES.values(), strict=True):
        np.testing.assert_array_equal(row.value, series)
    assert rows.axes == ("channel,time" if ending == "T.npy" else "time,channel")
    assert rows.notes[0].startswith(
        f"data.train={tmp_path}/rec: 6 files, 2 labels: run/0{ending} is "
    )
    assert [row.file for row in found] == [f"{tmp_path}/rec/{name}{ending}" for name in SERIES]


def test_tables_without_a_header(tmp_path):
    def write(path, series):
        np.savetxt(path, series, delimiter=",", fmt="%.3f")

    rows = open_rows(write_all(tmp_path / "rec", ".csv", write))
    for row, series in zip(rows, SERIES.values(), strict=True):
        np.testing.assert_array_equal(row.value, series)


def test_sound(tmp_path):
    for label in ("bark", "meow"):
        (tmp_path / label).mkdir()
        for number in range(2):
            values = GENERATOR.integers(-(2**31), 2**31, size=(20 + number, 1))
            (tmp_path / label / f"{number}.WAV").write_bytes(sound_bytes(2, values))
    rows = open_rows(tmp_path)
    assert [(row.label, row.value.shape) for row in rows] == [
        *(("bark", (20, 1)), ("bark", (21, 1)), ("meow", (20, 1)), ("meow", (21, 1))),
    ]
    assert rows.doubt is None
    (tmp_path / "meow" / "9.wav").write_bytes(sound_bytes(2, values, rate=44100))
    assert "several sampling rates (8000, 44100 Hz)" in open_rows(tmp_path).doubt


def test_labels_from_names(tmp_path):
    for name, series in SERIES.items():
        write_csv(tmp_path / f"{name.replace('/', '_')}.csv", series)
    rows = open_rows(tmp_path / "*.csv", label_from=r"name:^([a-z]+)_\d+")
    assert [row.label for row in rows] == [name.partition("/")[0] for name in SERIES]
    folder = tmp_path.name
    assert rows.notes == [
        r"data.label_from=name:^([a-z]+)_\d+: 6 files, 2 labels: "
        f"{folder}/run_0.csv is run, {folder}/walk_0.csv is walk"
    ]
    write_csv(tmp_path / "Notes.csv", SERIES["run/0"])
    message = message_of(tmp_path / "*.csv", label_from=r"name:^([a-z]+)_\d+")
    assert "finds no label in the names of 1 file of data.train ('Notes.csv')" in message


def test_labels_from_folders_of_any_depth(tmp_path):
    for user in ("ann", "bob"):
        write_all(tmp_path / user, ".csv", write_csv)
    rows = open_rows(tmp_path / "*" / "*" / "*.csv", label_from="folder")
    assert [row.label for row in rows] == [name.partition("/")[0] for name in SERIES] * 2
    message = message_of(tmp_path)
    assert "must have a folder for each class with its files directly inside" in message
    assert f"say data.train='{tmp_path}/*/*'" in message


@pytest.mark.parametrize(
    ("label_from", "said"),
    [
        ("file", "it must be folder, or name:PATTERN"),
        ("name", "it must be folder, or name:PATTERN"),
        ("name:", "the pattern has 0 groups, and must have one"),
        ("name:walk", "the pattern has 0 groups, and must have one"),
        ("name:(a)(b)", "the pattern has 2 groups, and must have one"),
        ("name:(a", "is no regular expression (missing ), unterminated subpattern"),
    ],
)
def test_patterns_that_are_refused(tmp_path, label_from, said):
    write_csv(tmp_path / "a.csv", SERIES["run/0"])
    assert said in message_of(tmp_path / "a.csv", label_from=label_from)


def test_what_else_lies_in_a_folder(tmp_path):
    write_all(tmp_path, ".csv", write_csv)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "README.txt").write_text("x")
    (tmp_path / "walk" / "photo.jpg").write_bytes(b"x")
    rows = open_rows(tmp_path)
    assert len(list(rows)) == 6
    assert f"data.train={tmp_path}: files left out: 1 .jpg, 1 .txt" in rows.notes
    np.save(tmp_path / "walk" / "0.npy", SERIES["walk/0"])
    assert "has recordings of several kinds (.csv, .npy)" in message_of(tmp_path)


def test_a_file_outside_the_folders_of_the_classes(tmp_path):
    write_all(tmp_path, ".csv", write_csv)
    write_csv(tmp_path / "all.csv", SERIES["run/0"])
    assert "with its files directly inside, and has all.csv" in message_of(tmp_path)


def test_parts_are_not_classes(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        write_csv(tmp_path / part / "0.csv", SERIES["run/0"])
    assert "say" not in message_of(tmp_path)
    assert f"data.train={tmp_path}/train data.test={tmp_path}/test" in message_of(tmp_path)


def test_a_folder_without_recordings(tmp_path):
    assert "has no recordings: it must have a folder for each class" in message_of(tmp_path)


def test_files_with_several_series_are_none(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((2, 3)), y=[0, 1])
    message = message_of(tmp_path / "a.npz", label_from="folder")
    assert "a.npz, which holds several series with their own labels" in message


def test_the_order_of_the_axes_is_asked_for(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "0.npy", np.ones((4, 3)))
    np.save(tmp_path / "a" / "1.npy", np.ones((4, 3)))
    message = message_of(tmp_path)
    assert "has the shape [4, 3], which may be [time, channel] or [channel, time]" in message
    assert "say data.axes=time,channel or data.axes=channel,time" in message
    rows = open_rows(tmp_path, axes="channel,time")
    assert [row.value.shape for row in rows] == [(3, 4)] * 2
    assert "are one series each" in message_of(tmp_path, axes="row,time,channel")


def test_one_channel_without_an_axis(tmp_path):
    (tmp_path / "a").mkdir()
    np.save(tmp_path / "a" / "0.npy", np.arange(4))
    np.save(tmp_path / "a" / "1.npy", np.arange(5))
    assert [row.value.tolist() for row in open_rows(tmp_path)] == [
        [[0], [1], [2], [3]],
        [[0], [1], [2], [3], [4]],
    ]


def test_times_and_labels_are_no_channels(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.csv").write_text("time,x,label\n0,1.5,7\n1,2.5,7\n")
    rows = open_rows(tmp_path)
    assert [(row.label, row.value.tolist()) for row in rows] == [("a", [[1.5], [2.5]])]
    assert dict(rows.columns_used) == {"time": "time"}
    (tmp_path / "a" / "0.csv").write_text("time,x\n1,1.5\n0,2.5\n")
    assert [row.problem for row in open_rows(tmp_path)] == ["time that goes back"]


def test_files_for_prediction_as_the_model_was_trained(tmp_path):
    write_all(tmp_path, ".csv", write_csv)
    trained_on = open_rows(tmp_path)
    source = SeriesFilesSource().for_model(3, trained_on.axes)
    files = sorted((tmp_path / "walk").glob("*.csv"))
    for given in (files, [tmp_path / "walk"]):
        rows = list(source.open_files(given, "input", needs_labels=False))
        assert [row.label for row in rows] == [None] * 3
        np.testing.assert_array_equal(rows[0].value, SERIES["walk/0"])


def test_the_fingerprint_is_of_content_and_labels(tmp_path):
    write_all(tmp_path, ".csv", write_csv)
    first = open_rows(tmp_path).fingerprint()
    assert open_rows(tmp_path).fingerprint() == first
    (tmp_path / "walk").rename(tmp_path / "stroll")
    assert open_rows(tmp_path).fingerprint() != first
