"""The page for rows with one class each."""

from collections import Counter

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from attnlstm.inference.report.classification import ClassificationReport
from tests.inference.report.page import figures, places
from tests.inference.report.rows import BAD, NAMES, example, make_prediction

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
    report = ClassificationReport(NAMES, lambda text: drawn.append(text) or [], max_examples=10)
    for number in range(2000):
        probabilities = rng.dirichlet(np.ones(3)).tolist()
        prediction = NAMES[int(np.argmax(probabilities))]
        report.add(
            make_prediction(number, prediction, probabilities, [None, *NAMES][number % 4], "text")
        )
    assert 10 <= len(drawn) < 300


# Counts


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
    assert figures(page) == {
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
    assert figures(page) == {"num-rows": "2"}
    assert [select.attributes["id"] for select in page.all("select")] == ["filter-predicted"]
    assert not list(page.all("table", class_name="confusion"))
    assert "wrong" not in page.one(class_name="cards").text
    assert Counter(th.text for th in page.all("th", scope="row")) == Counter(NAMES)


def test_no_good_rows(read):
    page = read([BAD, BAD])
    assert figures(page) == {"num-rows": "0", "num-bad": "2"}
    assert page.one(id="showing").text == "There are no rows."


def test_labels_unknown_to_the_model_are_errors(read):
    page = read([example(0, label="new"), example(1, label="first")])
    assert figures(page)["accuracy"] == "0.5000"
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
