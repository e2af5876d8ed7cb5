"""What the pages of all tasks have in common."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attnlstm.errors import UserError
from attnlstm.inference.report.classification import ClassificationReport
from tests.inference.report.page import Page
from tests.inference.report.rows import NAMES, example, make_prediction, word_spans


def test_attention_must_match_the_tokens_or_steps(tmp_path):
    report = ClassificationReport(NAMES, word_spans, 300)
    with pytest.raises(ValueError, match="shorter"):
        report.add(example(text="a b", attention=[1.0]))
    with pytest.raises(ValueError, match="2 attention weights for 3 time steps"):
        report.add(example(series=np.zeros((3, 1)), attention=[0.5, 0.5]))
    with pytest.raises(ValueError, match="2 probabilities for 3 classes"):
        report.add(make_prediction(0, "first", [0.5, 0.5]))
    report.write(tmp_path / "report.html", title="nothing was counted")
    assert Page((tmp_path / "report.html").read_text()).root.one(id="num-rows").text == "0"


# Escaping


HOSTILE = st.one_of(
    st.text(max_size=30),
    st.text(
        st.sampled_from("<>&\"'/=`{}%#;-! \n\r\t\0\x0c\x1b\x7f\x85\ud800\udfff\u202eaא"),
        max_size=30,
    ),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</script></style></title><!--",
            "{{ 7 * 7 }}{% raw %}",
            "&lt;&#0;&amp",
        ]
    ),
)


def as_shown(text):
    """Replace each character that HTML does not allow by a single one, so spans stay valid."""
    shown = []
    for here, following in zip(text, [*text[1:], ""], strict=False):
        if here == "\r":
            here = " " if following == "\n" else "\n"
        elif unicodedata.category(here) == "Cs" or "\x80" <= here <= "\x9f":
            here = "\N{REPLACEMENT CHARACTER}"
        elif here == "\x7f":
            here = "\N{SYMBOL FOR DELETE}"
        elif here < " " and here not in "\t\n":
            here = chr(ord("\N{SYMBOL FOR NULL}") + ord(here))
        shown.append(here)
    return "".join(shown)


def skeleton(element):
    """Return the tags and attribute names below an element, without their content."""
    return [(part.tag, sorted(part.attributes)) for part in element.all()]


@settings(max_examples=40, deadline=None)
@given(text=HOSTILE, names=st.lists(HOSTILE, min_size=2, max_size=2, unique=True), name=HOSTILE)
def test_everything_from_the_data_is_escaped(read, text, names, name):
    spans = [(i, i + 1) for i in range(len(text))]
    attention = [1 / len(text)] * len(text) if text else []

    def page_of(text, names, name):
        row = make_prediction(0, names[0], [0.75, 0.25], names[1], text, attention, name)
        options = {"title": text or "title", "subtitle": name or "subtitle"}
        return read([row], names=names, spans=lambda _: spans, **options)

    page = page_of(text, names, name)
    assert page.one(class_name="read").text == as_shown(text)
    assert [token.text for token in page.all(class_name="token")] == list(as_shown(text))
    assert page.one("title").text == page.one("h1").text == as_shown(text or "title")
    assert page.one(class_name="subtitle").text == as_shown(name or "subtitle")
    assert page.one("h3").text == as_shown(f"row 0 (id {name})")
    predicted, true = (found.text for found in page.one("article").all("strong"))
    assert (predicted, true) == (as_shown(names[0]), as_shown(names[1]))
    assert skeleton(page) == skeleton(page_of("x" * len(text), ["aaaa", "b"], "name"))


def test_long_names_are_cut_with_their_length(read):
    name = "long " * 2000
    page = read([example(label=name, names=["a", name])], names=["a", name], title=name)
    _, true = page.one("article").all("strong")
    assert true.text == name[:60] + "… (10,000 characters)"
    assert true.one("bdi").attributes["title"] == name[:300] + "… (10,000 characters)"
    assert len(page.text) < 40_000


def test_the_page_is_self_contained(read):
    page = read([example(text="see https://example.org"), example(series=np.zeros((3, 2)))])
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"}).attributes["content"]
    assert "default-src 'none'" in policy
    for element in page.all():
        assert element.tag not in {"link", "img", "iframe", "object", "base", "audio", "video"}
        assert not {"src", "href", "action", "srcset", "data"} & set(element.attributes)
    assert not re.search(r"url\(|@import|https?:", page.one("style").text + page.one("script").text)


# The file


def test_the_page_replaces_an_older_one_atomically(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with path.open() as being_read:
        ClassificationReport(NAMES, None, 300).write(path, title="new")
        assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
        assert being_read.read() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/report.html", "file/report.html", "folder", "x" * 300])
def test_an_unwritable_path_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    report = ClassificationReport(NAMES, None, 300)
    with pytest.raises(UserError, match="cannot be written") as caught:
        report.write(tmp_path / name, title="title")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
