"""Rebuild a model from its checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlstm.checkpoint.calibration import Calibration
from attnlstm.checkpoint.classifier import build_configured
from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.config.data import Task
from attnlstm.config.schema import TrainConfig
from attnlstm.data.encoders.encoding import Encoder
from attnlstm.nn.ensemble import Classifier, members_of


@dataclass(frozen=True)
class TrainedModel:
    """A model and everything else in its checkpoint that describes it.

    Attributes:
        classifier: its logits are not calibrated, see `temperature`.
        encoder: turns texts or series into the classifier's inputs.
        config: the configuration of the run.
        label_names: the names of the classes, or of the numbers of a regression, in the order of
            the logits.
        classes: their labels; other than the names if the model was fitted on other than strings.
        trained_on: the parts of the data it was trained on, such as "train".
        calibration: None if the model is not calibrated.
        arguments: the arguments of its `ClassificationModule`.
    """

    classifier: Classifier
    encoder: Encoder
    config: TrainConfig
    label_names: list[str]
    classes: list[Any]
    trained_on: list[str]
    calibration: Calibration | None
    arguments: dict[str, Any]

    @property
    def task(self) -> Task:
        """What the model predicts."""
        assert self.config.task != "auto"
        return self.config.task

    @property
    def temperature(self) -> float:
        """The number to divide the classifier's logits by."""
        return 1.0 if self.calibration is None else self.calibration.temperature


def load_checkpoint(path: str | Path, backend: str | None = None) -> TrainedModel:
    """Rebuild the model, encoder and labels; nothing in the file is executed.

    Args:
        path: a file that `train.py` has written.
        backend: runs the LSTM; None: the one it was trained with.

    Raises:
        UserError: see `read_checkpoint`; or the backend cannot run this LSTM.
    """
    content = read_checkpoint(path)
    model, task = content.arguments["config"]["model"], content.config.task
    assert task != "auto"
    if backend is not None:
        model = model | {"lstm": model["lstm"] | {"backend": backend}}
    classifier = build_configured(model, content.encoder, len(content.label_names), task)
    classifier.load_state_dict(content.weights)
    if content.calibration is not None:
        for member in members_of(classifier):
            member.expert_weight = content.calibration.expert_weight
    return TrainedModel(
        classifier,
        content.encoder,
        content.config,
        content.label_names,
        content.classes,
        content.arguments["trained_on"],
        content.calibration,
        content.arguments,
    )
