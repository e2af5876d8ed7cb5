"""What a training run writes, and that it is reproducible."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from attnlstm.checkpoint.calibration import fit_temperature
from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.config.lightning import MONITORED
from attnlstm.config.schema import EvaluateConfig
from attnlstm.errors import UserError
from attnlstm.inference.evaluation import evaluate
from attnlstm.nn.ensemble import members_of
from attnlstm.training.module import restore_module

pytestmark = pytest.mark.slow


def read_metrics(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_run_folder_is_complete(small_run: Path) -> None:
    config = yaml.safe_load((small_run / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 2
    assert config["model"]["lstm"]["hidden_size"] == 8
    assert "${" not in (small_run / "config.yaml").read_text()
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (small_run / name).is_file()
    for name in ("confusion_matrix", "attention"):
        assert (small_run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((small_run / "metrics.json").read_text())
    names = {"loss", "accuracy", "macro_f1", "auroc", "calibration_error"}
    assert metrics.keys() == {f"test/{name}" for name in names}


def test_metrics_are_logged_as_csv_and_tensorboard_events(small_run: Path) -> None:
    rows = read_metrics(small_run)
    names = ("loss", "accuracy", "macro_f1", "auroc", "calibration_error")
    for epoch in ("0", "1"):
        validation = [row for row in rows if row["epoch"] == epoch and row["val/loss"]]
        assert len(validation) == 1
        assert all(validation[0][f"val/{name}"] for name in names)
    assert any(row["train/loss"] for row in rows)
    assert any(row["lr-AdamW"] for row in rows)

    events = EventAccumulator(str(small_run / "tensorboard"))
    events.Reload()
    assert {f"val/{name}" for name in names} <= set(events.Tags()["scalars"])
    for name in ("confusion_matrix", "attention"):
        drawn = [image.step for image in events.Images(f"val/{name}")]
        assert drawn == [14, 28]  # the last epoch's are not drawn again at the end of training
    logged = [event.value for event in events.Scalars("val/loss")]
    assert logged == pytest.approx([float(row["val/loss"]) for row in rows if row["val/loss"]])


def test_best_is_the_epoch_with_the_lowest_validation_loss(
    run_train: Callable, tmp_path: Path
) -> None:
    rising = ["scheduler=none", "optimizer=sgd", "+optimizer.maximize=true", "trainer.max_epochs=4"]
    result = run_train(tmp_path, *rising)
    losses = [float(row["val/loss"]) for row in read_metrics(tmp_path) if row["val/loss"]]
    assert losses.index(min(losses)) < 3
    best = torch.load(result.checkpoint, weights_only=True)
    assert best["epoch"] == losses.index(min(losses))
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["epoch"] == 3


@pytest.mark.parametrize("seed", [0, 7])
def test_the_same_seed_gives_the_same_run(run_train: Callable, tmp_path: Path, seed: int) -> None:
    overrides = [f"seed={seed}", "data.noise=0.1", "model.dropout=0.2"]
    first, second = (run_train(tmp_path / name, *overrides) for name in ("first", "second"))
    assert (tmp_path / "first/metrics.csv").read_bytes() == (
        tmp_path / "second/metrics.csv"
    ).read_bytes()
    weights = [result.module.state_dict() for result in (first, second)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_another_seed_gives_another_run(
    small_run: Path, run_train: Callable, tmp_path: Path
) -> None:
    run_train(tmp_path, "seed=1")
    assert (tmp_path / "metrics.csv").read_text() != (small_run / "metrics.csv").read_text()


def test_early_stopping_and_checkpoint_follow_any_metric(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(
        tmp_path,
        "trainer.max_epochs=10",
        "optimizer.lr=0.0",  # nothing improves
        "callbacks=early_stopping",
        "callbacks.early_stopping.monitor=val/macro_f1",
        "callbacks.early_stopping.mode=max",
        "callbacks.early_stopping.patience=2",
        "callbacks.checkpoint.monitor=val/accuracy",
        "callbacks.checkpoint.mode=max",
    )
    assert result.trainer.current_epoch == 3
    assert torch.load(result.checkpoint, weights_only=True)["epoch"] == 0


@pytest.mark.parametrize(
    "overrides",
    [
        ["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/acuracy"],
        ["callbacks.checkpoint.monitor=val/acuracy"],
    ],
)
def test_a_metric_that_is_not_logged_is_named(
    run_train: Callable, tmp_path: Path, overrides: list[str]
) -> None:
    with pytest.raises(UserError, match=r"did you mean val/accuracy\?"):
        run_train(tmp_path, *overrides)


def test_every_metric_that_can_be_monitored_is_logged(small_run: Path) -> None:
    logged = read_metrics(small_run)[0].keys()
    assert set(MONITORED) <= logged


def calibration_error(probabilities: np.ndarray, is_right: np.ndarray) -> float:
    """Expected calibration error over 15 equal bins of confidence (Guo et al., 2017)."""
    confidence = probabilities.max(axis=1)
    bins = np.clip(np.floor(confidence * 15).astype(int), 0, 14)
    gaps = [
        abs(is_right[bins == n].mean() - confidence[bins == n].mean()) * (bins == n).mean()
        for n in np.unique(bins)
    ]
    return float(sum(gaps))


def test_metrics_match_their_formulas(small_checkpoint: Path, tmp_path: Path) -> None:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score

    evaluation = evaluate(EvaluateConfig(ckpt=str(small_checkpoint)), tmp_path)
    rounded = evaluation.probabilities.round(decimals=5).numpy()
    probabilities = evaluation.probabilities.double().numpy()
    targets = evaluation.targets.numpy()
    predictions = probabilities.argmax(axis=1)
    assert evaluation.metrics == pytest.approx(
        {
            "test/loss": log_loss(targets, probabilities),  # without label smoothing
            "test/accuracy": accuracy_score(targets, predictions),
            "test/macro_f1": f1_score(targets, predictions, average="macro"),
            "test/auroc": np.mean([roc_auc_score(targets == c, rounded[:, c]) for c in range(9)]),
            "test/calibration_error": calibration_error(probabilities, predictions == targets),
        },
        abs=1e-6,
    )


def test_a_refit_trains_on_all_training_rows_and_replaces_best(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(tmp_path / "run", "refit=true", figures=True)
    folder = tmp_path / "run" / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt", "validated.ckpt"}
    best = torch.load(result.checkpoint, weights_only=True)
    assert best["epoch"] == 1
    assert best["global_step"] == 2 * 17  # batches of 16 of 270 rows
    assert best["hyper_parameters"]["trained_on"] == ["train", "validation"]
    assert best["hyper_parameters"]["class_counts"] == [30] * 9
    validated = torch.load(folder / "validated.ckpt", weights_only=True)
    assert validated["hyper_parameters"]["trained_on"] == ["train"]
    # the calibration is the validated model's, fitted to rows that it has not seen
    assert best["calibration"]["temperature"] == validated["calibration"]["temperature"] != 1
    assert torch.equal(best["calibration"]["scores"], validated["calibration"]["scores"])
    assert result.module.temperature == best["calibration"]["temperature"]

    evaluation = evaluate(EvaluateConfig(ckpt=str(result.checkpoint)), tmp_path)
    assert evaluation.metrics == pytest.approx(result.metrics, abs=1e-6)


def test_the_calibration_is_that_of_the_validation_rows(
    run_train: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    run_train(tmp_path / "run", "trainer.max_epochs=3", "model.ensemble_size=2")
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    calibration = torch.load(checkpoint, weights_only=True)["calibration"]
    config = EvaluateConfig(ckpt=str(checkpoint), data={"split": "validation"})
    evaluation = evaluate(config, tmp_path / "evaluated")
    p, targets = evaluation.probabilities.double(), evaluation.targets
    scores = 1 - p.gather(1, targets.unsqueeze(1)).squeeze(1)
    assert calibration["scores"].numpy() == pytest.approx(np.sort(scores.numpy()), abs=2e-6)
    # the temperature of calibrated probabilities is 1
    assert fit_temperature(p.log(), targets) == pytest.approx(1, abs=1e-4)
    error = evaluation.metrics["val/calibration_error"]
    line = rf"temperature {calibration['temperature']:.2f} fitted on 54 validation rows: "
    assert re.search(rf"{line}calibration error 0\.\d+ -> {error:.3f}", caplog.text)


def test_a_calibration_leaves_no_trace_in_the_curves(small_run: Path) -> None:
    validations = [row for row in read_metrics(small_run) if row["val/loss"]]
    assert [row["epoch"] for row in validations] == ["0", "1"]


def test_without_validation_rows_there_is_no_calibration(
    run_train: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = "callbacks.checkpoint.monitor=train/loss"
    result = run_train(tmp_path, "trainer.limit_val_batches=0", monitor)
    assert "not calibrated: no validation rows" in caplog.text
    assert load_checkpoint(result.checkpoint).calibration is None


def test_an_impossible_refit_is_reported(
    run_train: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_train(tmp_path, "refit=true", "scheduler=plateau")
    assert "no refit: scheduler.monitor=val/loss" in caplog.text
    assert not (tmp_path / "checkpoints" / "validated.ckpt").exists()


def test_a_plateau_counts_validations_not_epochs(run_train: Callable, tmp_path: Path) -> None:
    options = ["trainer.max_epochs=6", "trainer.check_val_every_n_epoch=2", "optimizer.lr=0.01"]
    never_better = ["scheduler.threshold=1.0", "scheduler.patience=0"]
    run_train(tmp_path, *options, "scheduler=plateau", *never_better)
    rates = [float(row["lr-AdamW"]) for row in read_metrics(tmp_path) if row["lr-AdamW"]]
    # halved after the validations of epochs 2 and 4; the third one ends the run
    assert sorted(set(rates), reverse=True) == [0.01, 0.005, 0.0025]


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.max_steps=5"],
        ["trainer.limit_val_batches=0"],
        ["trainer.enable_checkpointing=false"],
        ["optimizer.name=Adagrad"],
        ["scheduler=none", "scheduler.name=ExponentialLR", "scheduler.gamma=0.9"],
        ["optimizer=sgd", "scheduler=cosine", "trainer.accumulate_grad_batches=2"],
    ],
)
def test_trainer_and_optimizer_options_work_with_the_defaults(
    run_train: Callable, tmp_path: Path, overrides: list[str]
) -> None:
    assert run_train(tmp_path, *overrides, figures=True).metrics["test/accuracy"] > 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks.checkpoint.monitor=val/accuracy"], "set callbacks.checkpoint.mode=max"),
        (
            ["callbacks=early_stopping", "callbacks.early_stopping.mode=max"],
            "set callbacks.early_stopping.mode=min",
        ),
        (["trainer.accelerator=gpu"], "trainer: "),
    ],
)
def test_impossible_options_are_refused(
    run_train: Callable, tmp_path: Path, overrides: list[str], message: str
) -> None:
    if overrides == ["trainer.accelerator=gpu"] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match=message):
        run_train(tmp_path, *overrides)


def test_without_checkpoints_the_last_weights_are_tested(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(
        tmp_path, "callbacks.checkpoint=null", "callbacks.figures=null", figures=True
    )
    assert result.checkpoint is None
    assert result.metrics["test/accuracy"] > 0
    assert not (tmp_path / "checkpoints").exists()
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("package", ["wandb", "mlflow"])
def test_a_logger_that_is_not_installed_is_named(
    run_train: Callable, tmp_path: Path, package: str
) -> None:
    with pytest.raises(UserError, match=f"pip install {package}"):
        run_train(tmp_path, f"logger={package}")


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


def test_an_ensemble_trains_each_member_and_is_loaded_with_any_backend(
    run_train: Callable, tmp_path: Path
) -> None:
    result = run_train(tmp_path, "model.ensemble_size=2", "data.name=UnitTest", figures=True)
    first, second = result.module.members
    assert not torch.equal(first.head.weight, second.head.weight)
    assert result.checkpoint is not None
    loaded = restore_module(load_checkpoint(result.checkpoint, "naive"))
    assert [member.lstm.backend for member in loaded.members] == ["naive", "naive"]
    inputs, lengths = torch.randn(3, 5, 1), torch.tensor([5, 2, 4])
    with torch.no_grad():
        ours = result.module.eval()(inputs, lengths).logits
        torch.testing.assert_close(loaded.eval()(inputs, lengths).logits, ours, atol=1e-5, rtol=0)
