import pytest

from attnlstm.data.sources.series_files import SeriesFiles
from attnlstm.errors import UserError


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "walks.csv"
        path.write_text(content)
        return path

    return write


def read(path, **options):
    return list(SeriesFiles([path], key="data.train", **options))


def message_of(path, **options):
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_columns_by_name(write):
    path = write("who,when,x,y,z,what\na,5,1,2,3,up\na,6,4,5,6,up\n")
    options = {"id_column": "who", "time_column": "when", "label_column": "what"}
    (row,) = read(path, **options, channel_columns=["z", "x"])
    assert row.value.tolist() == [[3, 1], [6, 4]]
    (row,) = read(path, **options)
    assert row.value.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_column_with_a_usual_name_can_be_a_channel(write):
    path = write("case,step,x,Class\na,5,1,up\na,5,2,up\n")
    (row,) = read(path, channel_columns=["step", "x"])
    assert (row.value.tolist(), row.label) == ([[5, 1], [5, 2]], "up")


def test_y_is_a_channel_unless_it_is_named(write):
    path = write("id,x,y\na,1,2\n")
    (row,) = read(path, needs_labels=False)
    assert (row.value.tolist(), row.label) == ([[1, 2]], None)
    (row,) = read(path, label_column="y")
    assert (row.value.tolist(), row.label) == ([[1]], "2")


def test_a_label_column_may_be_missing_where_labels_are_not_needed(write):
    path = write("id,x\na,1\n")
    assert "no column with a usual name for the label" in message_of(path)
    assert "no column 'kind' (data.label_column)" in message_of(path, label_column="kind")
    for label_column in (None, "kind"):
        (row,) = read(path, label_column=label_column, needs_labels=False)
        assert (row.label, row.problem) == (None, None)
    (row,) = read(write("id,x,kind\na,1,2\n"), label_column="kind", needs_labels=False)
    assert (row.label, row.value.tolist()) == ("2", [[1]])


@pytest.mark.parametrize(
    ("header", "options", "parts"),
    [
        (
            "who,x,label",
            {},
            ["usual name for the id (id, series_id", "data.id_column", "'who', 'x'"],
        ),
        ("id,Case,x,label", {}, ["several columns that may be the id ('id', 'Case')"]),
        ("id,t,date,label", {}, ["may be the time ('t', 'date')", "data.time_column"]),
        ("id,x,target,label", {}, ["may be the label ('target', 'label')", "data.label_column"]),
        ("id,x,label", {"id_column": "idd"}, ["'idd' (data.id_column)", "mean 'id'?"]),
        ("id,x,label", {"time_column": "y"}, ["'y' (data.time_column)", "did you mean"]),
        ("id,x,label", {"channel_columns": ["X"]}, ["'X' (data.channel_columns)"]),
        (
            "id,x,label",
            {"id_column": "x", "channel_columns": ["x"]},
            ["'x' is named twice, by data.id_column and data.channel_columns"],
        ),
        (
            "id,x,label",
            {"channel_columns": ["x", "x"]},
            ["'x' is named twice, by data.channel_columns: name it once"],
        ),
        ("id,time,label", {}, ["has no channels"]),
    ],
)
def test_columns_that_are_refused(write, header, options, parts):
    width = header.count(",") + 1
    path = write(f"{header}\n{','.join(['1'] * width)}\n")
    message = message_of(path, **options)
    assert message.startswith(f"data.train: {path} ") or "named twice" in message
    for part in parts:
        assert part in message


def test_a_column_of_texts_is_no_channel(write):
    path = write("id,x,place,label\na,1,north,up\nb,2,south,up\n")
    assert "a column 'place' without numbers: name the channels with data.channel_columns" in (
        message_of(path)
    )
    rows = read(path, channel_columns=["x"])
    assert [row.problem for row in rows] == [None, None]
    rows = read(path, channel_columns=["x", "place"])  # as the user says
    assert {row.problem for row in rows} == {"value that is not a number"}
