from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest

from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.data.splits import split_sources
from attnlstm.data.summary import describe_rows
from attnlstm.data.windows import Windows
from attnlstm.errors import UserError
from tests.config.composed import CONF


class Streams(RowSource):
    """Series whose values are their step numbers, with a label for each step."""

    name = "streams"

    def __init__(self, labels):
        self.labels = labels

    def __iter__(self):
        for number, labels in enumerate(self.labels):
            value = np.arange(float(len(labels)))[:, None]
            yield Row("streams.csv", number, value, step_labels=list(labels), name=f"s{number}")

    def fingerprint(self):
        return repr(self.labels)


def cut(labels, size, stride):
    return Windows(Streams(labels), size, stride)


@pytest.mark.parametrize(("size", "stride"), [(4, 4), (4, 2), (4, 1), (3, 5), (7, 7)])
def test_windows_are_those_of_numpy(size, stride):
    steps = np.arange(20.0)
    expected = np.lib.stride_tricks.sliding_window_view(steps, size)[::stride]
    rows = list(cut(["a" * 20], size, stride))
    np.testing.assert_array_equal([row.value[:, 0] for row in rows], expected)
    assert [row.step for row in rows] == expected[:, 0].tolist()
    assert [row.number for row in rows] == list(range(len(rows)))
    assert {(row.file, row.name) for row in rows} == {("streams.csv", "s0")}


def test_what_is_in_no_window_is_counted():
    for size, stride in ((4, 4), (4, 3), (3, 5), (30, 4)):
        windows = cut(["a" * 22], size, stride)
        seen = set(np.concatenate([row.value[:, 0] for row in windows]))
        assert f"{22 - len(seen)} steps in no window" in windows.notes[0]


def test_the_label_is_the_most_frequent_one():
    windows = cut(["aaab", "abbb", "abab", "baba", "bbbb"], 4, 4)
    assert [row.label for row in windows] == ["a", "b", "a", "b", "b"]
    assert windows.notes == [
        "streams: 5 series cut into 5 windows of 4 steps, every 4 steps; 0 steps in no window",
        "streams: 4 windows with several labels, labelled by the most frequent; 2 of them tied, "
        "labelled by the first",
    ]


def test_steps_without_a_label():
    rows = list(cut([[None, None, "a"], ["a", None, "a"]], 3, 3))
    assert [row.label for row in rows] == [None, "a"]


def test_a_short_series_stays_whole():
    windows = cut(["ab", "aaaaa"], 4, 4)
    assert [len(row.value) for row in windows] == [2, 4]
    assert "streams: 1 series shorter than a window, kept whole" in windows.notes


def test_the_windows_of_a_series_are_a_group():
    groups = [row.group for row in cut(["aaaa", "aaaa"], 2, 1)]
    assert len(set(groups)) == 2
    assert groups == [groups[0]] * 3 + [groups[-1]] * 3


def write_streams(path, num_users=6, num_steps=100, **columns):
    generator = np.random.default_rng(0)
    frames = []
    for user in range(num_users):
        labels = np.repeat(["sit", "walk"], [37 + user, num_steps - 37 - user])
        frame = {"user": f"u{user}", "t": range(num_steps), "x": generator.normal(size=num_steps)}
        frames.append(pd.DataFrame(frame | {"y": generator.normal(size=num_steps)}))
        frames[-1]["activity"] = labels
        for name, values in columns.items():
            frames[-1][name] = values[user]
    pd.concat(frames).to_csv(path, index=False)
    return path


def test_streams_of_users_in_a_long_table(tmp_path):
    path = write_streams(tmp_path / "streams.csv")
    source = SeriesFilesSource(
        train=str(path), label_column="activity", group_column="user", window=20, stride=10
    )
    rows = list(open_sources(source)["train"])
    table = pd.read_csv(path, float_precision="round_trip")
    expected = [
        (user, start, frame["activity"].iloc[start : start + 20], frame[["x", "y"]])
        for user, frame in table.groupby("user")
        for start in range(0, 81, 10)
    ]
    assert len(rows) == len(expected)
    for row, (user, start, labels, values) in zip(rows, expected, strict=True):
        assert (row.name, row.group, row.step) == (user, user, start)
        assert row.label == Counter(labels).most_common(1)[0][0]
        np.testing.assert_array_equal(row.value, values.iloc[start : start + 20])


