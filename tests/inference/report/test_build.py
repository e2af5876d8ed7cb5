"""The page that belongs to a model."""

import numpy as np
import pytest
import torch

from attnlstm.checkpoint.load import TrainedModel
from attnlstm.data.encoders.series import SeriesEncoder
from attnlstm.inference.report.build import build_report
from attnlstm.nn.classifier import SequenceClassifier
from attnlstm.nn.ensemble import ClassifierEnsemble
from attnlstm.nn.lstm import LSTM
from attnlstm.nn.pooling import build_pooling
from tests.inference.report.page import figures
from tests.inference.report.rows import make_prediction, numbers, several

NAMES = ["small", "large"]


@pytest.fixture(scope="module")
def build_model(compose_train):
    """`build_model(task)`: an untrained ensemble for a task, with two classes or targets."""
    config = compose_train()

    def build(task):
        members = [
            SequenceClassifier(
                LSTM(1, 2, batch_first=True), build_pooling("mean", 2), num_classes=2, task=task
            )
            for _ in range(2)
        ]
        for member in members:
            if task == "regression":
                member.target_scale.fit(torch.tensor([[-1.0, -100.0], [1.0, 100.0]]))
        encoder = SeriesEncoder(torch.zeros(1), torch.ones(1))
        of_task = config.model_copy(update={"task": task})
        ensemble = ClassifierEnsemble(members)
        return TrainedModel(ensemble, encoder, of_task, NAMES, NAMES, ["train"], None, {})

    return build


@pytest.mark.parametrize(
    ("task", "row", "figure", "shown"),
    [
        ("classification", make_prediction(0, "small", [0.9, 0.1], "small"), "accuracy", "1.0000"),
        ("ordinal", make_prediction(0, "small", [0.9, 0.1], "large"), "accuracy", "0.0000"),
        ("multilabel", several(0, ("small",), [0.9, 0.1], ("small",)), "macro-f1", "0.5000"),
        ("regression", numbers(0, [2.0, 20.0], ("0", "0"), half_width=5), "coverage", "50.0 %"),
    ],
)
def test_each_task_has_its_page(build_model, read_report, task, row, figure, shown):
    page = read_report(build_report(build_model(task), 300), [row])
    assert figures(page)[figure] == shown


def test_errors_are_compared_on_the_scale_of_training(build_model, read_report):
    series = np.zeros((3, 1))
    rows = [numbers(0, [0.0, 150.0], ("0", "0"), value=series)]
    rows.append(numbers(1, [2.0, 0.0], ("0", "0"), value=series))
    page = read_report(build_report(build_model("regression"), 2), rows)
    first, second = page.all("article")
    assert first.one("h3").text == "row 1"
    assert [first.attributes["data-target"], second.attributes["data-target"]] == ["0", "1"]
