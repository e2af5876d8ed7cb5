"""Prediction of series, from files of every layout."""

import json

import numpy as np
import pytest

from attnlstm.errors import UserError
from tests.inference.examples import (
    make_series,
    write_csv,
    write_long_table,
)
from tests.inference.verbs import read_csv, run_predict

pytestmark = pytest.mark.slow


def test_series_from_a_long_table(series_checkpoint, tmp_path):
    """Channels are found by name, whatever the order of the columns."""
    series, labels = make_series(20, seed=5)
    path = write_long_table(tmp_path / "new.csv", series, labels)
    outputs = []
    for source in (path, tmp_path / "turned.csv"):
        if source != path:
            rows = read_csv(path)
            names = list(reversed(rows[0]))
            write_csv(source, names, [[row[name] for name in names] for row in rows])
        output = tmp_path / f"{source.stem}.jsonl"
        metrics = run_predict(
            tmp_path / "run",
            f"ckpt={series_checkpoint}",
            f"input={source}",
            f"output={output}",
            "attention=true",
        )
        assert metrics["accuracy"] > 0.8
        outputs.append([json.loads(line) for line in output.open()])
    first, turned = outputs
    assert [row["id"] for row in first] == [f"s{number}" for number in range(20)]
    assert [row["true_label"] for row in first] == labels
    assert [len(row["attention"]) for row in first] == [len(steps) for steps in series]
    for a, b in zip(first, turned, strict=True):
        assert {k: v for k, v in a.items() if k != "file"} == {
            k: v for k, v in b.items() if k != "file"
        }


def test_the_same_series_in_a_wide_table(series_checkpoint, tmp_path, caplog):
    """Channels are matched by name; an index among the columns is not one."""
    series, labels = make_series(12, seed=8)
    long = write_long_table(tmp_path / "long.csv", series, labels)
    names = [f"{channel}_{step}" for step in range(12) for channel in ("noise", "height")]
    rows = []
    for number, steps in enumerate(series):
        cells = [*map(repr, steps[:, ::-1].ravel().tolist())]
        cells += [""] * (len(names) - len(cells))
        rows.append([99 - number, *cells, labels[number], f"s{number}"])
    wide = write_csv(tmp_path / "wide.csv", ["Unnamed: 0", *names, "label", "id"], rows)
    found = []
    for source in (long, wide):
        output = tmp_path / f"{source.stem}_out.csv"
        with caplog.at_level("INFO"):
            run_predict(
                tmp_path / "run", f"ckpt={series_checkpoint}", f"input={source}", f"output={output}"
            )
        found.append([row | {"file": ""} for row in read_csv(output)])
    assert found[0] == found[1]
    assert "wide.csv is read as wide: a series in each row" in caplog.text
    assert "columns left out of wide.csv: 'Unnamed: 0' (an index)" in caplog.text


def test_series_from_an_npz_file(series_checkpoint, tmp_path):
    series, labels = make_series(6, seed=6)
    longest = max(map(len, series))
    padded = np.zeros((6, longest, 2))
    for row, steps in zip(padded, series, strict=True):
        row[: len(steps)] = steps
    padded[2, 1, 0] = np.nan
    np.savez(tmp_path / "new.npz", X=padded, y=labels, lengths=[len(steps) for steps in series])
    run_predict(
        tmp_path / "run",
        f"ckpt={series_checkpoint}",
        f"input={tmp_path}/new.npz",
        f"output={tmp_path}/out.csv",
    )
    rows = read_csv(tmp_path / "out.csv")
    assert len(rows) == 6
    assert [bool(row["error"]) for row in rows] == [False, False, True, False, False, False]
    assert "missing" in rows[2]["error"]


def test_a_model_of_series_refuses_text(series_checkpoint, tmp_path):
    for override in ("text=word", "input=-"):
        with pytest.raises(UserError, match="reads series"):
            run_predict(tmp_path / "run", f"ckpt={series_checkpoint}", override)
