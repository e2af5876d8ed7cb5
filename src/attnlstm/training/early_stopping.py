"""Early stopping that tells a model that has not begun to learn from one that has stopped."""

from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping

LEAST_FALL = 0.05
"""Share of the first training loss by which it has to fall before anything may stop."""


class EarlyStoppingPastPlateau(EarlyStopping):
    """Lightning's EarlyStopping, which begins to count once the training loss has fallen.

    A recurrent model can stay at the loss of guessing for many epochs and then learn quickly.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first_loss: float | None = None  # of training
        self.has_fallen = False

    def on_validation_end(
        self, trainer: lightning.Trainer, module: lightning.LightningModule
    ) -> None:
        loss = trainer.callback_metrics.get("train/loss")  # of the epoch before this one
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
