import re
import unicodedata
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from attnlstm.data.rows import Row
from attnlstm.errors import UserError
from attnlstm.inference.predictor import Prediction
from attnlstm.inference.report.report import Report
from tests.inference.report.rows import NAMES, example, make_prediction, word_spans

VOID = {"meta", "rect", "polyline"}


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent, self.content = tag, attributes, parent, []

    @property
    def text(self):
        return "".join(part if isinstance(part, str) else part.text for part in self.content)

    def all(self, tag=None, **attributes):
        """Those below with the tag and attributes; `class_name` is one of the element's classes."""
        class_name = attributes.pop("class_name", None)
        for part in self.content:
            if isinstance(part, str):
                continue
            given_attributes = part.attributes
            if (
                (tag is None or part.tag == tag)
                and (class_name is None or class_name in given_attributes.get("class", "").split())
                and all(given_attributes.get(key) == value for key, value in attributes.items())
            ):
                yield part
            yield from part.all(tag, class_name=class_name, **attributes)

    def one(self, tag=None, **attributes):
        found = list(self.all(tag, **attributes))
        assert len(found) == 1, (tag, attributes, len(found))
        return found[0]


class Page(HTMLParser):
    """The page as a tree; every element that is opened must be closed, in order."""

    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.root = self.here = Element("root", {}, None)
        self.feed(source)
        self.close()
        assert self.here is self.root

    def handle_starttag(self, tag, attributes):
        element = Element(tag, dict(attributes), self.here)
        self.here.content.append(element)
        if tag not in VOID:
            self.here = element

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.here.tag == tag
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.content.append(data)


