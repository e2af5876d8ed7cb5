"""Training runs on files of texts and series, and with word vectors from a file."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.config.schema import EvaluateConfig
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate
from attnlstm.nn.ensemble import members_of

pytestmark = pytest.mark.slow


def test_texts_from_files_to_metrics(
    run_train: Callable,
    text_files: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    overrides = [*text_files, "refit=true", "trainer.max_epochs=12", "optimizer.lr=0.05"]
    result = run_train(tmp_path, *overrides, "data.val_fraction=0.2", figures=True)
    assert result.metrics["test/accuracy"] > 0.9  # a word of six gives the class away
    assert "48 train, 12 validation, 20 test texts, 2 classes" in caplog.text
    assert re.search(r"train: 2\d\d tokens, \d+\.\d\d% of them unknown", caplog.text)
    assert re.search(r"\d+ batches, \d+\.\d % padding", caplog.text)
    assert "refit on 60 rows" in caplog.text
    encoder = torch.load(result.checkpoint, weights_only=True)["hyper_parameters"]["encoder"]
    assert encoder["kind"] == "text"
    assert encoder["max_length"] == 2000


def test_the_lstm_reads_one_end_of_longer_texts(
    run_train: Callable, text_files: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    overrides = ["trainer.max_epochs=1", "model.max_steps=2", "data.truncation=tail"]
    result = run_train(tmp_path, *text_files, *overrides)
    line = r"the LSTM reads the last 2 tokens of \d+ longer texts; the n-grams read all"
    assert re.search(line, caplog.text)
    classifier = load_checkpoint(result.checkpoint).classifier.eval()
    attention = classifier(torch.tensor([[2, 3, 4, 5, 0], [2, 3, 0, 0, 0]]), [4, 2]).attention
    assert (attention > 0).tolist() == [
        [False, False, True, True, False],
        [True, True] + 3 * [False],
    ]


def test_validation_texts_decide_the_weight_of_the_ngrams(
    run_train: Callable, text_files: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    overrides = ["trainer.max_epochs=2", "model.ensemble_size=2", "data.val_fraction=0.4"]
    result = run_train(tmp_path / "run", *text_files, *overrides)
    line = r"weight (\S+) of the n-grams fitted on 24 validation rows: accuracy \S+ -> (\S+)"
    weight, accuracy = map(float, re.search(line, caplog.text).groups())
    members = members_of(load_checkpoint(result.checkpoint).classifier)
    assert [member.expert_weight for member in members] == [weight, weight]
    config = EvaluateConfig(ckpt=str(result.checkpoint), data={"split": "validation"})
    evaluation = evaluate(config, tmp_path / "evaluated")
    assert evaluation.metrics["val/accuracy"] == pytest.approx(accuracy, abs=1e-4)


def test_fixed_convolutions_count_half(
    compose_train: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from attnlstm.training.run import train

    caplog.set_level("INFO")
    small = ["model.lstm.hidden_size=8", "model/stem=none", "trainer.max_epochs=1"]
    quick = ["validation=holdout", "refit=false", "baseline=none", "callbacks.figures=null"]
    result = train(compose_train(*small, *quick), tmp_path)
    classifier = load_checkpoint(result.checkpoint).classifier
    assert classifier.expert is not None
    assert classifier.expert_weight == 0.5
    assert "temperature" in caplog.text
    assert "weight" not in caplog.text


def test_rows_are_encoded_once_for_all_runs(
    run_train: Callable, text_files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    modified = []
    for seed in ("model.dropout=0", "model.dropout=0.3", "seed=1"):
        run_train(tmp_path / seed, *text_files, seed, "refit=true", "trainer.max_epochs=1")
        files = [path for path in (tmp_path / "cache").rglob("*") if path.suffix]
        modified.append({path: path.stat().st_mtime_ns for path in files})
    # two encoders, without and with the validation rows, and two files each for train, validation,
    # test and train with validation; the encoders are equal, so they share the test rows
    assert len(modified[0]) == 2 + 2 * 4
    assert modified[1] == modified[0]
    assert modified[2].items() > modified[0].items()  # another seed carves other rows
    assert len(modified[2]) == len(modified[0]) + 7


@pytest.mark.parametrize("option", ["data.sampler=balanced", "data.batch_tokens=60"])
def test_other_batches(
    run_train: Callable, text_files: list[str], tmp_path: Path, option: str
) -> None:
    for data in ([], text_files):
        result = run_train(tmp_path / str(len(data)), *data, option)
        assert result.metrics["test/loss"] < 10
        if option.startswith("data.batch_tokens") and not data:
            assert result.trainer.global_step > 2 * 40  # 216 series of about 15 steps: 54 batches


def test_series_from_files(run_train: Callable, tmp_path: Path) -> None:
    records = [
        f"s{row},{time},{value:.3f},{-value:.3f},{'up' if row % 2 else 'down'}"
        for row in range(40)
        for time, value in enumerate(np.linspace(0, 1 if row % 2 else -1, row % 5 + 2) + row)
    ]
    path = tmp_path / "walks.csv"
    path.write_text("\n".join(["id,time,x,y,label", *records]))
    result = run_train(tmp_path / "run", "data=series_files", f"data.train={path}")
    parameters = torch.load(result.checkpoint, weights_only=True)["hyper_parameters"]
    assert parameters["encoder"]["channel_names"] == ["x", "y"]
    assert parameters["label_names"] == ["down", "up"]
    evaluation = evaluate(EvaluateConfig(ckpt=str(result.checkpoint)), tmp_path)
    assert evaluation.metrics == pytest.approx(result.metrics, abs=1e-5)
    assert len(evaluation.targets) == 8


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    words = {"was": 1, "fine": 2, "lovely": 3, "elsewhere": 4}
    path.write_text("".join(f"{word} {n} {n}.5 -{n} 0 0 1\n" for word, n in words.items()))
    return path


@pytest.mark.parametrize("freeze", [True, False])
def test_pretrained_vectors(
    run_train: Callable,
    text_files: list[str],
    tmp_path: Path,
    vectors: Path,
    freeze: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    options = [f"model.embedding.vectors={vectors}", f"model.embedding.freeze={freeze}"]
    result = run_train(tmp_path / "run", *text_files, *options)
    size = result.module.encoder.vocab_size
    assert f"has vectors for 3 of {size} tokens ({100 * 3 / size:.1f} %)" in caplog.text
    embedding = result.module.classifier.embedding.eval()
    token = torch.tensor([[result.module.encoder.vocabulary()["fine"]]])
    given = torch.tensor([[[2, 2.5, -2, 0, 0, 1]]])
    assert torch.equal(embedding(token), given) == freeze
    torch.testing.assert_close(embedding(token), given, atol=0.5, rtol=0)
    evaluation = evaluate(EvaluateConfig(ckpt=str(result.checkpoint)), tmp_path)
    vectors.unlink()  # the checkpoint needs no other file
    again = evaluate(EvaluateConfig(ckpt=str(result.checkpoint)), tmp_path)
    assert again.metrics == evaluation.metrics == pytest.approx(result.metrics, abs=1e-5)


def test_vectors_of_another_size(
    run_train: Callable, text_files: list[str], tmp_path: Path, vectors: Path
) -> None:
    options = [f"model.embedding.vectors={vectors}", "model.embedding.size=5"]
    with pytest.raises(UserError, match=r"vectors of 6 numbers: set model\.embedding\.size=6"):
        run_train(tmp_path / "run", *text_files, *options)


def test_malformed_vectors_stop_or_are_dropped(
    run_train: Callable,
    text_files: list[str],
    tmp_path: Path,
    vectors: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    vectors.write_text(vectors.read_text() + "slow 1 2 x 4 5 6\n")
    options = [*text_files, f"model.embedding.vectors={vectors}", "trainer.max_epochs=1"]
    with pytest.raises(UserError, match=r"vectors\.txt.*line 5"):
        run_train(tmp_path / "stop", *options)
    run_train(tmp_path / "drop", *options, "data.on_bad_row=drop")
    assert f"dropped 1 malformed line of {vectors}" in caplog.text


def test_missing_data_is_refused(run_train: Callable, tmp_path: Path) -> None:
    for overrides, message in (
        (["data=text_files"], "data.train must be given"),
        (["data=series_files"], "data.train must be given"),
        (["data=text_files", "data.train=gone.csv"], "data.train=gone.csv does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            run_train(tmp_path, *overrides)
