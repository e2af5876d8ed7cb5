import json

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data.formats import json_tables
from attnlstm.data.formats.opening import open_table
from tests.data.formats.written import COLUMNS, ROWS, found, problem_of, write

FRAME = pd.DataFrame(ROWS, columns=COLUMNS)


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_an_array_is_read_as_the_same_lines_are(tmp_path, monkeypatch, name, chunk, indent):
    monkeypatch.setattr(json_tables, "CHUNK", chunk)
    path = tmp_path / name
    FRAME.to_json(path, orient="records", indent=indent, force_ascii=False)
    table = open_table(path)
    for _ in range(2):
        assert [values for _, _, values in found(table)] == ROWS
    if indent is not None:
        assert [line for _, line, _ in found(table)] == [2, 6, 10, 14, 18]


def test_items_that_are_no_objects(tmp_path):
    content = (
        '\n[{"text": "a", "label": 1}, 3, [1],\n{"text": "b", "text": "c"}, {"text": "\\ud800"}]'
    )
    assert found(open_table(write(tmp_path / "a.json", content))) == [
        (0, 2, ("a", 1)),
        (1, 2, "not a JSON object"),
        (2, 2, "not a JSON object"),
        (3, 3, "key twice in a JSON object"),
        (4, 3, "invalid Unicode"),
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"text": "a"}', "without its end"),
        ('[{"text": "a"},', "without its end"),
        ('[{"text": "a"} {"text"', "broken at line 1"),
        ('[\n{"text": "a"},\n{text: "b"}]', "broken at line 3"),
        ('[{"text": "a"}, ' + "[" * 100_000, "broken at line 1"),
        ('[{"text": "a"}, ' + "9" * 5_000 + "]", "broken at line 1"),
        ('[{"text": "' + "a" * 5_000_000, "broken at line 1"),
        ('[{"text": "a"}]\n[{"text": "b"}]', "goes on after its JSON array (line 2)"),
        ("[]", "is empty"),
        ("[1, 2]", "has no JSON objects with keys"),
    ],
)
def test_broken_arrays(tmp_path, content, words):
    path = write(tmp_path / "a.json", content)
    assert words in problem_of(lambda: found(open_table(path), ["text"]))


@pytest.mark.slow
@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text() | st.none() | st.floats())))
def test_any_objects_come_back(tmp_path_factory, rows):
    rows = [{"a": None, **row} for row in rows] or [{"a": 1}]
    path = tmp_path_factory.mktemp("any") / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    columns = list({name for row in rows for name in row})
    lines = tmp_path_factory.mktemp("any") / "rows.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    both = [
        [(record.values and repr(record.values), record.problem) for record in records]
        for records in (open_table(path).records(columns), open_table(lines).records(columns))
    ]
    assert both[0] == both[1]
