import numpy as np
import pytest

from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.errors import UserError

WALKS = np.random.default_rng(0).normal(size=(6, 5, 3))  # [row, time, channel]
LABELS = np.array(["a", "b"] * 3)


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        for name, array in arrays.items():
            np.save(tmp_path / f"{name}.npy", array)
        return tmp_path

    return save


def read(**options):
    source = SeriesFilesSource(**{key: str(value) for key, value in options.items()})
    return {part: list(rows) for part, rows in open_sources(source).items()}


def message_of(**options):
    with pytest.raises(UserError) as caught:
        read(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("axes", ["row,time,channel", "row,channel,time"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "float32", ">i4"])
def test_series_in_either_order(save, axes, order, dtype):
    saved = WALKS if axes == "row,time,channel" else np.swapaxes(WALKS, 1, 2)
    saved = np.array(saved * 100, dtype=dtype, order=order)
    folder = save(X=saved, y=LABELS)
    rows = read(train=folder / "X.npy", axes=axes)["train"]
    expected = (WALKS * 100).astype(dtype).astype(np.float64)
    assert [row.label for row in rows] == LABELS.tolist()
    for row, series in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(row.value, series)


def test_the_order_is_asked_for(save):
    folder = save(X=WALKS, y=LABELS)
    message = message_of(train=folder / "X.npy")
    assert "may be [row, time, channel] (5 steps of 3 channels) or [row, channel, time]" in message
    assert "say data.axes=row,time,channel or data.axes=row,channel,time" in message


def test_the_test_file_is_read_in_the_order_of_the_training_file(save):
    padded = np.swapaxes(WALKS, 1, 2).copy()
    padded[0, :, 4] = np.nan  # NaN at the end of time tells the order
    folder = save(X_train=padded, y_train=LABELS, X_test=padded[1:], y_test=LABELS[1:])
    parts = read(train=folder / "X_train.npy", test=folder / "X_test.npy")
    assert [len(row.value) for row in parts["train"]] == [4, 5, 5, 5, 5, 5]
    np.testing.assert_array_equal(parts["test"][0].value, WALKS[1])


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("X", "y"),
        ("X", "labels"),
        ("X_train", "y_train"),
        ("x_train", "y_train"),
        ("trainX", "trainX_y"),
        ("train_X", "train_y"),
        ("Box", "Box_labels"),
    ],
)
def test_labels_in_the_same_folder(save, name, labels):
    folder = save(**{name: WALKS[:, :, :1], labels: LABELS})
    assert [row.label for row in read(train=folder / f"{name}.npy")["train"]] == LABELS.tolist()


def test_labels_that_are_named(save):
    flat = WALKS[:, :, 0]
    folder = save(a=flat, b=LABELS, c=flat[:2], d=np.array(["b", "b"]))
    parts = read(
        train=folder / "a.npy",
        labels=folder / "b.npy",
        test=folder / "c.npy",
        test_labels=folder / "d.npy",
    )
    assert [row.label for row in parts["train"]] == LABELS.tolist()
    assert [row.label for row in parts["test"]] == ["b", "b"]


def test_labels_that_are_missing_or_unclear(save):
    folder = save(X=WALKS[:, :, 0])
    message = message_of(train=folder / "X.npy")
    assert (
        "has no label file in its folder (y.npy, Y.npy, labels.npy): name it with data.labels"
        in (message)
    )
    message = message_of(train=folder / "X.npy", test=folder / "X.npy", labels=folder / "none.npy")
    assert message.startswith(f"data.labels={folder}/none.npy does not exist")
    save(y=LABELS, labels=LABELS)
    assert "may be in several files of its folder ('y.npy', 'labels.npy'): choose one" in (
        message_of(train=folder / "X.npy")
    )


def test_rows_without_labels_can_be_predicted(save):
    folder = save(new=WALKS[:, :, 0])
    rows = SeriesFilesSource().open_files([folder / "new.npy"], "input", needs_labels=False)
    assert [row.label for row in rows] == [None] * 6


def test_one_series_with_a_label_for_each_step(save):
    stream = WALKS.reshape(30, 3)
    labels = np.repeat(["sit", "walk"], 15)
    folder = save(X=stream, y=labels)
    source = SeriesFilesSource(
        train=str(folder / "X.npy"), axes="time,channel", window=10, stride=10
    )
    rows = list(open_sources(source)["train"])
    assert [row.label for row in rows] == ["sit", "sit", "walk"]  # the second one is tied
    np.testing.assert_array_equal(rows[1].value, stream[10:20])


def test_labels_of_steps_need_windows(save):
    folder = save(X=WALKS[:, :, 0], y=np.array([LABELS[:5]] * 6))
    assert "a label for each step: cut the series into windows with data.window" in (
        message_of(train=folder / "X.npy")
    )
    source = SeriesFilesSource(train=str(folder / "X.npy"), window=2)
    labels = [row.label for row in open_sources(source)["train"]]
    assert labels == ["a", "a"] * 6


def test_the_model_tells_the_order(save):
    folder = save(new=np.swapaxes(WALKS, 1, 2))
    source = SeriesFilesSource().for_model(3, None)
    rows = list(source.open_files([folder / "new.npy"], "input", needs_labels=False))
    np.testing.assert_array_equal(rows[0].value, WALKS[0])
    with pytest.raises(UserError, match="may be"):
        SeriesFilesSource().for_model(7, None).open_files([folder / "new.npy"], "input", False)


class Intruder:
    """Raises where it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


@pytest.mark.parametrize("name", ["X", "y"])
def test_objects_are_not_unpickled(save, name):
    arrays = {"X": WALKS[:, :, 0], "y": LABELS}
    arrays[name] = np.array([Intruder()] * 6, dtype=object)
    folder = save(**arrays)
    assert "is an array of Python objects, which could run code" in (
        message_of(train=folder / "X.npy")
    )


def test_the_file_is_not_read_into_memory(save, monkeypatch):
    folder = save(X=WALKS[:, :, 0], y=LABELS)
    opened = []
    load = np.load
    monkeypatch.setattr(
        np, "load", lambda *args, **options: opened.append(options) or load(*args, **options)
    )
    read(train=folder / "X.npy")
    assert opened
    assert all(options == {"mmap_mode": "r", "allow_pickle": False} for options in opened)


def test_the_fingerprint_is_of_content_labels_and_order(save):
    def fingerprint(**options):
        source = SeriesFilesSource(train=str(folder / "X.npy"), **options)
        return open_sources(source)["train"].fingerprint()

    folder = save(X=WALKS, y=LABELS, other=LABELS[::-1])
    found = {
        fingerprint(axes="row,time,channel"),
        fingerprint(axes="row,channel,time"),
        fingerprint(axes="row,time,channel", labels=str(folder / "other.npy")),
    }
    save(X=WALKS + 1)
    assert len({*found, fingerprint(axes="row,time,channel")}) == 4
