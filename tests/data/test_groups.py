import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.config.schema import SOURCES
from attnlstm.data.groups import choose_groups, connect, deal_groups
from attnlstm.data.rows import Row, RowSource
from attnlstm.data.sources.hub_text import HubText
from attnlstm.data.sources.series_files import SeriesFilesSource
from attnlstm.data.sources.source import open_sources
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.data.splits import split_sources
from attnlstm.errors import UserError

NUMBERS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), min_size=1, max_size=30)


class Grouped(RowSource):
    name = "grouped.csv"

    def __init__(self, rows):
        self.rows = rows  # (text, label, group)

    def __iter__(self):
        for number, (text, label, group) in enumerate(self.rows):
            yield Row(self.name, number, text, label, group=group)

    def fingerprint(self):
        return repr(self.rows)


@given(NUMBERS)
def test_connected_rows_have_the_same_number(pairs):
    contents, groups = np.array(pairs).T
    numbers = connect(contents, groups)
    reached = np.eye(len(pairs), dtype=int)
    linked = (contents[:, None] == contents) | (groups[:, None] == groups)
    for _ in pairs:  # a path has at most as many edges as there are rows
        reached = ((reached @ linked) > 0).astype(int)
    np.testing.assert_array_equal(numbers[:, None] == numbers, reached > 0)
    first = [numbers.tolist().index(number) for number in range(numbers.max() + 1)]
    assert first == sorted(first)


def make_rows(num_groups=40, seed=0):
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 12, num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)
    share = generator.random(num_groups)[groups]  # groups differ in their classes
    return (generator.random(len(groups)) < share).astype(int), groups


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.5])
def test_about_a_fraction_of_each_class_is_chosen(fraction):
    for seed in range(5):
        labels, groups = make_rows(seed=seed)
        chosen = choose_groups(labels, groups, fraction, seed)
        for label in (0, 1):
            assert abs(chosen[labels == label].mean() - fraction) < 0.06
        assert not set(groups[chosen]) & set(groups[~chosen])
        np.testing.assert_array_equal(chosen, choose_groups(labels, groups, fraction, seed))
    others = [choose_groups(labels, groups, fraction, seed) for seed in range(5)]
    assert len({choice.tobytes() for choice in others}) > 1


def test_large_groups():
    labels, groups = np.tile([0, 1], 15), np.repeat([0, 1, 2], 10)
    for seed in range(5):
        chosen = choose_groups(labels, groups, 0.1, seed)
        assert chosen.sum() == 10  # one of three, though a tenth was asked for


def test_a_class_of_one_group_stays_in_training():
    labels, groups = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    for seed in range(5):
        assert not choose_groups(labels, groups, 0.5, seed)[:2].any()
    assert not choose_groups(np.array([0, 1]), np.array([0, 1]), 0.5, 0).any()


@pytest.mark.parametrize("num_folds", [2, 5, 10])
def test_folds_of_groups(num_folds):
    labels, groups = make_rows()
    folds = deal_groups(labels, groups, num_folds, seed=0)
    assert set(folds) == set(range(num_folds))
    for group in np.unique(groups):
        assert len(set(folds[groups == group])) == 1
    sizes = np.bincount(folds)
    assert sizes.max() < 2 * sizes.min()


def test_fewer_groups_or_rows_than_folds():
    assert sorted(deal_groups(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 5, 0)) == [0, 0, 1, 1]
    assert deal_groups(np.arange(4), np.arange(4), 3, 0).tolist() == [0, 1, 2, 0]


def texts_of_users(num_users=12, num_texts=8):
    return [
        (f"user {user} writes text {number}", "ab"[(user + number) % 2], f"u{user}")
        for user in range(num_users)
        for number in range(num_texts)
    ]


TEXTS = SOURCES["text_files"](name="texts", group_column="user")


@pytest.mark.parametrize("validation", ["folds", "holdout"])
def test_groups_do_not_straddle_parts(validation):
    rows = texts_of_users()
    rows.append(("user 3 writes text 1", "b", "u7"))  # so that these two users stay together
    found = split_sources({"train": Grouped(rows)}, TEXTS, seed=1, validation=validation)
    place = {}
    for name, part in found.parts.items():
        folds = found.folds if name == "train" and found.folds is not None else [0] * len(part)
        for row, fold in zip(part, folds, strict=True):
            place.setdefault(row.group, set()).add((name, int(fold)))
    assert all(len(places) == 1 for places in place.values())
    assert place["u3"] == place["u7"]
    assert len(place) == 12
    assert abs(len(found.parts["test"]) / len(rows) - 0.2) < 0.1


