"""The verbs evaluate and predict as the command line calls them, in this process."""

import csv
from pathlib import Path

from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import EvaluateConfig, PredictConfig
from attnlstm.inference.evaluation import Evaluation, evaluate
from attnlstm.inference.prediction import predict
from tests.config.composed import CONF


def run_evaluate(run_dir: Path, *overrides: str) -> Evaluation:
    given = ["trainer.accelerator=cpu", *overrides]
    return evaluate(compose_config(CONF, "evaluate", EvaluateConfig, given), run_dir)


def run_predict(run_dir: Path, *overrides: str) -> dict[str, float]:
    given = ["trainer.accelerator=cpu", *overrides]
    return predict(compose_config(CONF, "predict", PredictConfig, given), run_dir)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
