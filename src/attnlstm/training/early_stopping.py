"""Early stopping that waits until a model has begun to learn."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

LEAST_FALL = 0.05
"""How far the training loss has to fall first, as a share of the first epoch's loss."""


class EarlyStoppingPastPlateau(EarlyStopping):
    """Lightning's EarlyStopping, which starts counting once the training loss has fallen.

    A recurrent model can stay at the loss of guessing for many epochs and then learn quickly.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first_loss: float | None = None  # training loss
        self.has_fallen = False

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        loss = trainer.callback_metrics.get("train/loss")  # of the previous epoch
        if trainer.sanity_checking or loss is None:
            return
        if self.first_loss is None:
            self.first_loss = float(loss)
        self.has_fallen |= float(loss) < (1 - LEAST_FALL) * self.first_loss
        if self.has_fallen:
            super().on_validation_end(trainer, module)

    def state_dict(self) -> dict[str, Any]:
        own = {"first_loss": self.first_loss, "has_fallen": self.has_fallen}
        return super().state_dict() | own

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.first_loss = state_dict["first_loss"]
        self.has_fallen = state_dict["has_fallen"]
