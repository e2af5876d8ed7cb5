import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from attnlstm.data.formats.series import SeriesOptions
from attnlstm.data.sources.series_files import SeriesFiles, SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.data.splits import split_sources
from attnlstm.data.summary import describe_rows
from attnlstm.errors import UserError


def read(path, axes="row,time,channel", **options):
    series = SeriesOptions(axes=axes)
    return list(SeriesFiles([path], key="data.train", series=series, **options))


@pytest.fixture
def save(tmp_path):
    def save(save_with=np.savez, **content):
        path = tmp_path / "walks.npz"
        save_with(path, **content)
        return path

    return save


def message_of(path, **options):
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"data.train: {path} ")
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f4", "int64", "uint8", ">i2"])
@pytest.mark.parametrize("save_with", [np.savez, np.savez_compressed])
def test_rows_of_all_types(save, dtype, save_with):
    series = np.arange(24).reshape(2, 4, 3).astype(dtype)
    rows = read(save(save_with, X=series, y=["a", "b"]))
    assert [(row.number, row.label, row.problem, row.line) for row in rows] == [
        (0, "a", None, None),
        (1, "b", None, None),
    ]
    for row, expected in zip(rows, series, strict=True):
        assert row.value.dtype == np.float64
        np.testing.assert_array_equal(row.value, expected)


def test_one_channel(save):
    rows = read(save(X=np.array([[1, 2], [3, 4]]), y=[0, 1]))
    assert [row.value.tolist() for row in rows] == [[[1], [2]], [[3], [4]]]


def test_the_order_in_memory_does_not_matter(save):
    flat = np.arange(6.0).reshape(2, 3)
    deep = np.arange(24.0).reshape(2, 3, 4)
    for series in (flat.T, deep.T, np.asfortranarray(deep)):
        rows = read(save(X=series, y=np.arange(len(series))))
        for row, expected in zip(rows, series, strict=True):
            np.testing.assert_array_equal(row.value, expected.reshape(len(expected), -1))


def test_lengths_cut_the_padding(save):
    series = np.array([[1.0, 2, 3], [4, np.nan, np.nan], [5, 6, np.inf]])
    rows = read(save(X=series, y=["a", "b", "c"], lengths=[3, 1, 2]))
    assert [row.value.ravel().tolist() for row in rows] == [[1, 2, 3], [4], [5, 6]]
    assert [row.label for row in rows] == ["a", "b", "c"]


def test_bad_rows_have_problems(save):
    series = np.ones((7, 3, 2))
    series[1, 2, 0] = np.nan
    series[3, 0, 1] = -np.inf
    rows = read(save(X=series, y=np.arange(7), lengths=[3, 3, 0, 3, 4, -1, 2]))
    assert [row.problem for row in rows] == [
        None,
        "missing values (NaN)",
        "empty series",
        "infinite values",
        "length beyond the padded length",
        "empty series",
        None,
    ]
    assert [row.number for row in rows] == list(range(7))
    assert all((row.value is None) == (row.problem is not None) for row in rows)


def test_a_tail_of_nan_is_padding(save):
    nan = np.nan
    series = [[1.0, 2.0, 3.0], [1.0, nan, nan], [1.0, nan, 3.0], [nan, 2.0, nan], [nan] * 3]
    path = save(X=series, y=range(5))
    rows = read(path)
    assert [None if row.problem else row.value.ravel().tolist() for row in rows[:2]] == [
        [1, 2, 3],
        [1],
    ]
    assert [row.problem for row in rows[2:]] == ["missing values (NaN)"] * 2 + ["empty series"]
    with_lengths = save(X=series[:2], y=[0, 1], lengths=[3, 2])
    assert [row.problem for row in read(with_lengths)] == [None, "missing values (NaN)"]


