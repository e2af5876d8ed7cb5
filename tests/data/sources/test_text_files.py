import csv
import json
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from attnlstm.data.formats.column_names import TEXT_TABLE
from attnlstm.data.sources.text_files import TextFiles
from attnlstm.errors import UserError

NAN = float("nan")
NO_LABEL_TYPE = "label is not a string, number or boolean"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write_json(path, texts, labels=None):
    labels = labels if labels is not None else ["x"] * len(texts)
    pairs = zip(texts, labels, strict=True)
    lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in pairs]
    return write(path, "".join(lines))


def open_files(*files, **options):
    return TextFiles(files, key="data.train", **options)


def problem_of(*files, **options):
    with pytest.raises(UserError) as caught:
        list(open_files(*files, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def reviews(tmp_path):
    return write(tmp_path / "reviews.csv", "id,Review,Sentiment\n7,good film,pos\n8,bad,neg\n")


class TestRows:
    def test_text_label_and_place(self, reviews):
        source = open_files(reviews)
        assert source.name == "reviews.csv"
        assert source.label_names is None
        rows = list(source)
        assert [(r.file, r.number, r.value, r.label, r.problem, r.line) for r in rows] == [
            ("reviews.csv", 0, "good film", "pos", None, 2),
            ("reviews.csv", 1, "bad", "neg", None, 3),
        ]
        assert list(source) == rows

    def test_several_files_one_after_the_other(self, tmp_path, reviews):
        more = write_json(tmp_path / "more.jsonl", ["a", "b"], ["x", "y"])
        path = write(tmp_path / "last.tsv", "label\ttext\nz\tc\n")
        source = open_files(more, path)
        assert source.name == "more.jsonl and 1 more"
        assert [(r.file, r.number, r.value, r.label) for r in source] == [
            ("more.jsonl", 0, "a", "x"),
            ("more.jsonl", 1, "b", "y"),
            ("last.tsv", 0, "c", "z"),
        ]

    def test_files_of_the_same_name_are_told_apart(self, tmp_path):
        files = []
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            files.append(write_json(tmp_path / folder / "rows.jsonl", ["text"]))
        assert [row.file for row in open_files(*files)] == list(map(str, files))

    def test_problems_of_the_table_are_passed_on(self, tmp_path):
        path = write(tmp_path / "rows.csv", b"text,label\ncaf\xe9,x\na,b,c\ngood,x\n")
        assert [(r.value, r.label, r.problem, r.line) for r in open_files(path)] == [
            (None, None, "not UTF-8", 2),
            (None, None, "wrong number of columns", 3),
            ("good", "x", None, 4),
        ]

    @pytest.mark.parametrize("text", [None, "", " \t\n", "\u3000", NAN])
    def test_no_text(self, tmp_path, text):
        (row,) = open_files(write_json(tmp_path / "rows.jsonl", [text]))
        assert (row.value, row.label, row.problem) == (None, "x", "no text")

    @pytest.mark.parametrize("text", [1, 1.5, True, ["a"], {"a": "b"}])
    def test_texts_of_other_types(self, tmp_path, text):
        (row,) = open_files(write_json(tmp_path / "rows.jsonl", [text]))
        assert (row.value, row.label, row.problem) == (None, "x", "text is not a string")

    def test_a_text_is_left_as_it_is(self, tmp_path):
        (row,) = open_files(write_json(tmp_path / "rows.jsonl", ["  two \r\n lines "]))
        assert row.value == "  two \r\n lines "

    @pytest.mark.parametrize(
        ("value", "label"),
        [
            (" pos\n", "pos"),
            (" ", None),
            ("", None),
            (None, None),
            (NAN, None),
            (1, "1"),
            (-1, "-1"),
            (2.0, "2"),
            (3.5, "3.5"),
            (-0.25, "-0.25"),
            (True, "True"),
            (False, "False"),
        ],
    )
    def test_labels(self, tmp_path, value, label):
        (row,) = open_files(write_json(tmp_path / "rows.jsonl", ["a"], [value]))
        assert (row.value, row.label, row.problem) == ("a", label, None)

    @pytest.mark.parametrize("value", [float("inf"), {"a": 1}, [{"a": 1}]])
    def test_labels_of_other_types(self, tmp_path, value):
        (row,) = open_files(write_json(tmp_path / "rows.jsonl", ["a"], [value]))
        assert (row.label, row.problem) == (None, NO_LABEL_TYPE)

    def test_integers_with_gaps_and_booleans_of_parquet(self, tmp_path):
        for labels, names in (
            ([1.0, None, NAN], ["1", None, None]),
            ([True, None], ["True", None]),
        ):
            table = pa.table({"text": ["a"] * len(labels), "label": labels})
            pq.write_table(table, tmp_path / "rows.parquet")
            assert [row.label for row in open_files(tmp_path / "rows.parquet")] == names

    @given(
        st.lists(
            st.tuples(
                st.text(st.characters(exclude_characters="\0", codec="utf-8")),
                st.one_of(st.none(), st.integers(), st.booleans(), st.sampled_from(["a", " b "])),
            ),
            min_size=1,
        )
    )
    def test_any_rows_of_csv_and_json_are_the_same(self, tmp_path_factory, rows):
        folder = tmp_path_factory.mktemp("any")
        with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
        texts, labels = zip(*rows, strict=True)
        write_json(folder / "rows.jsonl", texts, labels)
        expected = [
            (
                text if text.strip() else None,
                None if label is None else str(label).strip(),
                None if text.strip() else "no text",
            )
            for text, label in rows
        ]
        for name in ("rows.csv", "rows.jsonl"):
            found = open_files(folder / name)
            assert [(row.value, row.label, row.problem) for row in found] == expected


class TestColumns:
    def test_are_known_by_their_names(self, tmp_path):
        for text in TEXT_TABLE["text"]:
            path = write(tmp_path / "rows.csv", f"label,{text.title()},id\nx,a,1\n")
            assert [(row.value, row.label) for row in open_files(path)] == [("a", "x")]
        for label in TEXT_TABLE["label"]:
            path = write(tmp_path / "rows.csv", f"{label.upper()},text,id\nx,a,1\n")
            assert [(row.value, row.label) for row in open_files(path)] == [("a", "x")]

    def test_are_named(self, tmp_path):
        path = write(tmp_path / "rows.csv", "text,title,label,kind\na,b,x,y\n")
        (row,) = open_files(path, text_column="title", label_column="kind")
        assert (row.value, row.label) == ("b", "y")
        (row,) = open_files(path, text_column="label", label_column="text")
        assert (row.value, row.label) == ("x", "a")

    def test_a_named_column_is_no_candidate_for_the_other(self, tmp_path):
        path = write(tmp_path / "rows.csv", "text,topic,label\na,b,x\n")
        (row,) = open_files(path, text_column="topic")
        assert (row.value, row.label) == ("b", "x")

    def test_none_looks_like_text(self, tmp_path):
        message = problem_of(write(tmp_path / "rows.csv", "id,words,label\n1,a,x\n"))
        assert f"data.train={tmp_path / 'rows.csv'} has no column" in message
        assert "name one with data.text_column" in message
        assert "'id', 'words', 'label'" in message

    def test_several_look_like_text(self, tmp_path):
        message = problem_of(write(tmp_path / "rows.csv", "Headline,body,label\n1,a,x\n"))
        assert "several columns that may be the text ('Headline', 'body')" in message
        assert "such as data.text_column=Headline" in message

    def test_none_or_several_look_like_labels(self, tmp_path):
        message = problem_of(write(tmp_path / "rows.csv", "id,text\n1,a\n"))
        assert "name one with data.label_column" in message
        message = problem_of(write(tmp_path / "more.csv", "topic,text,intent\n1,a,x\n"))
        assert "several columns that may be the label ('topic', 'intent')" in message

    @pytest.mark.parametrize("kind", ["text", "label"])
    def test_a_named_one_is_not_there(self, reviews, kind):
        message = problem_of(reviews, **{f"{kind}_column": "Reviews"})
        assert f"has no column 'Reviews' (data.{kind}_column): did you mean 'Review'?" in message
        assert "'id', 'Review', 'Sentiment'" in message

    def test_both_are_the_same(self, reviews):
        message = problem_of(reviews, text_column="Review", label_column="Review")
        assert "'Review' is named twice, by data.text_column and data.label_column" in message

    def test_not_in_all_files(self, tmp_path, reviews):
        other = write_json(tmp_path / "rows.jsonl", ["a"])
        message = problem_of(reviews, other)
        assert f"{other} has no column 'Review'" in message
        third = write(tmp_path / "third.csv", "Review\na\n")
        assert f"{third} has no column 'Sentiment'" in problem_of(reviews, third)

    @pytest.mark.parametrize("delimiter", [";", None])
    def test_the_delimiter(self, tmp_path, delimiter):
        path = write(tmp_path / "rows.csv", "text;label\na;x\n")
        (row,) = open_files(path, delimiter=delimiter)
        assert (row.value, row.label) == ("a", "x")

    def test_several_with_texts_are_joined(self, tmp_path):
        content = "title,body,label\nRain,all day,x\n,all night,y\nSun, ,x\n, ,y\n"
        path = write(tmp_path / "rows.csv", content)
        source = open_files(path, text_column=["title", "body"])
        assert source.columns_used == {"text": "title + body", "label": "label"}
        assert [(row.value, row.label, row.problem) for row in source] == [
            ("Rain\nall day", "x", None),
            ("all night", "y", None),
            ("Sun", "x", None),
            (None, "y", "no text"),
        ]
        swapped = open_files(path, text_column=["body", "title"])
        assert next(iter(swapped)).value == "all day\nRain"
        assert swapped.fingerprint() != source.fingerprint()
        lines = [{"title": "a", "body": None, "label": 1}, {"title": "a", "body": 3, "label": 1}]
        path = write(tmp_path / "rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        rows = list(open_files(path, text_column=["title", "body"]))
        assert [(row.value, row.problem) for row in rows] == [
            ("a", None),
            (None, "text is not a string"),
        ]

    def test_several_that_are_wrong(self, reviews):
        message = problem_of(reviews, text_column=["Review", "Titel"])
        assert "has no column 'Titel' (data.text_column)" in message
        message = problem_of(reviews, text_column=["Review", "Review"])
        assert "'Review' is named twice, by data.text_column: name it once" in message

    def test_less_usual_names_count_if_there_are_no_others(self, tmp_path):
        path = write(tmp_path / "rows.csv", "Review Text,Rating,Title\na,x,b\n")
        assert [(row.value, row.label) for row in open_files(path)] == [("a", "x")]
        for text, label in [("Title", "Stars"), ("original_tweet", "isSpam"), ("Lyrics", "genre")]:
            path = write(tmp_path / "rows.csv", f"id,{label},{text}\n1,x,a\n")
            assert [(row.value, row.label) for row in open_files(path)] == [("a", "x")]
        path = write(tmp_path / "rows.csv", "text,title,label,rating\na,b,x,y\n")
        assert [(row.value, row.label) for row in open_files(path)] == [("a", "x")]


class TestWithoutLabels:
    def test_a_file_without_a_label_column(self, tmp_path):
        path = write(tmp_path / "rows.csv", "id,text\n1,a\n")
        for label_column in (None, "kind"):
            source = open_files(path, label_column=label_column, needs_labels=False)
            assert [(row.value, row.label) for row in source] == [("a", None)]

    def test_labels_that_are_there_are_read(self, tmp_path, reviews):
        assert [r.label for r in open_files(reviews, needs_labels=False)] == ["pos", "neg"]
        more = write(tmp_path / "more.csv", "Review\nfine\n")
        both = open_files(reviews, more, needs_labels=False)
        assert [row.label for row in both] == ["pos", "neg", None]
        named = open_files(reviews, label_column="id", needs_labels=False)
        assert [row.label for row in named] == ["7", "8"]

    def test_several_possible_columns_are_none(self, tmp_path):
        path = write(tmp_path / "rows.csv", "topic,text,intent\n1,a,x\n")
        assert [row.label for row in open_files(path, needs_labels=False)] == [None]


class TestDeclaredNames:
    def save(self, path, names):
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        rows = {"text": ["a", "b", "c"], "label": [1, -1, None]}
        Dataset.from_dict(rows, features=features).save_to_disk(path)
        return path

    def test_are_given_in_their_order(self, tmp_path):
        path = self.save(tmp_path / "rows", [" up", "down "])  # as labels, without outer blanks
        source = open_files(path, path)
        assert source.label_names == ["up", "down"]
        assert [row.label for row in source] == ["down", None, None] * 2

    def test_are_given_only_if_all_files_agree(self, tmp_path):
        first = self.save(tmp_path / "first", ["up", "down"])
        second = self.save(tmp_path / "second", ["down", "up"])
        third = write_json(tmp_path / "rows.jsonl", ["a"])
        assert open_files(first, second).label_names is None
        assert open_files(first, third).label_names is None


class TestFingerprint:
    def test_changes_with_content_and_reading(self, tmp_path):
        path = write(tmp_path / "rows.csv", "text,title,label\na,b,x\n")
        other = write(tmp_path / "other.csv", "text,title,label\na,b,y\n")
        fingerprints = {
            source.fingerprint()
            for source in (
                open_files(path),
                open_files(path),
                open_files(other),
                open_files(path, other),
                open_files(other, path),
                open_files(path, text_column="title"),
                open_files(path, label_column="title"),
            )
        }
        assert len(fingerprints) == 6
        assert all(len(fingerprint) == 64 for fingerprint in fingerprints)


def test_whole_numbers_are_the_same_labels_whatever_the_file(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na,1.0\nb,-2.00\nc,1.5\nd,01.0\ne,1.\nf,1\n")
    (tmp_path / "b.jsonl").write_text(
        '{"text": "a", "label": 1.0}\n{"text": "b", "label": "1.0"}\n'
    )
    pq.write_table(pa.table({"text": ["a"], "label": [1.0]}), tmp_path / "c.parquet")
    found = {
        file.name: [row.label for row in TextFiles([file], key="data.train")]
        for file in sorted(tmp_path.iterdir())
    }
    assert found == {
        "a.csv": ["1", "-2", "1.5", "01.0", "1.", "1"],
        "b.jsonl": ["1", "1.0"],  # the second is a text, and says so
        "c.parquet": ["1"],
    }


def test_a_quoted_text_between_tabs_swallows_no_record(tmp_path):
    path = tmp_path / "a.tsv"
    lines = ["text\tlabel", '"Hello\tgood', 'Bye"\tbad', '"two\nlines"\tgood', "end\tbad"]
    path.write_text("\n".join(lines) + "\n")
    rows = list(TextFiles([path], key="data.train"))
    assert [(row.value, row.label, row.line) for row in rows] == [
        (None, None, 2),
        ('Bye"', "bad", 3),
        ("two\nlines", "good", 4),
        ("end", "bad", 6),
    ]


def test_labels_are_the_same_in_every_format(tmp_path):
    labels = {
        "half stars": [3.0, 3.5, 4.0, None],
        "fractions": [0.1, -0.25, 1e-05, 12.75],
        "whole": [1, 0, -7, 12],
        "booleans": [True, False, True, False],
        "words": ["a", "None", "b c", None],
    }
    for name, values in labels.items():
        frame = pd.DataFrame({"text": list("abcd"), "label": values})
        frame.to_csv(tmp_path / "a.csv", index=False)
        frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
        frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
        frame.to_json(tmp_path / "a.json", orient="records", double_precision=15)
        frame.to_parquet(tmp_path / "a.parquet")
        found = {
            tuple(row.label for row in open_files(tmp_path / f"a.{ending}"))
            for ending in ("csv", "tsv", "jsonl", "json", "parquet")
        }
        assert len(found) == 1, (name, found)
    (tmp_path / "a.csv").write_text("text,label\na,true\nb,FALSE\nc,NaN\nd,1.10\n")
    found = [row.label for row in open_files(tmp_path / "a.csv")]
    assert found == ["True", "False", None, "1.10"]
    decimals = pa.array([Decimal("3.50"), Decimal("4.00")])
    pq.write_table(pa.table({"text": ["a", "b"], "label": decimals}), tmp_path / "a.parquet")
    assert [row.label for row in open_files(tmp_path / "a.parquet")] == ["3.5", "4"]
