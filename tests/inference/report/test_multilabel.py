"""The page for rows with several classes."""

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multilabel_f1_score,
    multilabel_precision,
    multilabel_recall,
)

from attnlstm.inference.report.multilabel import MultilabelReport
from tests.inference.report.page import cells, figures, places
from tests.inference.report.rows import BAD, NAMES, several


@pytest.fixture
def read_several(read_report):
    """`read_several(rows)`: the parsed page of the predictions of several classes."""

    def read(rows, names=NAMES, max_examples=300):
        return read_report(MultilabelReport(names, None, max_examples), rows)

    return read


def classes(card):
    """Return the lines of an example: a class, what the page says about it, its probability."""
    return [" ".join(line.text.split()) for line in card.one("ul").all("li")]


def choose(flags):
    return tuple(name for name, flag in zip(NAMES, flags, strict=True) if flag)


def test_counts_and_scores_cover_all_rows(read_several):
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(200, 3, generator=generator)
    labels = (torch.rand(200, 3, generator=generator) < 0.4).long()
    labels[:, 2] = 0  # no row has the third class, and the model never says it
    probabilities[:, 2] /= 4
    predicted = (probabilities >= torch.tensor([0.3, 0.6, 0.5])).long()
    rows = [
        several(i, choose(predicted[i]), probabilities[i].tolist(), choose(labels[i]))
        for i in range(200)
    ]
    page = read_several([*rows, several(200, ("first",), [0.9, 0, 0]), BAD], max_examples=10)
    assert figures(page) == {
        "num-rows": "201",
        "num-labelled": "200",
        "num-wrong": str(int((predicted != labels).any(dim=1).sum())),
        "micro-f1": f"{multilabel_f1_score(predicted, labels, 3, average='micro'):.4f}",
        "macro-f1": f"{multilabel_f1_score(predicted, labels, 3, average='macro'):.4f}",
        "num-bad": "1",
    }
    scores = [
        score(predicted, labels, 3, average="none")
        for score in (multilabel_precision, multilabel_recall, multilabel_f1_score)
    ]
    expected = [
        [
            name,
            str(int(predicted[:, k].sum()) + (k == 0)),  # also the row without a label
            str(int(labels[:, k].sum())),
            str(int((labels * predicted)[:, k].sum())),
            *("–" if k == 2 else f"{score[k]:.4f}" for score in scores),
        ]
        for k, name in enumerate(NAMES)
    ]
    assert cells(page.one("table", class_name="classes")) == expected
    assert "neither predicted nor true counts as 0" in page.text
    assert not list(page.all("table", class_name="confusion"))
    assert len(places(page)) == 10


def test_missing_and_wrong_classes_are_named(read_several):
    page = read_several([several(0, ("first", "third"), [0.9, 0.2, 0.7], ("first", "second"))])
    card = page.one("article")
    assert classes(card) == [
        "first ✓ right 90.0 %",
        "third ✗ not true 70.0 %",
        "second ✗ missing 20.0 %",
    ]
    assert card.one(class_name="verdict").text == "✗ wrong"
    data = {key: value for key, value in card.attributes.items() if key.startswith("data-")}
    assert data == {
        "data-predicted": "0 2",
        "data-true": "0 1",
        "data-error": "1 2",
        "data-result": "wrong",
    }


def test_rows_without_a_class(read_several):
    page = read_several([several(0, (), [0.1, 0.2, 0.3], ()), several(1, (), [0.1, 0.2, 0.3])])
    labelled, unlabelled = sorted(page.all("article"), key=lambda card: card.one("h3").text)
    assert [p.text for p in labelled.one(class_name="classes").all("p")] == [
        "predicted no class",
        "true no class",
    ]
    assert labelled.one(class_name="verdict").text == "✓ right"
    assert "true" not in unlabelled.text
    assert not list(unlabelled.all(class_name="verdict"))
    assert figures(page)["micro-f1"] == "0.0000"


def test_without_labels_nothing_is_right_or_wrong(read_several):
    page = read_several([several(0, ("first",), [0.9, 0.2, 0.3])])
    assert classes(page.one("article"))[0] == "first (predicted) 90.0 %"
    assert [select.attributes["id"] for select in page.all("select")] == ["filter-predicted"]
    assert cells(page.one("table")) == [["first", "1"], ["second", "0"], ["third", "0"]]
    assert figures(page) == {"num-rows": "1"}


def test_errors_come_first_then_the_least_confident_rows(read_several):
    rows = [
        several(0, ("first",), [0.6, 0.1, 0.1], ("first",)),
        several(1, ("first",), [0.7, 0.1, 0.1], ("second",)),  # 0.9 from the truth
        several(2, ("first",), [0.95, 0.1, 0.1], ()),
        several(3, ("first",), [0.9, 0.3, 0.1]),
        several(4, (), [0.2, 0.45, 0.1], ()),
    ]
    assert places(read_several(rows)) == [f"row {number}" for number in (2, 1, 4, 0, 3)]
    assert places(read_several(rows, max_examples=2)) == ["row 2", "row 4"]


def test_a_class_that_is_rarely_wrong_is_kept(read_several):
    rows = [several(number, ("first",), [0.9, 0.1, 0.1], ()) for number in range(30)]
    rows.append(several(30, (), [0.1, 0.1, 0.3], ("third",)))
    page = read_several(rows, max_examples=4)
    assert places(page)[-1] == "row 30"
    wrong_for = [option.text for option in page.one("select", id="filter-error").all("option")]
    assert wrong_for == ["all classes", "first", "third"]


def test_labels_unknown_to_the_model_are_missing(read_several):
    page = read_several([several(0, ("first",), [0.9, 0.1, 0.1], ("first", "<new>"))])
    assert classes(page.one("article"))[0] == "<new> ✗ missing unknown to the model"
    assert figures(page)["num-wrong"] == "1"
    assert float(figures(page)["micro-f1"]) == pytest.approx(2 / 3, abs=1e-4)
    assert float(figures(page)["macro-f1"]) == pytest.approx(1 / 3, abs=1e-4)
    assert cells(page.one("table"))[-1][0] == "<new> (unknown to the model)"


def test_an_example_of_very_many_classes_is_bounded(read_several):
    names = [f"class {number}" for number in range(500)]
    probabilities = np.linspace(0.9, 0.1, 500)
    page = read_several([several(0, tuple(names[:300]), probabilities)], names)
    lines = classes(page.one("article"))
    assert len(lines) == 23
    assert lines[20] == "class 300 41.9 %"
    assert "… and 280 more classes that are true or predicted" in page.text


def test_probabilities_must_match_the_classes():
    report = MultilabelReport(NAMES, None, 300)
    with pytest.raises(ValueError, match="2 probabilities for 3 classes"):
        report.add(several(0, (), [0.1, 0.2]))
