"""Texts and series in Python objects: the same rows in every container, and clear refusals."""

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch

from attnlstm.data.containers import Values, read_values
from attnlstm.data.memory import MemoryRows
from attnlstm.errors import UserError

TEXTS = ["a b", "c", "d e f"]


def texts_of(data: Any, text_column: str | None = None) -> list[str | None]:
    return [row.value for row in MemoryRows(read_values(data, text_column))]


def series_of(data: Any) -> list[np.ndarray]:
    values = read_values(data)
    if values.table is not None:  # the estimator lets scikit-learn check these
        steps = values.steps if values.steps is not None else np.arange(values.table.shape[1])[None]
        values = Values(series=list(np.swapaxes(np.asarray(values.table)[:, steps], 1, 2)))
    return [row.value for row in MemoryRows(values)]


@pytest.mark.parametrize(
    "data",
    [
        TEXTS,
        tuple(TEXTS),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        np.array(TEXTS)[:, None],
        pd.Series(TEXTS, index=[7, 3, 5]),
        pd.Series(TEXTS, dtype="string"),
        pd.Series(TEXTS, dtype="category"),
        pd.DataFrame({"anything": TEXTS}, index=[7, 3, 5]),
        pd.DataFrame({"stars": [1, 2, 3], "Review": TEXTS, "city": ["x", "y", "z"]}),
        datasets.Dataset.from_dict({"text": TEXTS, "label": [0, 1, 0]}),
        datasets.Dataset.from_dict({"text": TEXTS})["text"],
        datasets.Dataset.from_dict({"text": [*TEXTS[::-1], "x"]}).select([2, 1, 0]),
    ],
    ids=lambda data: type(data).__name__,
)
def test_texts_in_every_container(data: Any) -> None:
    assert texts_of(data) == TEXTS


def test_texts_in_polars() -> None:
    polars = pytest.importorskip("polars")
    assert texts_of(polars.Series(TEXTS)) == TEXTS
    assert texts_of(polars.DataFrame({"text": TEXTS, "n": [1, 2, 3]})) == TEXTS


@pytest.mark.parametrize("missing", [None, np.nan, "", "  "])
def test_rows_without_text(missing: Any) -> None:
    for data in (["a", missing], pd.Series(["a", missing]), pd.DataFrame({"text": ["a", missing]})):
        row = list(MemoryRows(read_values(data)))[1]
        assert (row.value, row.problem, row.number) == (None, "no text", 1)


def test_the_text_column() -> None:
    table = pd.DataFrame({"title": ["t", "u"], "body": ["a", "b"], "stars": [1, 2]})
    assert texts_of(table, "title") == ["t", "u"]
    values = read_values(table)  # "body" is a usual name
    assert (values.text_column, values.left_out) == ("body", ("title", "stars"))
    with pytest.raises(UserError, match="text_column=titel: X has no such column, only 'title'"):
        read_values(table, "titel")
    for ambiguous in (
        pd.DataFrame({"one": ["a"], "two": ["b"]}),
        pd.DataFrame({"name": ["a"], "0": [1.0], "1": [2.0]}),
    ):
        with pytest.raises(UserError, match=r"give the column, such as X\['"):
            read_values(ambiguous)


def make_series() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 3, 6))  # [row, channel, time]


MULTIVARIATE: dict[str, Callable[[np.ndarray], Any]] = {
    "array [row, channel, time]": lambda x: x,
    "float32": lambda x: x.astype(np.float32).astype(np.float64),
    "tensor": torch.from_numpy,
    "list of arrays [time, channel]": lambda x: [series.T for series in x],
    "list of tensors": lambda x: [torch.from_numpy(series.T.copy()) for series in x],
    "list of lists": lambda x: [series.T.tolist() for series in x],
    "list of tables": lambda x: [pd.DataFrame(series.T, index=range(9, 15)) for series in x],
    "object array": lambda x: pd.Series([series.T for series in x]).to_numpy(),
    "nested table": lambda x: pd.DataFrame(
        {f"channel {number}": list(x[:, number]) for number in range(3)}, index=[9, 8, 7, 6]
    ),
    "wide table": lambda x: pd.DataFrame(
        {f"{name}_{step}": x[:, c, step] for step in range(6) for c, name in enumerate("xyz")}
    ),
    "data set": lambda x: datasets.Dataset.from_dict(
        {f"channel {number}": x[:, number].tolist() for number in range(3)}
    ),
}


@pytest.mark.parametrize("kind", MULTIVARIATE)
def test_series_in_every_container(kind: str) -> None:
    expected = make_series()
    tolerance = 1e-6 if kind == "float32" else 0
    for row, series in zip(series_of(MULTIVARIATE[kind](expected)), expected, strict=True):
        assert row.dtype == np.float64
        assert row.flags.c_contiguous
        np.testing.assert_allclose(row, series.T, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        torch.from_numpy,
        list,
        lambda x: x.tolist(),
        lambda x: pd.DataFrame(x, index=[4, 2, 9, 7], columns=list("abcdef")),
        lambda x: pd.DataFrame(x, index=[4, 2, 9, 7]).rename_axis("id"),
        lambda x: pd.Series(list(x)),
        lambda x: datasets.Dataset.from_dict({f"t{i}": x[:, i] for i in range(6)}),
    ],
)
def test_a_table_of_numbers_is_series_with_one_channel(convert: Callable) -> None:
    expected = make_series()[:, 0]
    rows = series_of(convert(expected))
    assert [row.shape for row in rows] == [(6, 1)] * 4
    np.testing.assert_array_equal(np.stack(rows)[:, :, 0], expected)


