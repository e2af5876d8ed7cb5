"""Files that are there in full or not at all, whenever a run is killed."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from attnlstm.checkpoint.file import seal


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which takes its place once it is on the disk.

    After an error, or where the folder is gone, `path` is as it was before.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are replaced by newer ones as a whole; reading executes nothing.

    Unlike Lightning's it does not create a run folder anew that somebody has removed.
    """

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
