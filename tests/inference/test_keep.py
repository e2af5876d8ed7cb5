"""Predictions keep their input: the text, the id, or chosen columns, in every format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from attnlstm.errors import UserError
from tests.inference.verbs import read_csv, run_evaluate, run_predict

pytestmark = pytest.mark.slow


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows, with None for empty cells, and without numbers."""
    if path.suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        rows = read_csv(path)
    return [
        {k: v or None for k, v in row.items() if "probability" not in k and k != "row"}
        for row in rows
    ]


@pytest.fixture(scope="module")
def run_dir(
    run_train: Callable, text_files: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "run"
    run_train(folder, *text_files, "trainer.max_epochs=1", "data.batch_size=8")
    return folder


TABLE = pd.DataFrame(
    {
        "id": [7, 8, 9],
        "text": ["a fine one", 'dull, "slow"\nand é', None],
        "label": ["good", "bad", "good"],
        "author": ["Ann", None, "Ño"],
        "stars": [5, 1, 3],
    }
)


@pytest.fixture(params=["csv", "jsonl", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"new.{request.param}"
    if request.param == "csv":
        TABLE.to_csv(path, index=False)
    elif request.param == "jsonl":
        TABLE.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        TABLE.to_parquet(path, index=False)
    return path


TEXTS = [value if isinstance(value, str) else None for value in TABLE["text"]]
AUTHORS = ["Ann", None, "Ño"]


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ([], {"text": TEXTS}),
        (["keep=none"], {}),
        (["keep=author"], {"author": AUTHORS}),
        (["keep=[stars,author]"], {"stars": ["5", "1", "3"], "author": AUTHORS}),
        (
            ["keep=all"],
            {
                "id of input": ["7", "8", "9"],
                "text": TEXTS,
                "author": AUTHORS,
                "stars": ["5", "1", "3"],
            },
        ),
        (["keep=[label]"], {"label of input": ["good", "bad", "good"]}),
    ],
    ids=str,
)
def test_columns_of_texts(
    run_dir: Path, table: Path, tmp_path: Path, keep: list[str], kept: dict[str, list]
) -> None:
    answers = []
    for ending in ("csv", "jsonl", "parquet"):
        output = tmp_path / f"out.{ending}"
        run_predict(
            tmp_path / "run", f"ckpt={run_dir}", f"input={table}", f"output={output}", *keep
        )
        answers.append(read(output))
    assert answers[0] == answers[1] == answers[2]
    first = answers[0]
    assert list(first[0]) == ["file", *kept, "true_label", "label", "error"]
    for name, values in kept.items():
        assert [row[name] for row in first] == values
    assert [row["true_label"] for row in first] == TABLE["label"].tolist()
    assert [row["error"] for row in first] == [None, None, "no text"]


def test_values_that_are_no_text_are_as_in_a_csv_file(run_dir: Path, tmp_path: Path) -> None:
    path, output = tmp_path / "new.jsonl", tmp_path / "out.jsonl"
    values = '"a": [1, {"b": "é"}], "n": 0.5, "t": true, "m": null, "list": ["\\ud800"]'
    path.write_text(f'{{"text": "fine", {values}}}\n{{broken')
    run_predict(
        tmp_path / "run", f"ckpt={run_dir}", f"input={path}", f"output={output}", "keep=all"
    )
    good, bad = read(output)
    assert (good["a"], good["n"], good["t"], good["m"]) == ('[1, {"b": "é"}]', "0.5", "True", None)
    assert good["list"] == '["\\ud800"]'
    assert bad["a"] is None
    assert bad["error"] == "not a JSON object"


def test_several_files_and_missing_columns(run_dir: Path, tmp_path: Path) -> None:
    for number, columns in enumerate((["text", "author"], ["stars", "text"])):
        TABLE[columns].to_csv(tmp_path / f"{number}.csv", index=False)
    arguments = [f"ckpt={run_dir}", f"input={tmp_path}/?.csv", f"output={tmp_path}/out.csv"]
    run_predict(tmp_path / "run", *arguments, "keep=all")
    rows = read(tmp_path / "out.csv")
    assert [row["author"] for row in rows] == [*AUTHORS, None, None, None]
    assert [row["stars"] for row in rows] == [None, None, None, "5", "1", "3"]
    with pytest.raises(UserError, match=r"1\.csv has no column 'author'"):
        run_predict(tmp_path / "run", *arguments, "keep=[author]", "overwrite=true")
    with pytest.raises(UserError, match=r"has no column 'autor'.*: did you mean 'author'"):
        run_predict(tmp_path / "run", f"ckpt={run_dir}", f"input={tmp_path}/0.csv", "keep=[autor]")


def test_lines_and_single_texts(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("fine\n\ndull\n")
    for keep, has_text in ((), True), (("keep=all",), True), (("keep=none",), False):
        output = tmp_path / "out.jsonl"
        arguments = [f"input={tmp_path}/new.txt", f"output={output}", "overwrite=true", *keep]
        run_predict(tmp_path / "run", f"ckpt={run_dir}", *arguments)
        texts = ["fine", None, "dull"] if has_text else [None] * 3
        assert [row.get("text") for row in read(output)] == texts
    with pytest.raises(
        UserError, match=r"keep=\[author\]: new\.txt has no columns that can be kept"
    ):
        run_predict(
            tmp_path / "run", f"ckpt={run_dir}", f"input={tmp_path}/new.txt", "keep=[author]"
        )
    single = tmp_path / "single.csv"
    run_predict(tmp_path / "run", f"ckpt={run_dir}", "text=a fine one", f"output={single}")
    assert read(single)[0]["text"] == "a fine one"


def test_an_existing_file_is_replaced_only_on_request(
    run_dir: Path, table: Path, tmp_path: Path
) -> None:
    for key, name in (("output", "out.csv"), ("report", "report.html")):
        path = tmp_path / name
        path.write_text("precious")
        arguments = [f"ckpt={run_dir}", f"input={table}", f"{key}={path}"]
        with pytest.raises(UserError, match=f"^{key}=.* exists already: add overwrite=true to"):
            run_predict(tmp_path / "run", *arguments)
        assert path.read_text() == "precious"
        run_predict(tmp_path / "run", *arguments, "overwrite=true")
        assert "precious" not in path.read_text()


def test_an_evaluation_keeps_the_input_too(
    run_dir: Path, tmp_path: Path, text_files: list[str]
) -> None:
    test = pd.read_csv(text_files[2].removeprefix("data.test="))
    test["author"] = [f"author {number}" for number in range(len(test))]
    test.to_csv(tmp_path / "test.csv", index=False)
    for keep, column in ((), "text"), (("keep=[author]",), "author"), (("keep=none",), None):
        folder = tmp_path / str(column)
        arguments = [f"ckpt={run_dir}", f"data.test={tmp_path}/test.csv", *keep]
        run_evaluate(folder, *arguments)
        found = pd.read_csv(folder / "predictions.csv")
        names = ["row", "file", *([column] if column else []), "true_label", "label"]
        assert list(found.columns)[: len(names)] == names
        assert found["true_label"].tolist() == test["label"].tolist()
        if column:
            assert found[column].tolist() == test[column].tolist()


def test_columns_of_series(run_train: Callable, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    series = range(40)
    steps = pd.DataFrame(
        {
            "id": np.repeat([f"s{number}" for number in series], 5),
            "x": generator.normal(size=200) + np.repeat(np.arange(40) % 2, 5),
            "label": np.repeat(np.arange(40) % 2, 5),
        }
    )
    steps.to_csv(tmp_path / "train.csv", index=False)
    ckpt = run_train(
        tmp_path / "run", "data=series_files", f"data.train={tmp_path}/train.csv"
    ).checkpoint
    steps["subject"] = np.repeat([f"subject {number % 3}" for number in series], 5)
    steps["note"] = [f"note {number}" for number in range(200)]
    steps["x"] = steps["x"].astype(object)
    steps.loc[7, "x"] = "broken"
    steps.to_csv(tmp_path / "new.csv", index=False)
    for keep, kept in (
        ((), []),
        (("keep=all",), ["subject", "note"]),
        (("keep=[note]",), ["note"]),
    ):
        arguments = [f"input={tmp_path}/new.csv", f"output={tmp_path}/out.csv", "overwrite=true"]
        run_predict(tmp_path / "run", f"ckpt={ckpt}", *arguments, *keep)
        rows = read(tmp_path / "out.csv")
        assert list(rows[0])[: 2 + len(kept)] == ["file", "id", *kept]
        first = steps.groupby("id", sort=False).first().reset_index()
        for name in ["id", *kept]:
            assert [row[name] for row in rows] == first[name].tolist()
        assert [row["true_label"] for row in rows] == [str(number % 2) for number in series]
        assert [bool(row["error"]) for row in rows] == [number == 1 for number in series]
    run_predict(tmp_path / "run", f"ckpt={ckpt}", *arguments, "keep=none")
    assert "id" not in read(tmp_path / "out.csv")[0]
    np.savez(tmp_path / "new.npz", X=generator.normal(size=(3, 5, 1)), y=["0", "1", "0"])
    with pytest.raises(UserError, match=r"new\.npz has no columns that can be kept"):
        run_predict(tmp_path / "run", f"ckpt={ckpt}", f"input={tmp_path}/new.npz", "keep=[subject]")
