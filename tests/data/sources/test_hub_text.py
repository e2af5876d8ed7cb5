import io
import pickle
import shutil
import tarfile
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets.exceptions import DatasetNotFoundError

from attnlstm.data.sources import hub_text as hub
from attnlstm.data.sources.hub_text import HubText, HubTextSource, load_hub
from attnlstm.errors import UserError


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path_factory):
    """Neither the network nor the user's own cache; the names that were asked for."""
    asked = []

    def dataset_info(self, path, **options):
        asked.append(path)
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", dataset_info)
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    return asked


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "news").mkdir()
    for name, rows in (("train", "good,pos\nbad,neg\n"), ("test", "fine,pos\n")):
        (tmp_path / "news" / f"{name}.csv").write_text(f"text,label\n{rows}")
    return tmp_path / "news"


def problem_of(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def make_dataset(texts, labels, names=("neg", "pos")):
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(names))})
    return Dataset.from_dict({"text": texts, "label": labels}, features=features)


class TestHubText:
    def test_kept_columns(self):
        data = make_dataset(["a", " ", "c"], [1, 0, -1]).add_column("year", [1999, None, 2001])
        source = HubText(data, "news")
        assert source.keep_columns(["year", "label"]) == ["year", "label"]
        assert [row.kept for row in source] == [("1999", "pos"), (None, "neg"), ("2001", None)]
        assert source.keep_columns(None) == ["text", "year"]
        assert next(iter(source)).kept == ("a", "1999")
        with pytest.raises(UserError, match=r"^news has no column 'yeer': did you mean 'year'"):
            source.keep_columns(["yeer"])

    def test_blanks_around_the_names_of_classes(self):
        source = HubText(make_dataset(["a", "b"], [1, 0], names=(" neg", "pos\n")), "news")
        assert source.label_names == ["neg", "pos"]
        assert [row.label for row in source] == ["pos", "neg"]
        with pytest.raises(UserError, match=r"^news: column 'label' declares names of classes"):
            HubText(make_dataset(["a", "b"], [1, 0], names=("a", "a ")), "news")

    def test_rows_and_names(self):
        source = HubText(make_dataset(["a", " ", None, "d"], [1, 0, -1, None]), "news, train split")
        assert source.name == "news, train split"
        assert source.label_names == ["neg", "pos"]
        rows = list(source)
        assert [(r.number, r.value, r.label, r.problem) for r in rows] == [
            (0, "a", "pos", None),
            (1, None, "neg", "no text"),
            (2, None, None, "no text"),
            (3, "d", None, None),
        ]
        assert {row.file for row in rows} == {"news, train split"}
        assert list(source) == rows

    def test_many_rows_in_the_order_of_a_selection(self):
        dataset = make_dataset([str(i) for i in range(3000)], [0] * 3000)
        rows = list(HubText(dataset.select(range(2999, 0, -1)), "news"))
        assert [int(row.value) for row in rows] == list(range(2999, 0, -1))
        assert [row.number for row in rows] == list(range(2999))

    def test_a_format_of_the_dataset_does_not_matter(self):
        dataset = make_dataset(["a"], [1]).with_format("numpy")
        assert [(r.value, r.label) for r in HubText(dataset, "news")] == [("a", "pos")]

    def test_columns_as_in_files(self):
        dataset = Dataset.from_dict({"words": ["a"], "kind": [3]})
        message = problem_of(HubText, dataset, "news, train split")
        assert "news, train split has no column" in message
        assert "name one with data.text_column" in message
        assert "Its columns are 'words', 'kind'" in message
        source = HubText(dataset, "news", text_column="words", needs_labels=False)
        assert [(r.value, r.label) for r in source] == [("a", None)]
        source = HubText(dataset, "news", text_column="words", label_column="kind")
        assert [(r.value, r.label) for r in source] == [("a", "3")]
        assert source.label_names is None

    def test_fingerprint(self):
        prints = [
            HubText(make_dataset(texts, [0]), "news").fingerprint()
            for texts in (["a"], ["a"], ["b"])
        ]
        assert prints[0] == prints[1] != prints[2]


class TestLocalFolder:
    def test_splits_of_a_folder(self, folder, no_network):
        splits = load_hub(str(folder))
        assert {name: len(rows) for name, rows in splits.items()} == {"train": 2, "test": 1}
        assert no_network == []

    def test_parts(self, folder):
        parts = HubTextSource(path=str(folder)).open()
        assert list(parts) == ["train", "test"]
        assert parts["train"].name == f"{folder}, train split"
        assert [(row.value, row.label) for row in parts["train"]] == [
            ("good", "pos"),
            ("bad", "neg"),
        ]

    def test_a_subset_that_is_not_there(self, folder):
        message = problem_of(load_hub, str(folder), "french")
        assert f"data.path={folder} with data.subset=french cannot be loaded" in message
        assert "Available: ['default']): choose one of these as data.subset" in message

    def test_a_subset_must_be_chosen(self, folder):
        folder.joinpath("README.md").write_text(
            "---\nconfigs:\n"
            "- config_name: one\n  data_files: train.csv\n"
            "- config_name: two\n  data_files: test.csv\n---\n"
        )
        message = problem_of(load_hub, str(folder))
        assert "'one', 'two'" in message
        assert "choose one of these as data.subset" in message
        assert len(load_hub(str(folder), "two")["train"]) == 1

    def test_files_that_cannot_be_read(self, folder):
        (folder / "train.csv").write_text("text,label\na,b\na,b,c,d\n")
        message = problem_of(load_hub, str(folder))
        assert f"data.path={folder} cannot be loaded (" in message
        assert "line 3" in message

    def test_a_folder_without_data(self, tmp_path):
        assert "contain any data files): fix the name or the files" in problem_of(
            load_hub, str(tmp_path)
        )

    def test_a_saved_dataset_is_a_file(self, tmp_path):
        make_dataset(["a"], [1]).save_to_disk(tmp_path / "saved")
        message = problem_of(load_hub, str(tmp_path / "saved"))
        assert f"say data=text_files data.train={tmp_path / 'saved'}" in message


