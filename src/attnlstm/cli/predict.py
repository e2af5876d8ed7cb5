"""Predict the classes of texts or series with a checkpoint."""

from pathlib import Path

from attnlstm.checkpoint.find import find_checkpoint
from attnlstm.cli.entry_point import entry_point
from attnlstm.config.schema import PredictConfig


@entry_point("predict", PredictConfig)
def main(config: PredictConfig, run_dir: Path) -> dict[str, float]:
    """Predict; imports late, so that a mistyped command line is answered at once."""
    ckpt = find_checkpoint(config.ckpt, config.runs_dir)
    config = config.model_copy(update={"ckpt": str(ckpt)})
    from attnlstm.inference.prediction import predict

    return predict(config, run_dir)


if __name__ == "__main__":
    main()
