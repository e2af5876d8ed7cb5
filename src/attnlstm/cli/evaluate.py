"""Evaluate a checkpoint on rows with labels."""

from pathlib import Path

from attnlstm.checkpoint.find import find_checkpoint
from attnlstm.cli.entry_point import entry_point
from attnlstm.config.schema import EvaluateConfig


@entry_point("evaluate", EvaluateConfig)
def main(config: EvaluateConfig, run_dir: Path) -> dict[str, float]:
    """Evaluate; imports late, so that a mistyped command line is answered at once."""
    ckpt = find_checkpoint(config.ckpt, config.runs_dir)
    config = config.model_copy(update={"ckpt": str(ckpt)})
    from attnlstm.inference.evaluation import evaluate

    return evaluate(config, run_dir).metrics


if __name__ == "__main__":
    main()