class TestHub:
    def test_without_a_network_a_name_is_answered_at_once(self, no_network):
        message = problem_of(load_hub, "user/news")
        assert "data.path=user/news cannot be loaded" in message
        assert "the Hub cannot be reached): connect to the network" in message
        assert no_network == ["user/news"]
        assert datasets.config.HF_HUB_OFFLINE is False

    def test_without_a_network_the_cache_is_used(self, folder, tmp_path):
        load_hub(str(folder))
        (cached,) = datasets.config.HF_DATASETS_CACHE.glob("news/*/*/*/news-train.arrow")
        shutil.copytree(
            datasets.config.HF_DATASETS_CACHE / "news",
            datasets.config.HF_DATASETS_CACHE / "user___news",
        )
        assert load_hub("user/news")["train"]["text"][:] == ["good", "bad"]
        assert cached.is_file()

    @pytest.mark.parametrize("path", ["csv", "text", "a/b/c", "/no/folder", "buckets/a", "a b", ""])
    def test_what_is_neither_a_name_nor_a_folder(self, path, no_network):
        message = problem_of(load_hub, path)
        assert message.startswith(f"data.path={path} is neither a folder nor a name")
        assert no_network == []

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (DatasetNotFoundError("Dataset 'user/news' doesn't exist on the Hub"), "fix the name"),
            (DatasetNotFoundError("Dataset 'user/news' is a gated dataset"), "hf auth login"),
            (ConnectionError("Couldn't reach 'user/news'"), "connect to the network"),
            (RuntimeError("Dataset scripts are no longer supported"), "choose another data set"),
            (ValueError("BuilderConfig 'x' not found. Available: ['y']"), "['y']): choose one"),
        ],
    )
    def test_what_the_hub_refuses(self, monkeypatch, error, words):
        def refuse(path, name):
            raise error

        monkeypatch.setattr(hub, "_reaches_hub", lambda path: True)
        monkeypatch.setattr(datasets, "load_dataset", refuse)
        message = problem_of(load_hub, "user/news")
        assert message.startswith("data.path=user/news cannot be loaded (")
        assert words in message

    def test_parts_are_the_splits_of_these_names(self, monkeypatch):
        splits = {"test": make_dataset(["a"], [0]), "unsupervised": make_dataset(["b"], [-1])}
        monkeypatch.setattr(hub, "load_hub", lambda path, subset: DatasetDict(splits))
        source = HubTextSource(path="user/news")
        assert list(source.open("test")) == ["test"]
        del splits["test"]
        message = problem_of(source.open, "test")
        assert "data.path=user/news has no split called train, only unsupervised" in message


@pytest.mark.parametrize("part", ["test", "validation"])
def test_parts_without_labels_are_left_out(monkeypatch, part):
    splits = {"train": make_dataset(["a", "b"], [0, 1]), part: make_dataset(["c"], [-1])}
    monkeypatch.setattr(hub, "load_hub", lambda path, subset: splits)
    opened = HubTextSource(path="user/news").open()
    assert list(opened) == ["train"]
    assert opened["train"].notes == [f"the {part} rows of user/news have no labels: left out"]
    assert list(HubTextSource(path="user/news").open(part)) == ["train"]
    for labels in ([-1, 1], [0, 0]):
        splits[part] = make_dataset(["c", "d"], labels)
        opened = HubTextSource(path="user/news").open()
        assert list(opened) == ["train", part]
        assert opened["train"].notes == ()
    splits[part] = Dataset.from_dict({"text": ["c"]})
    assert list(HubTextSource(path="user/news").open()) == ["train"]
    for labels in ([-1, -1], [None, None], ["", None]):
        splits[part] = Dataset.from_dict({"text": ["c", "d"], "label": labels})
        assert list(HubTextSource(path="user/news").open()) == ["train"]


def test_several_columns_of_texts_are_joined(monkeypatch):
    rows = {"title": ["a", None], "body": ["b", "c"], "label": ["x", "y"]}
    monkeypatch.setattr(hub, "load_hub", lambda path, subset: {"train": Dataset.from_dict(rows)})
    source = HubTextSource(path="user/news", text_column=["title", "body"]).open()["train"]
    assert [(row.value, row.label) for row in source] == [("a\nb", "x"), ("c", "y")]


@pytest.mark.parametrize("ending", ["pickle", "pkl", "pth"])
def test_pickles_of_a_webdataset_are_refused_and_not_executed(tmp_path, ending):
    class Touching:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    (tmp_path / "web").mkdir()
    with tarfile.open(tmp_path / "web" / "train.tar", "w") as archive:
        for number in range(2):
            for name, content in ((ending, pickle.dumps(Touching())), ("cls", b"1")):
                member = tarfile.TarInfo(f"{number}.{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    assert str(tmp_path / "web") in problem_of(HubTextSource(path=str(tmp_path / "web")).open)
    assert not (tmp_path / "executed").exists()