def test_a_stream_without_an_id_is_asked_for(tmp_path):
    path = write_streams(tmp_path / "streams.csv", num_users=1)
    pd.read_csv(path).drop(columns="user").to_csv(path, index=False)
    options = {"train": str(path), "label_column": "activity", "window": 20}
    with pytest.raises(UserError, match=r"if the file is one series, data\.axes=time,channel"):
        open_sources(SeriesFilesSource(**options))
    options |= {"axes": "time,channel", "channel_columns": ["x", "y"]}
    rows = list(open_sources(SeriesFilesSource(**options))["train"])
    assert [row.step for row in rows] == [0, 20, 40, 60, 80]
    assert {row.name for row in rows} == {None}


def test_labels_that_change_need_windows(tmp_path):
    path = write_streams(tmp_path / "streams.csv")
    source = SeriesFilesSource(train=str(path), label_column="activity", id_column="user")
    with pytest.raises(UserError, match=r"several labels in one series.*data\.window=128 cuts"):
        split_sources(open_sources(source), source, seed=0)


def test_a_gap_spoils_its_windows_only(tmp_path):
    path = write_streams(tmp_path / "streams.csv", num_users=4)
    table = pd.read_csv(path)
    table.loc[25, "x"] = np.nan
    table.to_csv(path, index=False)
    source = SeriesFilesSource(
        train=str(path),
        label_column="activity",
        group_column="user",
        window=20,
        on_bad_row="drop",
    )
    found = split_sources(open_sources(source), source, seed=0)
    assert "dropped 1 bad row:" in found.warnings
    assert "id u0, step 20" in found.warnings[-1]


def test_the_windows_of_a_user_never_straddle_parts_or_folds(tmp_path):
    sessions = [f"s{user // 2}" for user in range(12)]
    path = write_streams(tmp_path / "streams.csv", num_users=12, session=sessions)
    for validation in ("folds", "holdout"):
        source = SeriesFilesSource(
            train=str(path),
            id_column="user",
            label_column="activity",
            group_column="session",
            window=20,
            stride=5,
        )
        found = split_sources(open_sources(source), source, seed=0, validation=validation)
        groups = {name: {row.group for row in part} for name, part in found.parts.items()}
        assert set.union(*groups.values()) == set(sessions)
        assert sum(map(len, groups.values())) == 6
        if validation == "folds":
            by_fold: dict[int, set[str]] = defaultdict(set)
            for row, fold in zip(found.parts["train"], found.folds, strict=True):
                by_fold[int(fold)].add(row.group)
            assert sum(map(len, by_fold.values())) == len(groups["train"]) == len(by_fold)
    lines = "\n".join(describe_rows(found, source))
    assert "12 series cut into 204 windows of 20 steps, every 5 steps" in lines


def test_without_a_group_column_the_windows_of_a_series_stay_together(tmp_path):
    path = write_streams(tmp_path / "streams.csv", num_users=8)
    source = SeriesFilesSource(
        train=str(path), id_column="user", label_column="activity", window=20, stride=5
    )
    found = split_sources(open_sources(source), source, seed=0)
    names = [{row.name for row in part} for part in found.parts.values()]
    assert sum(map(len, names)) == 8


def test_a_stride_without_windows():
    with pytest.raises(UserError, match=r"data\.stride=64 is between windows"):
        SeriesFilesSource(stride=64).check()


def test_the_keys_on_the_command_line():
    overrides = [
        *("data=series_files", "data.window=128", "data.stride=64", "data.group_column=user"),
        *("data.axes=row,channel,time", "data.missing=mask", r"data.label_from=name:(.+)_\d{1,2}"),
    ]
    data = compose_config(CONF, "train", TrainConfig, overrides).data
    assert (data.window, data.stride, data.group_column) == (128, 64, "user")
    assert data.axes == "row,channel,time"
    assert data.label_from == r"name:(.+)_\d{1,2}"
