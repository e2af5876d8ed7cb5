"""A loss or gradient that is NaN or infinite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attnlstm.errors import UserError
from attnlstm.training.module import ClassificationModule

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    original, seen = ClassificationModule.training_step, []

    def training_step(module: ClassificationModule, batch: Any, batch_idx: int) -> Tensor:
        seen.append(batch.rows.tolist())
        loss = original(module, batch, batch_idx)
        if len(seen) == 20 and where == "loss":
            module.loss_sum = module.loss_sum + torch.inf
        if len(seen) == 20 and where == "gradient":
            loss.register_hook(lambda gradient: gradient * torch.nan)
        return loss

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    with pytest.raises(UserError) as raised:
        run_train(tmp_path)
    rows = ", ".join(map(str, seen[19]))
    assert f"NaN or infinite in step 19, training rows {rows}: look at" in str(raised.value)
    newest = tmp_path / "checkpoints" / "last.ckpt"
    assert str(raised.value).endswith(f"the newest good checkpoint is {newest}")
    weights = torch.load(newest, weights_only=True)["state_dict"].values()
    assert all(torch.isfinite(weight).all() for weight in weights)


def test_the_rows_of_all_accumulated_batches_are_named(
    run_train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = ClassificationModule.training_step, []

    def training_step(module: ClassificationModule, batch: Any, batch_idx: int) -> Tensor:
        seen.append(batch.rows.tolist())
        loss = original(module, batch, batch_idx)
        return loss * torch.nan if len(seen) == 5 else loss

    monkeypatch.setattr(ClassificationModule, "training_step", training_step)
    with pytest.raises(UserError) as raised:
        run_train(tmp_path, "trainer.accumulate_grad_batches=2")
    rows = ", ".join(map(str, [*seen[4], *seen[5]]))
    assert f"NaN or infinite in step 2, training rows {rows}: look at" in str(raised.value)