def test_padding_is_where_all_channels_are_nan(save):
    series = np.ones((2, 4, 2))
    series[0, 2:] = np.nan
    series[1, 3:, 0] = np.nan
    rows = read(save(X=series, y=["a", "b"]))
    assert rows[0].value.tolist() == [[1, 1], [1, 1]]
    assert rows[1].problem == "missing values (NaN)"


def test_padding_is_counted_in_the_log(save):
    series = np.random.default_rng(0).normal(size=(40, 12, 1))
    series[::2, 9:] = np.nan
    path = save(X=series, y=np.arange(40) % 4)
    config = SeriesFilesSource(train=str(path), name="walks")
    found = split_sources(open_sources(config), config, seed=0)
    lines = describe_rows(found, config)
    assert "walks.npz: NaN at the end of 20 series is padding" in lines
    assert "walks.npz: array of shape [40, 12, 1] read as [row, time, channel]" in lines
    assert "train: series of 9 to 12 steps" in "\n".join(lines)


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        (np.array(["a ", "", "ü"]), ["a", None, "ü"]),
        (np.array([b"a", b"b", "ü".encode()]), ["a", "b", "ü"]),
        (np.array([3, -1, 0]), ["3", "-1", "0"]),
        (np.array([2**63, 0, 1], dtype=np.uint64), [str(2**63), "0", "1"]),
        (np.array([True, False, True]), ["True", "False", "True"]),
        (np.array([1.0, 2.0, np.nan]), ["1", "2", None]),
    ],
)
def test_labels_of_all_types(save, labels, texts):
    rows = read(save(X=np.ones((3, 2)), y=labels))
    assert [row.label for row in rows] == texts
    assert all(row.problem is None for row in rows)


@pytest.mark.parametrize(
    "labels",
    [
        np.array([0.5, np.inf]),
        np.array([1j, 2]),
        np.array(["2024-01-01", "2024-01-02"], dtype="datetime64[ns]"),
        np.array([b"\xff", b"a"]),
        np.array([(1,), (2,)], dtype=[("field", int)]),
    ],
)
def test_values_that_are_not_labels(save, labels):
    path = save(X=np.ones((2, 2)), y=labels)
    assert "has labels y that are neither texts nor numbers" in message_of(path)


def test_without_labels(save):
    path = save(X=np.ones((2, 2)))
    assert "has no labels: save them as the array y" in message_of(path)
    source = SeriesFiles([path], key="input", needs_labels=False)
    assert [row.label for row in source] == [None, None]
    assert source.label_names is None


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"data": np.ones((2, 2)), "y": [0, 1]}, "has no array X, only 'data', 'y': save it with"),
        ({}, "has no array X, only nothing"),
        ({"X": np.ones(3), "y": [0, 1, 2]}, "has X of shape [3]: it must be [row, time, channel]"),
        ({"X": np.ones((1, 1, 1, 1)), "y": [0]}, "has X of shape [1, 1, 1, 1]"),
        ({"X": np.ones((2, 3, 0)), "y": [0, 1]}, "has X of shape [2, 3, 0], without values"),
        ({"X": np.ones((2, 0)), "y": [0, 1]}, "has X of shape [2, 0], without values"),
        ({"X": np.ones((2, 3), dtype=complex), "y": [0, 1]}, "has X of type complex128"),
        ({"X": np.array([["a"], ["b"]]), "y": [0, 1]}, "has X of type <U1: save it as floats"),
        ({"X": np.ones((2, 3)), "y": [0, 1, 2]}, "has y of shape [3]: it must be [2]"),
        ({"X": np.ones((2, 3)), "y": [[[0]], [[1]]]}, "has y of shape [2, 1, 1]: it must be [2]"),
        ({"X": np.ones((2, 3)), "y": [0, 1], "lengths": [1]}, "has lengths of shape [1]"),
        ({"X": np.ones((2, 3)), "y": [0, 1], "lengths": [1.0, 2.0]}, "has lengths of type float"),
    ],
)
def test_arrays_that_are_refused(save, content, part):
    assert part in message_of(save(**content))


