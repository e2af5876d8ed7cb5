"""A checkpoint file back into the model that it was written from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlstm.checkpoint.calibration import Calibration
from attnlstm.checkpoint.classifier import build_configured
from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.config.schema import TrainConfig
from attnlstm.data.encoders.encoding import Encoder
from attnlstm.nn.ensemble import Classifier, members_of


@dataclass(frozen=True)
class TrainedModel:
    """Everything that a checkpoint holds.

    Attributes:
        classifier: its logits are not calibrated, see `temperature`.
        encoder: turns texts or series into what the classifier reads.
        config: the configuration of the run.
        label_names: the classes, in the order of the logits.
        trained_on: the parts of the data that it was trained on, such as "train".
        calibration: None where no validation rows have been used for one.
        arguments: those that the training module was created with.
    """

    classifier: Classifier
    encoder: Encoder
    config: TrainConfig
    label_names: list[str]
    trained_on: list[str]
    calibration: Calibration | None
    arguments: dict[str, Any]

    @property
    def temperature(self) -> float:
        """What the classifier's logits are to be divided by."""
        return 1.0 if self.calibration is None else self.calibration.temperature


def load_checkpoint(path: str | Path, backend: str | None = None) -> TrainedModel:
    """Rebuild model, encoder and labels; nothing in the file is executed.

    Args:
        path: a file that `train.py` has written.
        backend: runs the LSTM instead of the one it was trained with.

    Raises:
        UserError: see `read_checkpoint`; or the backend cannot run this LSTM.
    """
    content = read_checkpoint(path)
    model = content.arguments["config"]["model"]
    classifier = build_configured(model, content.encoder, len(content.label_names))
    classifier.load_state_dict(content.weights)
    if content.calibration is not None:
        for member in members_of(classifier):
            member.expert_weight = content.calibration.expert_weight
    if backend is not None:
        build_configured(
            model | {"lstm": model["lstm"] | {"backend": backend}}, None, 2
        )  # or refuse
        for member in members_of(classifier):
            member.lstm.backend = backend
    return TrainedModel(
        classifier,
        content.encoder,
        content.config,
        content.label_names,
        content.arguments["trained_on"],
        content.calibration,
        content.arguments,
    )
