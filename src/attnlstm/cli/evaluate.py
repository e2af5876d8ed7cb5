"""Evaluate a checkpoint on rows with labels."""

from pathlib import Path

from attnlstm.cli.entry_point import entry_point
from attnlstm.config.schema import EvaluateConfig


@entry_point("evaluate", EvaluateConfig)
def main(config: EvaluateConfig, run_dir: Path) -> dict[str, float]:
    """Evaluate; imports late, so that a mistyped command line is answered at once."""
    from attnlstm.inference.evaluation import evaluate

    return evaluate(config, run_dir).metrics


if __name__ == "__main__":
    main()
