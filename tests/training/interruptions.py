"""Runs that the tests interrupt."""

FEW_ROWS = ["data.batch_size=4", "trainer.limit_train_batches=14"]
"""Epochs of 14 training steps and 4 validation steps."""

SERIES = [*FEW_ROWS, "refit=true", "data.noise=0.1", "model.dropout=0.2"]
"""A run of two such epochs, and a refit with 2 * 14 steps."""


class Killed(BaseException):
    """Raised where, as after SIGKILL, no code of ours may run afterwards."""
