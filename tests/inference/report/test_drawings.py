"""Texts and series on the page."""

import numpy as np
import pytest

from tests.inference.report.rows import example, word_spans


def first_word(text):
    return word_spans(text)[:1]


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
