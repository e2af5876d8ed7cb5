"""The page for the numbers of a regression."""

import re

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from attnlstm.inference.report.regression import RegressionReport
from tests.inference.report.page import cells, figures, places
from tests.inference.report.rows import BAD, numbers, word_spans


@pytest.fixture
def read_numbers(read_report):
    """`read_numbers(rows)`: the parsed page of the predictions of numbers."""

    def read(rows, names=("price",), max_examples=300, mean=0.0, std=1.0):
        scale = (np.broadcast_to(part, len(names)) for part in (mean, std))
        report = RegressionReport(list(names), word_spans, max_examples, *scale)
        return read_report(report, rows)

    return read


def answer(card):
    """Return what an example says, as a dictionary for each target."""
    heads = [head.text for head in card.all("h4")]
    lists = [
        {line.one("dt").text: line.one("dd").text for line in part.all("div")}
        for part in card.all("dl")
    ]
    return dict(zip(heads, lists, strict=True))


def test_scores_cover_all_rows_in_their_units(read_numbers):
    rng = np.random.default_rng(0)
    true = 1e7 + rng.normal(size=(500, 2)) * [1, 1000]  # far from 0
    predicted = true + rng.normal(size=(500, 2)) * [0.5, 100]
    rows = [
        numbers(i, predicted[i], tuple(map(str, true[i].tolist())), half_width=[1.0, 150.0])
        for i in range(500)
    ]
    page = read_numbers([*rows, numbers(500, [0, 0]), BAD], ["a", "b"], 10)
    scores = [
        [f"{score(true[:, k], predicted[:, k]):.4g}"]
        for k in range(2)
        for score in (mean_absolute_error, root_mean_squared_error, r2_score)
    ]
    assert [line[3:] for line in cells(page.one("table"))] == [
        [score for [score] in scores[:3]],
        [score for [score] in scores[3:]],
    ]
    inside = (np.abs(predicted - true) <= [1, 150]).mean()
    assert figures(page) == {
        "num-rows": "501",
        "num-labelled": "500",
        "coverage": f"{100 * inside:.1f} %",
        "num-bad": "1",
    }
    assert len(places(page)) == 10
    single = read_numbers([numbers(0, [1.0], "2.5"), numbers(1, [3.0], "2.5")])
    assert figures(single) == {"num-rows": "2", "mae": "1", "rmse": "1.118", "r2": "–"}


def test_an_example_has_its_numbers_error_and_interval(read_numbers):
    row = numbers(0, [3.25, -1.0], ("3.5", "4"), half_width=[1.0, 2.0], value="some words")
    page = read_numbers([row], ["price", "<b>size</b>"], std=[1.0, 2.0])
    card = page.one("article")
    assert answer(card) == {
        "<b>size</b>": {
            "predicted": "-1",
            "true": "4",
            "error": "-5",
            "interval": "-3 to 1 ✗ outside",
        },
        "price": {
            "predicted": "3.25",
            "true": "3.5",
            "error": "-0.25",
            "interval": "2.25 to 4.25",
        },
    }
    assert list(answer(card)) == ["<b>size</b>", "price"]  # the larger error in deviations
    assert card.one(class_name="verdict").text == "✗ outside an interval"
    assert card.one(class_name="read").text == "some words"
    data = {key: value for key, value in card.attributes.items() if key.startswith("data-")}
    assert data == {"data-target": "1", "data-error": "low", "data-interval": "outside"}


def test_without_numbers_nothing_is_scored(read_numbers):
    page = read_numbers([numbers(i, [i], half_width=[np.inf]) for i in range(3)])
    assert figures(page) == {"num-rows": "3"}
    assert not list(page.all("form"))
    assert not list(page.all("svg"))
    assert answer(next(page.all("article"))) == {
        "price": {"predicted": "0", "interval": "unbounded"}
    }
    assert cells(page.one("table")) == [["price", "0 to 2"]]


def test_labels_that_are_not_numbers_are_counted(read_numbers):
    labels = ["n/a", ("1", "2"), "nan", "1"]
    page = read_numbers([numbers(i, [1.0], label) for i, label in enumerate(labels)])
    assert figures(page)["num-numberless"] == "3"
    assert figures(page)["num-labelled"] == "1"
    assert figures(page)["mae"] == "0"


def test_the_largest_errors_come_first_then_rows_from_the_whole_range(read_numbers):
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=2000)
    errors = rng.normal(size=2000) / 10
    labels = (predicted + errors).tolist()
    rows = [numbers(i, [predicted[i]], str(labels[i])) for i in range(2000)]
    page = read_numbers(rows, max_examples=40)
    shown = [int(place[4:]) for place in places(page)]
    assert shown[:20] == (-np.abs(errors)).argsort()[:20].tolist()
    others = predicted[shown[20:]]
    assert (np.diff(others) >= 0).all()
    # 20 random rows would leave the ends out: they have one row of 40.
    assert others[0] < -2
    assert others[-1] > 2
    assert len(set(shown)) == 40
    assert "Showing 40 of 2,000 rows" in page.one(id="showing").text
    labelled = read_numbers([*rows[:5], numbers(5, [0.0])], max_examples=40)
    assert sorted(places(labelled)) == [f"row {number}" for number in range(6)]


