"""The text in the figures."""

import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from attnlstm.training.figures import draw_attention, draw_confusion_matrix


def test_the_confusion_matrix_names_its_split() -> None:
    confusion = MulticlassConfusionMatrix(2)
    confusion.update(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]))
    for split in ("validation", "test"):
        (axes,) = draw_confusion_matrix(confusion, ["a", "b"], split).axes
        assert axes.get_title() == f"confusion matrix, {split} split"


def test_the_attention_names_its_split_and_fits() -> None:
    figure = draw_attention([("row 0: a", torch.tensor([0.2, 0.8]))], "validation")
    assert figure.get_suptitle().startswith("attention, validation split\n")
    figure.draw_without_rendering()
    (title,) = figure.texts
    left, right = title.get_window_extent().intervalx
    assert left >= 0
    assert right <= figure.bbox.width
