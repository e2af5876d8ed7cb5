"""The parts of files: what is carved out of the training file, and which rows stop a run."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data.sources.source import open_sources
from attnlstm.errors import UserError
from tests.data.opened import config_of, message_of, split, texts_of, write_series, write_texts
from tests.data.rows_to_split import values_of


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


@pytest.mark.slow
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


# ----------------------------------------------------------------------------- rows that stop a run


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
