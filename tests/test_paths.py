"""Functions that take a path also accept a string."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import attnlstm
from attnlstm.checkpoint.content import read_checkpoint
from attnlstm.cli.composition import compose_config
from attnlstm.config.data import TokenizerConfig
from attnlstm.config.schema import EvaluateConfig, PredictConfig
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.data.encoders.tokenizer import train_tokenizer
from attnlstm.data.formats.npz_file import NpzFile
from attnlstm.data.formats.opening import open_table
from attnlstm.data.formats.ts_file import TsFile
from attnlstm.data.formats.vectors import load_vectors
from attnlstm.inference.evaluation import evaluate
from attnlstm.inference.prediction import predict
from attnlstm.inference.report.classification import ClassificationReport

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_jobs(
    compose_train: Callable,
    small_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from attnlstm.training.run import train

    monkeypatch.chdir(ROOT)
    ckpt = f"ckpt={small_checkpoint}"
    evaluation = compose_config("conf", "evaluate", EvaluateConfig, [ckpt])
    evaluate(evaluation, str(tmp_path / "evaluated"))
    assert (tmp_path / "evaluated" / "metrics.json").exists()

    rows = str(tmp_path / "rows.npz")
    np.savez(rows, X=np.zeros((2, 7, 12), dtype=np.float32))
    predict(
        compose_config("conf", "predict", PredictConfig, [ckpt, f"input={rows}"]), str(tmp_path)
    )
    assert (tmp_path / "predictions.csv").exists()

    config = compose_train("debug=fast_dev_run", "model.lstm.hidden_size=4", "baseline=none")
    train(config, str(tmp_path / "trained"))
    assert (tmp_path / "trained" / "config.yaml").exists()


@pytest.mark.slow
def test_checkpoints(small_checkpoint: Path) -> None:
    assert attnlstm.load(str(small_checkpoint)).label_names == [str(n) for n in range(1, 10)]
    assert read_checkpoint(str(small_checkpoint)).label_names[0] == "1"


def test_files_of_data(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,b\n")
    assert open_table(str(tmp_path / "rows.csv")).column_names() == ["text", "label"]
    (tmp_path / "vectors.txt").write_text("a 1 2\nb 3 4\n")
    vectors = load_vectors(str(tmp_path / "vectors.txt"), {"a": 0}, skip_malformed=False)
    assert vectors.vectors.tolist() == [[1, 2]]
    np.savez(tmp_path / "rows.npz", X=np.zeros((2, 3, 1)), y=["a", "b"])
    assert len(list(NpzFile(str(tmp_path / "rows.npz"), key="data.train", name="rows"))) == 2
    (tmp_path / "rows.ts").write_text("@classLabel true a b\n@data\n1,2:a\n3,4:b\n")
    assert len(list(TsFile(str(tmp_path / "rows.ts"), key="data.train", name="rows"))) == 2
    tokenizer = train_tokenizer(["a b", "b c"], TokenizerConfig())
    path = str(tmp_path / "tokenizer.json")
    tokenizer.save(path)
    read = TextEncoder.from_file(path, max_length=None, truncation="head")
    assert read.vocabulary() == tokenizer.get_vocab()


def test_a_report(tmp_path: Path) -> None:
    ClassificationReport(["a", "b"], None, 1).write(str(tmp_path / "report.html"), title="none")
    assert (tmp_path / "report.html").exists()
