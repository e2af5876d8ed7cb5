"""How Lightning writes checkpoints here."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from attnlstm.checkpoint.file import read_file, seal
from attnlstm.files import replacing


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Replaces checkpoints as a whole, and does not recreate a run folder that was removed."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        # into memory first: torch turns a full disk into errors of its own
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        path = Path(path)
        path.parent.mkdir(exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(buffer.getbuffer())
            seal(partial)

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read a checkpoint as evaluation and prediction do, with the same checks."""
        return read_file(Path(path), "ckpt")
