"""A checkpoint file back into the model that it was written from."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from attnlstm.config import TrainConfig
from attnlstm.config_checks import config_from_dict
from attnlstm.data import Encoder, encoder_from_dict
from attnlstm.errors import UserError
from attnlstm.training.classifier import Classifier, build_classifier, members_of

if TYPE_CHECKING:
    from attnlstm.training.module import ClassificationModule


@dataclass(frozen=True)
class TrainedModel:
    """Everything that a checkpoint holds.

    arguments: those that the training module was created with.
    """

    classifier: Classifier
    encoder: Encoder
    config: TrainConfig
    label_names: list[str]
    trained_on: list[str]
    arguments: dict[str, Any]

    @cached_property
    def module(self) -> "ClassificationModule":
        """The training module around this classifier, for Lightning to test or train."""
        # not at the top: importing Lightning takes three seconds, and predictions do without
        from attnlstm.training.module import ClassificationModule

        module = ClassificationModule(**self.arguments)
        module.classifier = self.classifier
        return module


def load_checkpoint(path: Path, backend: str | None = None) -> TrainedModel:
    """Rebuild model, encoder and labels; nothing in the file is executed.

    Args:
        path: a file that `train.py` has written.
        backend: runs the LSTM instead of the one it was trained with.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of this program.
    """
    if not path.is_file():
        what = "is a folder, not a checkpoint file" if path.is_dir() else "does not exist"
        raise UserError(f"ckpt={path} {what}: give a file such as runs/.../checkpoints/best.ckpt")
    checkpoint = _read(path)
    try:
        arguments = checkpoint["hyper_parameters"]
        config = config_from_dict(arguments["config"], TrainConfig)
        model, label_names = arguments["config"]["model"], arguments["label_names"]
        encoder = encoder_from_dict(arguments["encoder"])
        classifier = build_classifier(model, encoder, len(label_names))
        # the module's only weights: see `ClassificationModule`
        nn.ModuleDict({"classifier": classifier}).load_state_dict(checkpoint["state_dict"])
        trained = TrainedModel(
            classifier, encoder, config, label_names, arguments["trained_on"], arguments
        )
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UserError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"ckpt={path} is not a checkpoint of this program, or of another version: {reason}"
        ) from error
    if backend is not None:
        build_classifier(
            model | {"lstm": model["lstm"] | {"backend": backend}}, None, 2
        )  # or refuse
        for member in members_of(classifier):
            member.lstm.backend = backend
    return trained


def _read(path: Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a broken or hostile file makes the reader raise
        raise UserError(
            f"ckpt={path} cannot be read as a checkpoint: it is damaged, of another program, or "
            "holds something other than tensors and plain values, which is never loaded"
        ) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"ckpt={path} is not a checkpoint of this program: train one with train.py")
    return checkpoint
