"""Several labels of a row: in a cell with a separator, in a list, or in several columns."""

import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from attnlstm.data.formats.series import SeriesOptions
from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError

LABELS = [("a", "b"), ("b",), (), ("a",)]


def read(path: Path, **options) -> list:
    return [row.label for row in TextFiles([path], key="data.train", **options)]


def write_csv(path: Path, header: str, *lines: str) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def test_labels_with_a_separator(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text,label", "x,a| b|a", "y,b", "z,", "w,a|")
    assert read(path, label_separator="|") == LABELS
    assert read(path) == ["a| b|a", "b", None, "a|"]


def test_lists_are_the_same_in_every_format(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": list("xyzw"), "label": [list(label) for label in LABELS]})
    table.to_parquet(tmp_path / "a.parquet")
    records = [
        json.dumps({"text": text, "label": list(label)})
        for text, label in zip("xyzw", LABELS, strict=True)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(records) + "\n")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.List(datasets.ClassLabel(names=["a", "b"])),
        }
    )
    numbers = {"text": list("xyzw"), "label": [[0, 1], [1], [], [0]]}
    datasets.Dataset.from_dict(numbers, features=features).save_to_disk(str(tmp_path / "saved"))
    for name in ("a.parquet", "a.jsonl", "saved"):
        assert read(tmp_path / name) == LABELS, name


def test_a_list_with_a_missing_item_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": ["a", null]}\n{"text": "y", "label": null}\n')
    rows = list(TextFiles([path], key="data.train"))
    assert [(row.label, row.problem) for row in rows] == [
        (None, "a missing label among several"),
        (None, None),
    ]


def test_several_columns_are_one_label(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "cat,text,dog", "1,x,0", "0,y,", "1.0,z,0.5")
    source = TextFiles([path], key="data.train", label_column=["dog", "cat"])
    assert source.target_names == ["dog", "cat"]
    assert [row.label for row in source] == [("0", "1"), None, ("0.5", "1")]
    assert source.columns_used == {"text": "text", "label": "dog + cat"}
    assert read(path, label_column=["cat"]) == ["1", "0", "1"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["cat", "dot"], "no column 'dot' (data.label_column): did you mean 'dog'?"),
        (["cat", "cat"], "data.label_column=[cat,cat]: name at least one column, and each once"),
    ],
)
def test_wrong_columns(tmp_path: Path, columns: list[str], said: str) -> None:
    path = write_csv(tmp_path / "a.csv", "cat,text,dog", "1,x,0")
    with pytest.raises(UserError) as caught:
        TextFiles([path], key="data.train", label_column=columns)
    assert said in str(caught.value)


def test_files_to_predict_may_lack_the_label_columns(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "cat,text", "1,x")
    source = TextFiles([path], key="input", label_column=["dog", "cat"], needs_labels=False)
    assert [(row.value, row.label) for row in source] == [("x", None)]


WIDE = "id,t0,t1,t2,t3,f,amp", "a,1,2,3,4,0.5,7", "b,5,6,7,8,1.5,9"
LONG = "id,t,x,f,amp", "a,0,1,0.5,7", "a,1,2,0.5,7", "b,0,5,1.5,9"


@pytest.mark.parametrize("lines", [WIDE, LONG], ids=["wide", "long"])
def test_series_with_several_numbers(tmp_path: Path, lines: tuple[str, ...]) -> None:
    path = write_csv(tmp_path / "a.csv", *lines)
    source = SeriesFiles([path], key="data.train", label_column=["f", "amp"])
    assert source.target_names == ["f", "amp"]
    assert [row.label for row in source] == [("0.5", "7"), ("1.5", "9")]
    assert source.channel_names in (["t"], ["x"])


def test_arrays_with_several_numbers(tmp_path: Path) -> None:
    X, y = np.zeros((3, 9, 2)), np.array([[0.5, 7], [1.5, np.nan], [2, -1]])
    np.savez(tmp_path / "a.npz", X=X, y=y)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    for name in ("a.npz", "X.npy"):
        series = SeriesOptions(axes="row,time,channel")
        source = SeriesFiles([tmp_path / name], key="data.train", series=series)
        assert source.target_names == ["0", "1"]
        assert [row.label for row in source] == [("0.5", "7"), None, ("2", "-1")]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.ts", ["@univariate true", "@targetlabel true", "@data", "1,2,3:0.25", "4,5,6:?"]),
        ("a.arff", ["@attribute x real", "@attribute y real", "@data", "1,0.25", "4,?"]),
    ],
)
def test_files_that_declare_numbers_to_predict(tmp_path: Path, name: str, lines: list[str]) -> None:
    path = write_csv(tmp_path / name, *lines)
    source = SeriesFiles([path], key="data.train")
    assert (source.task, source.label_names) == ("regression", None)
    assert [row.label for row in source] == ["0.25", None]


def test_labels_with_a_decimal_comma_are_as_in_parquet(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", "text;target", "x;1,5", "y;2,0", "z;a,5")
    assert read(path, decimal=",", delimiter=";") == ["1.5", "2", "a,5"]