def write(
    path, rows, *, names=NAMES, spans=word_spans, title="Predictions", subtitle="", **options
):
    report = Report(names, spans, **options)
    for row in rows:
        report.add(row)
    report.write(path, title=title, subtitle=subtitle)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def read(tmp_path_factory):
    """`read(rows, **options)`: the parsed page of these predictions."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    return lambda rows, **options: Page(write(path, rows, **options)).root


def first_word(text):
    return word_spans(text)[:1]


def places(page):
    return [card.one("h3").text for card in page.all("article")]


# Texts


def test_tokens_carry_their_weights_and_the_text_stays_whole(read):
    text = "A  good\tfilm,\nnot long"
    weights = [0.05, 0.5, 0.25, 0.2, 0.0]
    page = read([example(text=text, attention=weights)])
    tokens = list(page.all(class_name="token"))
    assert [token.text for token in tokens] == ["A", "good", "film,", "not"]  # 0 has no shade
    assert [float(token.attributes["data-weight"]) for token in tokens] == weights[:4]
    assert [token.attributes["style"] for token in tokens] == [
        "--w:0.10",
        "--w:1.00",
        "--w:0.50",
        "--w:0.40",
    ]
    assert page.one(class_name="read").text == text
    assert "Most attention: good 50.0 %, film, 25.0 %, not 20.0 %" in page.one("article").text


def test_tokens_of_the_same_characters_are_shown_once_with_their_sum(read):
    spans = [(0, 1), (0, 1), (2, 5)]
    page = read([example(text="½ cup", attention=[0.3, 0.2, 0.5])], spans=lambda _: spans)
    tokens = [(t.text, t.attributes["data-weight"]) for t in page.all(class_name="token")]
    assert tokens == [("½", "0.5"), ("cup", "0.5")]


@pytest.mark.parametrize("attention", [[1.0], None])
def test_the_unread_part_is_dimmed_and_counted(read, attention):
    page = read([example(text="read " + "x" * 1300, attention=attention)], spans=first_word)
    assert page.one(class_name="read").text == "read"
    assert page.one(class_name="unread").text == " " + "x" * 299
    assert "… 1,001 more characters not read" in page.one(class_name="text").text


def test_a_short_unread_part_is_shown_in_full(read):
    page = read([example(text="read not", attention=[1.0])], spans=first_word)
    assert page.one(class_name="unread").text == " not"
    assert "(dimmed: not read)" in page.one(class_name="text").text
    page = read([example(text="read \n", attention=[1.0])], spans=first_word)
    assert not list(page.all(class_name="unread"))


def test_the_page_counts_what_it_leaves_out_of_a_long_text(read):
    text = "word " * 2000
    page = read([example(text=text, attention=[1 / 2000] * 2000)])
    assert page.one(class_name="read").text == text[:5000]
    note = "[… 5,000 more characters read, not shown; they have 50.0 % of the attention]"
    assert note in page.one(class_name="text").text


def test_without_attention_nothing_is_shaded_and_the_page_says_so(read):
    page = read([example(text="some words")])
    assert not list(page.all(class_name="token"))
    assert "pooling has no attention" in page.one(class_name="legend").text
    assert page.one(class_name="read").text == "some words"


def test_attention_must_match_the_tokens_or_steps(tmp_path):
    report = Report(NAMES, word_spans)
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


# Series


def points_of(line):
    return [tuple(map(int, point.split(","))) for point in line.attributes["points"].split()]


def test_lines_and_shades_share_one_time_axis(read):
    series = np.array([[0.0, 4.0], [1.0, 4.0], [2.0, 4.0], [4.0, 4.0]])
    weights = [0.125, 0.5, 0.375, 0.0]
    page = read([example(series=series, attention=weights)])
    rising, level = (points_of(line) for line in page.all("polyline"))
    assert [x for x, _ in rising] == [125, 375, 625, 875]  # the middles of four steps of 1000
    heights = [y for _, y in rising]
    assert np.allclose(np.diff(heights) / (heights[3] - heights[0]), [0.25, 0.25, 0.5], atol=0.01)
    assert heights[0] > heights[3] == level[0][1]  # SVG counts downwards
    shades = list(page.all("rect"))
    assert page.one("svg", class_name="attention").attributes["viewbox"] == "0 0 4 1"
    assert [shade.attributes["x"] for shade in shades] == ["0", "1", "2"]
    assert [float(shade.attributes["data-weight"]) for shade in shades] == weights[:3]
    beside_lines, beside_shades = page.all(class_name="range")
    assert [span.text for span in beside_lines.all("span")] == ["4", "0"]
    assert beside_shades.text == "attention"
    assert [span.text for span in page.one(class_name="steps").all("span")] == ["step 0", "step 3"]
    assert "channel 0" in page.one("figcaption").text
    assert "channel 1" in page.one("figcaption").text
    assert "Most attention: step 1 50.0 %, step 2 37.5 %, step 0 12.5 %" in page.text


def test_long_series_keep_their_extremes_and_all_of_the_attention(read):
    rng = np.random.default_rng(0)
    series = rng.normal(size=(10_007, 1))
    series[[123, 9_876], 0] = [50.0, -50.0]
    weights = rng.dirichlet(np.full(10_007, 10.0))
    page = read([example(series=series, attention=weights.tolist())])
    points = points_of(page.one("polyline"))
    assert 300 < len(points) <= 400
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    x_of_top, x_of_bottom = (
        extreme(points, key=lambda point: point[1])[0] for extreme in (min, max)
    )
    assert abs(x_of_top - 12) <= 1  # 123.5 of 10,007 steps, of 1000
    assert abs(x_of_bottom - 987) <= 1
    shades = list(page.all("rect"))
    assert sum(int(shade.attributes["width"]) for shade in shades) == 10_007
    assert sum(float(shade.attributes["data-weight"]) for shade in shades) == pytest.approx(1, 0.01)
    assert "51 steps share one shade" in page.one("figcaption").text


@pytest.mark.parametrize(("channels", "drawn"), [(1, 1), (9, 9), (40, 32)])
def test_many_channels(read, channels, drawn):
    page = read([example(series=np.random.default_rng(0).normal(size=(5, channels)))])
    assert len(list(page.all("polyline"))) == drawn
    caption = " ".join(page.one("figcaption").text.split())
    assert ("of 40; the others are not drawn" in caption) == (channels == 40)
    assert ("channels 0 to 8" in caption) == (channels == 9)


@pytest.mark.parametrize("series", [[[3.0]], [[3.0], [3.0]], [[-1e38], [1e38]]])
def test_series_with_no_range_or_a_huge_one(read, series):
    page = read([example(series=np.array(series, dtype=np.float32), attention=[1.0] * len(series))])
    points = points_of(page.one("polyline"))
    assert len(points) == 2
    assert all(0 <= x <= 1000 and 0 <= y <= 300 for x, y in points)


# Order and selection


def test_errors_come_first_then_the_least_confident_rows(read):
    rows = [
        example(0, confidence=0.9, label="first"),
        example(1, confidence=0.6, label="second"),
        example(2, confidence=0.5),
        example(3, confidence=0.95, label="third"),
        example(4, confidence=0.7, label="first"),
        make_prediction(
            5, "first", [0.6, 0.3, 0.1], "third"
        ),  # as confident, with less of the true class
        example(6, confidence=0.6, label="a label that the model does not know"),
    ]
    assert places(read(rows)) == [f"row {number}" for number in (3, 6, 5, 1, 2, 4, 0)]


ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, "first", "second", "third", "other"]),
        st.lists(st.integers(1, 9), min_size=3, max_size=3),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(rows=ROWS, room=st.integers(1, 12))
def test_the_most_interesting_rows_are_kept(read, rows, room):
    examples = []
    for number, (label, parts) in enumerate(rows):
        probabilities = [part / sum(parts) for part in parts]
        prediction = NAMES[int(np.argmax(probabilities))]
        examples.append(make_prediction(number, prediction, probabilities, label))

    def is_error(prediction):
        return prediction.row.label not in (None, prediction.label)

    def interest(prediction):
        probabilities = prediction.probabilities.tolist()
        of_true = dict(zip(NAMES, probabilities, strict=True)).get(prediction.row.label, 0.0)
        confidence = max(probabilities)
        return (-confidence, of_true) if is_error(prediction) else (confidence, 0)

    def choose(rows, room):
        """Sorted all at once, as the docstring says."""
        rows = sorted(rows, key=interest)
        pairs = [(prediction.row.label, prediction.label) for prediction in rows]
        firsts = [row for i, row in enumerate(rows) if pairs[i] not in pairs[:i]]
        rest = [row for i, row in enumerate(rows) if pairs[i] in pairs[:i]]
        return sorted((firsts + rest)[:room], key=interest)

    errors = [prediction for prediction in examples if is_error(prediction)]
    others = [prediction for prediction in examples if not is_error(prediction)]
    room_for_errors = max((room + 1) // 2, room - len(others))
    chosen = choose(errors, room_for_errors)
    chosen += choose(others, room - len(chosen))
    page = read(examples, max_examples=room)
    # any of equally interesting rows may be kept
    assert sorted(places(page)) == sorted(prediction.row.place for prediction in chosen)
    assert [interest(examples[int(place[4:])]) for place in places(page)] == list(
        map(interest, chosen)
    )
    assert len(places(page)) == min(room, len(rows))
    if len(rows) > room:
        assert f"Showing {room} of {len(rows)} rows" in page.one(id="showing").text


def test_a_rare_kind_of_error_is_kept_among_many_more_confident_ones(read):
    rows = [example(number, 0, 0.9, "second") for number in range(50)]
    rare = example(50, 2, 0.4, "first")
    for order in ([*rows, rare], [rare, *rows]):
        page = read(order, max_examples=4)
        assert places(page)[-1] == "row 50"
        assert len(places(page)) == 4


def test_rows_that_are_not_kept_are_not_drawn():
    rng = np.random.default_rng(0)
    drawn = []
    report = Report(NAMES, lambda text: drawn.append(text) or [], max_examples=10)
    for number in range(2000):
        probabilities = rng.dirichlet(np.ones(3)).tolist()
        prediction = NAMES[int(np.argmax(probabilities))]
        report.add(
            make_prediction(number, prediction, probabilities, [None, *NAMES][number % 4], "text")
        )
    assert 10 <= len(drawn) < 300


# Counts

BAD = Prediction(Row("new.csv", 0, ""), "no text")


def numbers_of(page):
    return {dd.attributes["id"]: dd.text for dd in page.all("dd")}


def test_counts_and_scores_cover_all_rows(read):
    rng = np.random.default_rng(0)
    probabilities = torch.tensor(rng.dirichlet(np.ones(3), size=1500))
    labels = torch.tensor(rng.integers(0, 2, size=1500))  # the third class has none
    predictions = probabilities.argmax(dim=1)
    rows = [
        make_prediction(i, NAMES[predictions[i]], probabilities[i].tolist(), NAMES[labels[i]])
        for i in range(1500)
    ]
    unlabelled = [example(1500 + i, prediction=2) for i in range(7)]
    page = read([*rows, *unlabelled, *[BAD] * 4], max_examples=20)
    accuracy = multiclass_accuracy(probabilities, labels, 3, average="micro")
    assert numbers_of(page) == {
        "num-rows": "1,507",
        "num-labelled": "1,500",
        "num-wrong": f"{int((predictions != labels).sum()):,}",
        "accuracy": f"{accuracy:.4f}",
        "macro-f1": f"{multiclass_f1_score(probabilities, labels, 3, average='macro'):.4f}",
        "num-bad": "4",
    }
    matrix = torch.zeros(3, 3, dtype=torch.int64)
    for label, prediction in zip(labels, predictions, strict=True):
        matrix[label, prediction] += 1
    lines = list(page.one("table", class_name="confusion").one("tbody").all("tr"))
    assert [[int(cell.text or 0) for cell in line.all("td")] for line in lines] == matrix.tolist()
    of_all = predictions.bincount(minlength=3) + torch.tensor([0, 0, 7])
    classes = list(page.one("table", class_name="classes").one("tbody").all("tr"))
    assert [
        [line.one("th").text, *(cell.text for cell in line.all(class_name="number"))]
        for line in classes
    ] == [
        [NAMES[k], str(of_all[k].item()), str(labels.bincount(minlength=3)[k].item())]
        for k in range(3)
    ]
    assert len(places(page)) == 20


def test_without_labels_nothing_is_right_or_wrong(read):
    page = read([example(0), example(1, prediction=2)])
    assert numbers_of(page) == {"num-rows": "2"}
    assert [select.attributes["id"] for select in page.all("select")] == ["filter-predicted"]
    assert not list(page.all("table", class_name="confusion"))
    assert "wrong" not in page.one(class_name="cards").text
    assert Counter(th.text for th in page.all("th", scope="row")) == Counter(NAMES)


def test_no_good_rows(read):
    page = read([BAD, BAD])
    assert numbers_of(page) == {"num-rows": "0", "num-bad": "2"}
    assert page.one(id="showing").text == "There are no rows."


def test_labels_unknown_to_the_model_are_errors(read):
    page = read([example(0, label="new"), example(1, label="first")])
    assert numbers_of(page)["accuracy"] == "0.5000"
    assert "true class new, which the model does not know" in " ".join(page.text.split())
    assert [cell.text for cell in page.one("table", class_name="confusion").all("td")] == (
        ["1", "", "", "", "", "", "", "", "", "1", "", ""]
    )
    page = read([example(i, label=f"id {i}") for i in range(400)])
    labels = [line.text for line in page.one(class_name="confusion").one("tbody").all("th")]
    assert len(labels) == 3 + 51
    assert labels[-1] == "(other labels)"
    assert list(page.one(class_name="confusion").all("td"))[-3].text == "350"


def test_confusions_of_many_classes_are_listed(read):
    names = [f"class {number}" for number in range(150)]
    rows = [example(0, 3, label="class 4", names=names)] * 3
    rows += [
        example(1, 5, label="class 6", names=names),
        example(2, 7, label="class 7", names=names),
    ]
    page = read(rows, names=names)
    lines = page.one(class_name="confusions").one("tbody").all("tr")
    assert [[cell.text for cell in line.all("td")][:3] for line in lines] == [
        ["class 4", "class 3", "3"],
        ["class 6", "class 5", "1"],
    ]


# The file


def test_the_page_replaces_an_older_one_atomically(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with path.open() as being_read:
        assert write(path, [example()]).startswith("<!doctype html>")
        assert being_read.read() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["missing/report.html", "file/report.html", "folder", "x" * 300])
def test_an_unwritable_path_is_named(tmp_path, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    report = Report(NAMES)
    with pytest.raises(UserError, match="cannot be written") as caught:
        report.write(tmp_path / name, title="title")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