class Intruder:
    """Raises where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


@pytest.mark.parametrize("name", ["X", "y", "lengths"])
def test_objects_are_not_unpickled(save, name):
    content = {"X": np.ones((2, 3)), "y": [0, 1], "lengths": [1, 2]}
    content[name] = np.array([Intruder(), Intruder()], dtype=object)
    message = message_of(save(**content))
    assert f"has an array {name} of Python objects" in message
    assert "padded to one array X [row, time, channel], with their lengths" in message


@pytest.mark.parametrize("content", [b"", b"no zip file", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)])
def test_files_of_another_kind(tmp_path, content):
    path = tmp_path / "walks.npz"
    path.write_bytes(content)
    assert "save it" in message_of(path)


def write_zip(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def array_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header_bytes(shape):
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x09\x00", array_bytes(np.ones(3))[:30]])
def test_broken_headers(tmp_path, content):
    path = write_zip(tmp_path / "walks.npz", X=content, y=array_bytes(np.arange(2)))
    assert "has an array X that numpy cannot read" in message_of(path)


@pytest.mark.parametrize("shape", [(2, 10**15), (2, 1)])
def test_an_array_of_another_size_than_it_says(tmp_path, shape):
    content = header_bytes(shape) + bytes(100)
    path = write_zip(tmp_path / "walks.npz", X=content, y=array_bytes(np.arange(2)))
    assert "has an array X of another size than it says" in message_of(path)


def test_a_series_that_is_too_large_to_unpack(tmp_path, monkeypatch):
    monkeypatch.setattr("attnlstm.data.formats.npz_file.MAX_BYTES", 1000)
    sound = write_zip(
        tmp_path / "walks.npz",
        X=array_bytes(np.zeros((100, 100))),
        y=array_bytes(np.arange(100, dtype=np.uint8)),
    )
    assert len(read(sound)) == 100  # only one series at a time must fit
    too_much = write_zip(
        tmp_path / "walks.npz", X=array_bytes(np.zeros((2, 200))), y=array_bytes(np.arange(2))
    )
    assert "to be read at once: save shorter series" in message_of(too_much)


@pytest.mark.parametrize("save_with", [np.savez, np.savez_compressed])
def test_damaged_content(save, save_with):
    path = save(save_with, X=np.random.default_rng(0).normal(size=(20, 50)), y=np.arange(20))
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:10] + content[40:])  # what the directory points to has moved
    assert "is broken or not an .npz file" in message_of(path)
    content[4000:4010] = bytes(10)
    path.write_bytes(content)
    assert "is broken or not an .npz file" in message_of(path)


@given(data=st.data(), shape=array_shapes(min_dims=2, max_dims=3, max_side=5))
def test_what_is_saved_is_read(tmp_path_factory, data, shape):
    dtype = data.draw(st.sampled_from([np.float64, np.float32, np.int32]))
    elements = (
        st.integers(-(2**31), 2**31 - 1)
        if dtype is np.int32
        else st.floats(allow_nan=False, allow_infinity=False, width=np.dtype(dtype).itemsize * 8)
    )
    series = data.draw(arrays(dtype, shape, elements=elements))
    lengths = data.draw(arrays(np.int64, shape[0], elements=st.integers(1, shape[1])))
    labels = data.draw(arrays(np.int64, shape[0]))
    path = tmp_path_factory.mktemp("npz") / "law.npz"
    np.savez(path, X=series, y=labels, lengths=lengths)
    rows = read(path)
    assert [row.label for row in rows] == list(map(str, labels.tolist()))
    for row, padded, length in zip(rows, series, lengths, strict=True):
        np.testing.assert_array_equal(row.value, padded[:length].reshape(length, -1))


def axes_of(path, **options):
    """The order in which an array is read, or the message that asks for it."""
    series = SeriesOptions(**options)
    try:
        return SeriesFiles([path], key="data.train", series=series).axes
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("axes", ["row,time,channel", "row,channel,time"])
def test_the_axes_that_are_given(save, axes):
    series = np.arange(24.0).reshape(2, 4, 3)
    saved = series if axes == "row,time,channel" else np.swapaxes(series, 1, 2)
    for array in (saved, np.asfortranarray(saved)):
        rows = read(save(X=array, y=[0, 1], lengths=[4, 2]), axes=axes)
        assert [row.value.tolist() for row in rows] == [series[0].tolist(), series[1, :2].tolist()]


@pytest.mark.parametrize(
    "shape",
    [
        (3, 6, 100),  # BasicMotions
        (3, 29, 12),  # JapaneseVowels
        (3, 62, 144),  # FaceDetection
        (3, 22, 200),  # InsectWingbeat
        (3, 8, 2),  # PenDigits
        (3, 5, 5),
    ],
)
def test_axes_that_are_not_certain_are_asked_for(save, shape):
    message = axes_of(save(X=np.zeros(shape), y=np.zeros(3, int)))
    _, first, second = shape
    assert (
        f"has X of shape {list(shape)}, which may be [row, time, channel] ({first} steps of "
        f"{second} channels) or [row, channel, time] ({second} steps of {first} channels): say "
        "data.axes=row,time,channel or data.axes=row,channel,time"
    ) in message


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((3, 1, 300), "row,channel,time"),  # otherwise every series would have one step
        ((3, 300, 1), "row,time,channel"),
        ((3, 1, 1), "row,time,channel"),
        ((3, 300), None),
    ],
)
def test_a_single_channel_makes_the_axes_certain(save, shape, axes):
    assert axes_of(save(X=np.zeros(shape), y=np.zeros(3, int))) == axes


@pytest.mark.parametrize(
    ("lengths", "axes"),
    [
        ([6, 2, 3], "row,time,channel"),
        ([100, 2, 3], "row,channel,time"),
        ([50, 7, 3], "row,channel,time"),
    ],
)
def test_lengths_say_which_axis_is_time(save, lengths, axes):
    path = save(X=np.zeros((3, 6, 100)), y=np.zeros(3, int), lengths=lengths)
    assert axes_of(path) == axes


def test_lengths_that_fit_both_axes(save):
    path = save(X=np.zeros((3, 6, 100)), y=np.zeros(3, int), lengths=[5, 2, 3])
    assert "say data.axes=" in axes_of(path)


def test_padding_says_which_axis_is_time(save):
    series = np.zeros((3, 6, 100))
    series[1, :, 70:] = np.nan
    assert axes_of(save(X=series, y=[0, 1, 0])) == "row,channel,time"
    assert axes_of(save(X=np.swapaxes(series, 1, 2), y=[0, 1, 0])) == "row,time,channel"
    series[0, 2, 3] = np.nan  # of the first row with NaN
    assert "say data.axes=" in axes_of(save(X=series, y=[0, 1, 0]))


def test_the_channels_of_the_model_say_which_axis_is_time(save):
    path = save(X=np.zeros((3, 6, 100)), y=np.zeros(3, int))
    assert axes_of(path, num_channels=6) == "row,channel,time"
    assert axes_of(path, num_channels=100) == "row,time,channel"
    assert "say data.axes=" in axes_of(path, num_channels=7)
    square = save(X=np.zeros((3, 6, 6)), y=np.zeros(3, int))
    assert "say data.axes=" in axes_of(square, num_channels=6)


def test_axes_are_for_arrays(tmp_path):
    (tmp_path / "a.csv").write_text("id,x,label\na,1,up\n")
    config = SeriesFilesSource(train=str(tmp_path / "a.csv"), axes="row,time,channel")
    with pytest.raises(UserError, match=r"data\.axes=row,time,channel is for arrays"):
        open_sources(config)
