"""Parquet files and saved folders, sound and broken."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from attnlstm.data.formats import arrow_tables
from attnlstm.data.formats.lines import TOO_LONG
from attnlstm.data.formats.opening import open_table
from attnlstm.errors import UserError
from tests.data.formats.written import DEEP, found, problem_of, write, write_parquet, write_saved


@pytest.fixture
def labelled():
    features = Features(
        {
            "text": Value("string"),
            "label": ClassLabel(names=["neg", "pos"]),
            "series": List(List(Value("float32"))),
        }
    )
    return Dataset.from_dict(
        {"text": ["a", "b", "c", None], "label": [1, 0, -1, None], "series": [[[0.5]]] * 4},
        features=features,
    )


class TestArrow:
    @pytest.fixture(params=["parquet", "saved"])
    def path(self, request, labelled, tmp_path):
        if request.param == "saved":
            labelled.save_to_disk(tmp_path / "rows")
            return tmp_path / "rows"
        labelled.to_parquet(tmp_path / "rows.parquet")
        return tmp_path / "rows.parquet"

    def test_class_numbers_become_names(self, path):
        table = open_table(path)
        assert table.label_names("label") == ["neg", "pos"]
        assert table.label_names("text") is None
        values = [("a", "pos"), ("b", "neg"), ("c", None), (None, None)]
        assert found(table) == [(i, None, value) for i, value in enumerate(values)]
        assert next(table.records(["series"])).values == {"series": [[0.5]]}

    def test_a_saved_selection_of_several_files(self, labelled, tmp_path):
        labelled.select([2, 0, 1]).save_to_disk(tmp_path / "rows", num_shards=2)
        table = open_table(tmp_path / "rows")
        assert [values for _, _, values in found(table)] == [
            ("c", None),
            ("a", "pos"),
            ("b", "neg"),
        ]

    def test_records_are_numbered_across_batches(self, tmp_path):
        rows = [(str(i), "x") for i in range(5000)]
        path = write_parquet(tmp_path / "rows.parquet", rows)
        assert found(open_table(path))[-1] == (4999, None, ("4999", "x"))

    def test_values_that_cannot_be_read(self, tmp_path):
        offsets, content = pa.array([0, 1, 3, 4], pa.int32()), b"a\xe9\xe9b"
        buffers = [None, offsets.buffers()[1], pa.py_buffer(content)]
        texts = pa.StringArray.from_buffers(3, buffers[1], buffers[2])
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"text": texts, "label": [1, 2, 3]}), path)
        values = [("a", 1), "not UTF-8", ("b", 3)]
        assert found(open_table(path)) == [(i, None, value) for i, value in enumerate(values)]

    def test_numbers_beyond_the_declared_names(self, labelled, tmp_path):
        metadata = labelled.data.schema.metadata or labelled.with_format("arrow")[:].schema.metadata
        schema = pa.schema([("text", pa.string()), ("label", pa.int64())], metadata=metadata)
        table = pa.table({"text": ["a", "b", "c"], "label": [0, 2, -2]}, schema=schema)
        pq.write_table(table, tmp_path / "rows.parquet")
        undeclared = "a label number without a declared name"
        assert [v for *_, v in found(open_table(tmp_path / "rows.parquet"))] == [
            ("a", "neg"),
            undeclared,
            undeclared,
        ]

    def test_a_declaration_that_no_longer_fits_the_column(self, labelled, tmp_path):
        metadata = labelled.with_format("arrow")[:].schema.metadata
        table = pa.table({"text": ["a"], "label": ["pos"]}).replace_schema_metadata(metadata)
        pq.write_table(table, tmp_path / "rows.parquet")
        assert open_table(tmp_path / "rows.parquet").label_names("label") is None
        assert found(open_table(tmp_path / "rows.parquet")) == [(0, None, ("a", "pos"))]

    def test_column_names_with_dots(self, tmp_path):
        table = pa.table({"a.b": ["x"], "a": [{"b": "y"}]})
        pq.write_table(table, tmp_path / "rows.parquet")
        assert found(open_table(tmp_path / "rows.parquet"), ["a.b"]) == [(0, None, ("x",))]

    @pytest.mark.parametrize("size", [0.5, 0.1])
    def test_broken_files(self, tmp_path, size):
        rows = [(str(i), "x") for i in range(1000)]
        path = write_parquet(tmp_path / "rows.parquet", rows)
        whole = path.read_bytes()
        write(path, whole[: int(len(whole) * size)])
        assert f"{path} cannot be read (" in problem_of(open_table(path).column_names)
        folder = write_saved(tmp_path / "rows", rows)
        (arrow,) = folder.glob("*.arrow")
        whole = arrow.read_bytes()
        write(arrow, whole[: int(len(whole) * size)])
        message = problem_of(lambda: found(open_table(folder)))
        assert f"{arrow} cannot be read (" in message

    def test_duplicated_columns(self, tmp_path):
        table = pa.table([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
        pq.write_table(table, tmp_path / "rows.parquet")
        message = problem_of(open_table(tmp_path / "rows.parquet").column_names)
        assert "has several columns named 'a'" in message

    def test_a_folder_of_splits(self, labelled, tmp_path):
        DatasetDict(train=labelled, test=labelled).save_to_disk(tmp_path / "rows")
        message = problem_of(open_table, tmp_path / "rows")
        assert f"choose one of {tmp_path / 'rows/train'}, {tmp_path / 'rows/test'}" in message

    def test_folders_that_were_not_saved(self, tmp_path):
        assert "is a folder without the state.json" in problem_of(open_table, tmp_path)
        write(tmp_path / "state.json", "{")
        assert "state.json cannot be read" in problem_of(open_table, tmp_path)
        write(tmp_path / "state.json", "{}")
        assert "state.json names no data file" in problem_of(open_table, tmp_path)
        write(tmp_path / "state.json", '{"_data_files": [{"filename": "gone.arrow"}]}')
        assert "gone.arrow cannot be read" in problem_of(open_table(tmp_path).column_names)


@pytest.mark.parametrize("name", ["../other/data.arrow", "/etc/passwd", "..", "", "a\\b"])
def test_a_saved_folder_may_only_name_its_own_files(tmp_path, name):
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(UserError, match="names no data file of this folder"):
        open_table(tmp_path)


@pytest.mark.parametrize("state", ["[]", "{", '{"_data_files": 3}', '{"_data_files": [3]}', DEEP])
def test_a_saved_folder_with_a_broken_state(tmp_path, state):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(UserError, match=r"state\.json"):
        open_table(tmp_path)


def test_a_stream_whose_texts_lie_beyond_its_end(tmp_path):
    offsets = np.array([0, 3, 7], dtype=np.int32).tobytes()
    batch = pa.record_batch([pa.array(["abc", "defg"])], ["text"])
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    assert stream.getvalue().count(offsets) == 1
    far = np.array([0, 3, 10**9], dtype=np.int32).tobytes()
    write(tmp_path / "data.arrow", stream.getvalue().replace(offsets, far))
    write(tmp_path / "state.json", '{"_data_files": [{"filename": "data.arrow"}]}')
    with pytest.raises(UserError, match="cannot be read"):
        list(open_table(tmp_path).records(["text"]))


@pytest.mark.parametrize(
    "declaration",
    [b"[", b"[]", b"{}", b'{"info": 3}', DEEP.encode()]
    + [
        json.dumps({"info": {"features": {"label": feature}}}).encode()
        for feature in (3, {"_type": "ClassLabel"}, {"_type": "ClassLabel", "names": [1, 2]})
    ],
)
def test_a_declaration_that_makes_no_sense_declares_nothing(tmp_path, declaration):
    table = pa.table({"label": [0, 1]}).replace_schema_metadata({b"huggingface": declaration})
    pq.write_table(table, tmp_path / "a.parquet")
    found = open_table(tmp_path / "a.parquet")
    assert found.label_names("label") is None
    assert [record.values for record in found.records(["label"])] == [{"label": 0}, {"label": 1}]


@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_that_would_fill_the_memory(tmp_path, monkeypatch, use_dictionary, version):
    monkeypatch.setattr(arrow_tables, "LARGEST_BATCH", 1 << 20)
    monkeypatch.setattr(arrow_tables, "LARGEST_PAGE", 1 << 20)
    texts = pa.table({"text": ["b"] * 9 + ["a" * (3 << 20)] * 9, "label": ["x"] * 18})
    pq.write_table(
        texts,
        tmp_path / "a.parquet",
        compression="zstd",
        use_dictionary=use_dictionary,
        data_page_version=version,
        write_batch_size=9,
    )
    table = open_table(tmp_path / "a.parquet")
    size = 3 if use_dictionary else 27
    with pytest.raises(UserError, match=f"has {size} MiB in a page of column 'text': save short"):
        list(table.records(["text"]))
    assert [record.values for record in table.records(["label"])] == [{"label": "x"}] * 18


def test_a_long_value_in_many_rows_takes_the_memory_of_a_few(tmp_path, monkeypatch):
    monkeypatch.setattr(arrow_tables, "LARGEST_BATCH", 1 << 20)
    size = 512 << 10
    pq.write_table(pa.table({"text": ["a" * size] * 64}), tmp_path / "a.parquet")
    default = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(default)
    pa.set_memory_pool(pool)
    try:
        records = list(open_table(tmp_path / "a.parquet").records(["text"]))
    finally:
        pa.set_memory_pool(default)
    assert {len(record.values["text"]) for record in records} == {size}
    assert size < pool.max_memory() < 10 * size


LONG = "a" * 2_000


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["b", LONG, None, LONG]),
        pa.array(["b", LONG, None, LONG]).cast(pa.string_view()),
        pa.array([b"b", LONG.encode(), None, LONG.encode()]),
        pa.array(["b", LONG, None, LONG]).dictionary_encode(),
        pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4], ["b", LONG * 9, None, LONG * 9]),
        pa.array([["b"], ["a"] * 9_000, None, [LONG] * 9]),
        pa.array([["b"], ["a"] * 9_000, None, [LONG] * 9]).cast(
            pa.list_(pa.dictionary(pa.int8(), pa.string()))
        ),
        pa.array([{"x": "b"}, {"x": LONG * 9}, {"x": None}, {"x": LONG * 9}]),
        pa.array(
            [[("x", "b")], [("x", LONG * 9)], None, [("x", LONG * 9)]],
            pa.map_(pa.string(), pa.string()),
        ),
    ],
    ids=lambda column: str(column.type),
)
def test_values_too_long_for_python(tmp_path, monkeypatch, column):
    monkeypatch.setattr(arrow_tables, "LARGEST_BATCH", 3_000)
    monkeypatch.setattr(arrow_tables, "LARGEST_TEXT", 1_000)
    table = pa.table({"text": column, "n": range(4)})
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    write(tmp_path / "data.arrow", stream.getvalue())
    write(tmp_path / "state.json", '{"_data_files": [{"filename": "data.arrow"}]}')
    records = list(open_table(tmp_path).records(["text"]))
    assert [record.problem for record in records] == [None, TOO_LONG, None, TOO_LONG]
    assert "b" in str(records[0].values)


def test_many_row_groups_are_read_together(tmp_path):
    with pq.ParquetWriter(tmp_path / "a.parquet", pa.schema({"text": pa.string()})) as writer:
        for number in range(300):
            writer.write_table(pa.table({"text": [str(number)]}))
    records = open_table(tmp_path / "a.parquet").records(["text"])
    assert [record.values["text"] for record in records] == list(map(str, range(300)))
