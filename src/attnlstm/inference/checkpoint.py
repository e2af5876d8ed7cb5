"""A checkpoint file back into the model that it was written from."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

from attnlstm.config import TrainConfig
from attnlstm.config_checks import config_from_dict
from attnlstm.data import Encoder
from attnlstm.errors import UserError
from attnlstm.training.module import ClassificationModule, build_classifier


class TrainedModel(NamedTuple):
    """Everything that a checkpoint holds."""

    module: ClassificationModule
    encoder: Encoder
    config: TrainConfig
    label_names: list[str]
    trained_on: list[str]


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
        module = ClassificationModule(**arguments)
        module.load_state_dict(checkpoint["state_dict"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UserError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"ckpt={path} is not a checkpoint of this program, or of another version: {reason}"
        ) from error
    if backend is not None:
        model = arguments["config"]["model"]
        build_classifier(
            model | {"lstm": model["lstm"] | {"backend": backend}}, None, 2
        )  # or refuse
        for member in module.members:
            member.lstm.backend = backend
    return TrainedModel(
        module, module.encoder, config, arguments["label_names"], arguments["trained_on"]
    )


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