def test_errors_count_in_standard_deviations_of_each_target(read_numbers):
    rows = [numbers(i, [0.0, 100.0], ("0", str(100 + i))) for i in range(10)]
    rows.append(numbers(10, [0.0, 100.0], ("0.5", "100")))
    page = read_numbers(rows, ["small", "large"], 4, std=[0.1, 100.0])
    assert places(page)[:2] == ["row 10", "row 9"]
    options = [option.text for option in page.one("select", id="filter-target").all("option")]
    assert options == ["all targets", "small", "large"]


def test_rows_that_are_not_kept_are_not_drawn():
    drawn = []
    report = RegressionReport(
        ["price"], lambda text: drawn.append(text) or [], 10, np.zeros(1), np.ones(1)
    )
    rng = np.random.default_rng(0)
    for number, (predicted, true) in enumerate(rng.normal(size=(1000, 2))):
        report.add(numbers(number, [predicted], [None, str(true)][number % 2], value="text"))
    assert 10 <= len(drawn) < 300


def test_the_scatter_plot_has_a_point_for_each_row(read_numbers):
    pairs = [(1.0, 1.0), (2.0, 3.0), (5.0, 2.0)]
    rows = [numbers(i, [predicted], str(true)) for i, (true, predicted) in enumerate(pairs)]
    page = read_numbers(rows, ["<script>"])
    plot = page.one("svg", class_name="scatter")
    points = [
        (int(point.attributes["cx"]), int(point.attributes["cy"])) for point in plot.all("circle")
    ]
    (left, bottom), (middle, upper), (right, lower) = points
    assert left + bottom == 400  # on the diagonal
    assert middle - left == pytest.approx((right - left) / 4, abs=1)
    assert bottom - upper == pytest.approx(2 * (bottom - lower), abs=1)
    assert middle > 400 - lower - 1  # as true as the other is predicted: 2
    assert plot.attributes["role"] == "img"
    title, description = (plot.one(tag).text for tag in ("title", "desc"))
    assert title == "<script>: predicted over true numbers"
    assert "each of 3 rows. True numbers are from 1 to 5, predictions from 1 to 3" in description
    labelled_by = plot.attributes["aria-labelledby"].split()
    assert labelled_by == [plot.one(tag).attributes["id"] for tag in ("title", "desc")]


def test_a_scatter_plot_of_many_rows_is_a_sample_and_says_so(read_numbers):
    rows = [numbers(i, [i], str(i)) for i in range(3000)]
    page = read_numbers(rows, max_examples=2)
    points = [int(point.attributes["cx"]) for point in page.all("circle")]
    assert len(points) == 1000
    assert np.mean(points) == pytest.approx(200, abs=15)  # from all of the rows
    assert "a random sample of 1,000 of the 3,000 rows" in page.text


def test_only_the_first_of_many_targets_are_drawn(read_numbers):
    names = [f"target {number}" for number in range(20)]
    page = read_numbers([numbers(0, [0.0] * 20, ("1",) * 20)], names)
    assert len(list(page.all("svg"))) == 6
    assert "Only the first 6 of 20 targets are drawn" in page.text
    assert len(answer(page.one("article"))) == 5
    assert "… and 15 more targets with smaller errors" in page.one("article").text


@pytest.mark.parametrize(
    ("label", "predicted"),
    [
        ("1e308", -1e308),
        ("1e308", np.inf),
        ("0", np.nan),
        ("5e-324", 0.0),
        ("1e16", 1.0000000000000002e16),
        ("-7", -7.0),
    ],
)
def test_numbers_without_a_range_or_with_a_huge_one(read_numbers, label, predicted):
    page = read_numbers([numbers(0, [predicted], label), numbers(1, [0.0], "0")], max_examples=2)
    assert sorted(places(page)) == ["row 0", "row 1"]
    for point in page.all("circle"):
        assert all(0 <= int(point.attributes[axis]) <= 400 for axis in ("cx", "cy"))
    for tick in page.one("svg", class_name="scatter").all("text"):
        assert re.fullmatch(r"true|predicted|-?[\d.]+(e[+-]\d+)?", tick.text)


def test_numbers_must_match_the_targets():
    report = RegressionReport(["price"], None, 300, np.zeros(1), np.ones(1))
    with pytest.raises(ValueError, match="2 numbers for 1 targets"):
        report.add(numbers(0, [1.0, 2.0]))
