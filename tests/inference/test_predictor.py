"""The predictor with several workers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.data.rows import Row
from attnlstm.inference.predictor import Predictor

pytestmark = pytest.mark.slow


class Watched(nn.Module):
    """Notes how many threads compute at the same time."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.running: list[None] = []
        self.seen: list[int] = []

    def forward(self, inputs: Tensor, lengths: Tensor) -> object:
        self.running.append(None)
        result = self.classifier(inputs, lengths)
        torch.randn(100_000).sort()  # long enough for another thread
        self.seen.append(len(self.running))
        self.running.pop()
        return result


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_true_precisions_change_the_default_dtype_in_one_thread_at_a_time(
    small_checkpoint: Path, precision: str
) -> None:
    trained = load_checkpoint(small_checkpoint)
    watched = Watched(trained.classifier)
    rows = [Row("series", number, torch.randn(7, 12).numpy()) for number in range(20)]
    fabric = Fabric(accelerator="cpu", precision=precision)
    predictor = Predictor(replace(trained, classifier=watched), fabric, 1, num_workers=4)
    assert len(predictor.predict(rows)) == len(watched.seen) == len(rows)
    assert max(watched.seen) == 1
    assert torch.get_default_dtype() == torch.float32
