"""Train a classifier and test it."""

from pathlib import Path

from attnlstm.cli.entry_point import entry_point
from attnlstm.config.schema import TrainConfig


@entry_point("train", TrainConfig)
def main(config: TrainConfig, run_dir: Path) -> dict[str, float]:
    """Train and test; imports late, so that a mistyped command line is answered at once."""
    from attnlstm.training.run import train

    return train(config, run_dir).metrics


if __name__ == "__main__":
    main()