def test_rows_without_a_group_are_bad():
    rows = [*texts_of_users(), ("no user", "a", None)]
    with pytest.raises(UserError, match=r"no group in grouped\.csv, 1 row: row 96"):
        split_sources({"train": Grouped(rows)}, TEXTS, seed=0)


def test_too_few_groups():
    rows = [(f"text {number}", "ab"[number % 2], "u0") for number in range(20)]
    with pytest.raises(UserError, match=r"its 1 group of rows that stay .* data\.test=FILE"):
        split_sources({"train": Grouped(rows)}, TEXTS, seed=0)
    test = Grouped([("another", "a", None)])
    sources = {"train": Grouped(rows), "test": test}
    with pytest.raises(UserError, match="needs two groups of rows"):
        split_sources(sources, TEXTS, seed=0, validation="folds")


def test_groups_in_several_files_give_a_warning():
    rows = texts_of_users()
    sources = {"train": Grouped(rows), "test": Grouped(rows[:9])}
    warnings = split_sources(sources, TEXTS, seed=0).warnings
    assert (
        "2 of 2 groups (user) of grouped.csv are also in grouped.csv: they make the test rows look "
        "easier"
    ) in warnings


def test_the_column_of_texts(tmp_path):
    path = tmp_path / "texts.csv"
    lines = [f"{text},{label},{user}\n" for text, label, user in texts_of_users()]
    path.write_text("text,label,user\n" + "".join(lines))
    source = TextFilesSource(train=str(path), group_column="user")
    rows = open_sources(source)["train"]
    assert [row.group for row in rows] == [user for *_, user in texts_of_users()]
    assert rows.columns_used["group"] == "user"
    with pytest.raises(UserError, match=r"no column 'usr' \(data\.group_column\)"):
        open_sources(TextFilesSource(train=str(path), group_column="usr"))
    new = tmp_path / "new.csv"
    new.write_text("text,label\nhello,a\n")
    assert [row.group for row in source.open_files([new], "data.test")] == [None]


def test_the_column_of_texts_from_the_hub():
    rows = texts_of_users(2, 2)
    columns = dict(zip(("text", "label", "user"), map(list, zip(*rows, strict=True)), strict=True))
    source = HubText(Dataset.from_dict(columns), "hub", group_column="user")
    assert [row.group for row in source] == ["u0", "u0", "u1", "u1"]


def test_the_column_of_series(tmp_path):
    path = tmp_path / "walks.csv"
    lines = [f"{n},{n // 2},{n * step},{'ab'[n % 2]}\n" for n in range(6) for step in (1, 2)]
    path.write_text("id,user,x,label\n" + "".join(lines))
    rows = open_sources(SeriesFilesSource(train=str(path), group_column="user"))["train"]
    assert [(row.name, row.group, row.value.shape) for row in rows] == [
        (str(n), str(n // 2), (2, 1)) for n in range(6)
    ]
    path.write_text(path.read_text() + "9,7,1,a\n9,8,1,a\n")
    rows = open_sources(SeriesFilesSource(train=str(path), group_column="user"))["train"]
    assert list(rows)[-1].problem == "several groups in one series"


def test_the_array_of_an_npz_file(tmp_path):
    path = tmp_path / "walks.npz"
    np.savez(path, X=np.ones((4, 3)), y=[0, 1, 0, 1], user=["a", "a", "b", "b"])
    rows = open_sources(SeriesFilesSource(train=str(path), group_column="user"))["train"]
    assert [row.group for row in rows] == ["a", "a", "b", "b"]
    with pytest.raises(UserError, match=r"has no array 'usr' \(data\.group_column\)"):
        open_sources(SeriesFilesSource(train=str(path), group_column="usr"))


def test_the_column_of_wide_tables(tmp_path):
    path = tmp_path / "walks.csv"
    header = ",".join(["id", "user", *(f"t{step}" for step in range(5)), "label"])
    lines = [f"{n},{n // 2},{n},{n + 1},{n + 2},{n},{n},{'ab'[n % 2]}" for n in range(6)]
    path.write_text("\n".join([header, *lines]) + "\n")
    rows = open_sources(SeriesFilesSource(train=str(path), group_column="user"))["train"]
    assert [(row.name, row.group, row.value.shape) for row in rows] == [
        (str(n), str(n // 2), (5, 1)) for n in range(6)
    ]