def test_series_in_polars() -> None:
    polars = pytest.importorskip("polars")
    expected = make_series()[:, 0]
    rows = series_of(polars.DataFrame(expected))
    np.testing.assert_array_equal(np.stack(rows)[:, :, 0], expected)
    rows = series_of(polars.DataFrame({"a": expected.tolist(), "b": expected.tolist()}))
    assert [row.shape for row in rows] == [(6, 2)] * 4


def test_unequal_lengths_and_padding() -> None:
    series = [np.ones((length, 2)) for length in (3, 1, 5)]
    assert [row.shape for row in series_of(series)] == [(3, 2), (1, 2), (5, 2)]
    padded = np.full((3, 2, 5), np.nan)
    for row, steps in enumerate(series):
        padded[row, :, : len(steps)] = steps.T
    assert [row.shape for row in series_of(padded)] == [(3, 2), (1, 2), (5, 2)]
    padded[0, 0, 1] = np.nan  # within a series
    assert np.isnan(series_of(padded)[0]).sum() == 1
    assert series_of([np.full((2, 1), np.nan), np.ones((2, 1))])[0].shape == (0, 1)


REFUSED: dict[str, tuple[Any, str]] = {
    "a text": ("a text", r"type str: texts are a list of strings, such as \[text\]"),
    "a dict": ({"text": ["a"]}, "type dict"),
    "a number": (3, "type int"),
    "no rows": ([], "0 rows"),
    "texts and numbers": (["a", 1.0], "item of type str"),
    "numbers": ([1.0, 2.0], "item of type float"),
    "a missing series": ([np.ones(3), None], "item of type NoneType"),
    "one dimension": (np.ones(5), r"float64 with 1 dimension: texts .* \[row, channel, time\]"),
    "four dimensions": (np.ones((2, 2, 2, 2)), "4 dimensions"),
    "a table of texts": (np.array([["a", "b"]]), "texts with 2 dimensions"),
    "dates": (np.array(["2026-01-01"], dtype="M8[D]")[:, None, None], "datetime64"),
    "ragged item": ([[[1, 2], [3]]], "no array, in row 0"),
    "words in a series": ([np.array([["x", "y"]])], "instead of numbers, in row 0"),
    "objects in a series": ([[1, 2], [1, {}]], "not numbers, in row 1"),
    "three dimensions in a list": ([np.ones((2, 2, 2))], "3 dimensions in row 0"),
    "[channel, time]": (
        [np.ones((3, 8)), np.ones((3, 9))],
        r"have 8 to 9 channels and all have 3 steps: .*, give \[array\.T for array in X\]",
    ),
    "dates in a table": (
        pd.DataFrame({"t": pd.to_datetime(["2026-01-01"]), "v": [1.0]}),
        "different kinds .*Timestamp: 't'; numbers: 'v'",
    ),
    "cells of different lengths": (
        pd.DataFrame({"a": [[1, 2]], "b": [[1, 2, 3]]}),
        "different lengths in row 0: its channels 'a', 'b'",
    ),
    "two numbers": (
        pd.DataFrame(np.ones((2, 4)), columns=["a1_1", "a1_2", "a2_1", "a2_2"]),
        r"have two numbers, and either may count the steps: rename",
    ),
    "different steps": (
        pd.DataFrame(np.ones((2, 4)), columns=["x1", "x2", "y1", "y3"]),
        "X has channels of different steps: 'x' .*, 'y'",
    ),
    "a column next to the steps": (
        pd.DataFrame(np.ones((2, 3)), columns=["age", "t1", "t2"]),
        "numbered columns, 't1' to 't2', and others, 'age'",
    ),
    "equal names": (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns 'a'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_give(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(UserError, match=message):
        series_of(data)


def test_axes_that_look_swapped_are_doubted() -> None:
    doubt = read_values(np.zeros((5, 60, 3))).doubt  # [row, time, channel], as Keras has it
    assert doubt is not None
    assert "3 steps of 60 channels" in doubt
    assert "numpy.swapaxes(X, 1, 2)" in doubt
    assert read_values(np.zeros((5, 3, 60))).doubt is None
    assert "array.T" in str(read_values([np.zeros((3, 60))] * 2).doubt)


def test_a_fingerprint_is_of_the_content() -> None:
    def fingerprint(data: Any, labels: list[str]) -> str:
        return MemoryRows(read_values(data), labels).fingerprint()

    series = make_series()
    same = fingerprint(series, ["a"] * 4)
    assert fingerprint([steps.T for steps in series], ["a"] * 4) == same
    changed = series.copy()
    changed[3, 2, 5] += 1e-12
    others = [(changed, ["a"] * 4), (series, ["a"] * 3 + ["b"]), (series[:, :, ::-1], ["a"] * 4)]
    assert len({same, *(fingerprint(*other) for other in others)}) == 4
    assert fingerprint(["a b", "c"], ["x", "y"]) != fingerprint(["a", "b c"], ["x", "y"])
