"""Altered checkpoints."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def changed(checkpoint: Path, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return the checkpoint after a change to its content."""
    loaded = torch.load(checkpoint, weights_only=True)
    change(loaded)
    return saved(loaded)
