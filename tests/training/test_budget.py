"""How long a run trains, and what else is left to the data."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from attnlstm.checkpoint.classifier import build_configured
from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig
from attnlstm.data.sources.source import open_sources
from attnlstm.data.splits import split_sources
from attnlstm.nn import RandomConvolutionClassifier
from attnlstm.nn.ensemble import members_of
from attnlstm.training.budget import (
    VALIDATIONS,
    Size,
    choose_batch_size,
    choose_steps,
    count_steps,
    describe_duration,
    settle,
    settle_epochs,
    settle_length,
    time_step,
)
from attnlstm.training.preparation import build_datamodule, build_module, encode

pytestmark = pytest.mark.slow

CONF = Path(__file__).parents[2] / "conf"
SERIES = Size(rows=60, steps=300.0, longest=320, num_folds=5, is_text=False)

compose = partial(compose_config, CONF, "train", TrainConfig)


def test_null_becomes_a_number() -> None:
    config = compose()
    assert (config.data.batch_size, config.model.stem.stride) == (None, None)
    assert (config.model.stem.kernel_sizes, config.validation) == (None, "auto")
    settled = settle(config, SERIES)
    assert settled.data.batch_size == 15
    assert settled.model.stem.stride == 4  # 75 steps are left
    assert settled.model.stem.kernel_sizes is not None
    assert (settled.validation, settled.model.ensemble_size) == ("folds", 5)
    assert settle(settled, replace_size(rows=999, steps=9.0)) == settled  # as a resumed run has it
    held_out = settle(config, replace_size(num_folds=0))
    assert (held_out.validation, held_out.model.ensemble_size) == ("holdout", 1)


@pytest.mark.parametrize("given", ["num_thresholds=3", "dilations=[1,5]"])
def test_one_option_of_the_fixed_convolutions_is_given(given: str) -> None:
    config = compose([f"model.random_convolutions.{given}"])
    build_configured(config.model.model_dump(), encoder=None, num_classes=2)  # as a run does
    settled = settle(config, replace_size(num_folds=0))
    built = build_configured(settled.model.model_dump(), encoder=None, num_classes=2)
    expert = members_of(built)[0].expert
    assert isinstance(expert, RandomConvolutionClassifier)
    shown = str(expert.dilations).replace(" ", "")
    assert given in (f"num_thresholds={expert.num_thresholds}", f"dilations={shown}")


def replace_size(**changes: float) -> Size:
    return SERIES._replace(**changes)  # type: ignore[arg-type]


def test_given_values_stay() -> None:
    given = [
        "data.batch_size=7",
        "model.stem.stride=2",
        "model.stem.kernel_sizes=[3]",
        "model.ensemble_size=3",
    ]
    settled = settle(compose(given), replace_size(num_folds=0))
    assert settled.data.batch_size == 7
    assert (settled.model.stem.stride, settled.model.stem.kernel_sizes) == (2, [3])
    assert settled.model.ensemble_size == 3
    without = settle(compose(["model/stem=none"]), SERIES)
    assert (without.model.stem.stride, without.model.stem.kernel_sizes) == (None, None)
    conv = settle(compose(["model/stem=conv"]), SERIES)
    assert (conv.model.stem.stride, conv.model.stem.kernel_sizes) == (4, None)


@pytest.mark.parametrize("num_steps", [1, 14, 15, 37, 600, 10_000])
@pytest.mark.parametrize("batches", [1, 14, 5000])
def test_epochs_take_the_steps_and_the_last_is_validated(num_steps: int, batches: int) -> None:
    trainer = settle_epochs(compose(), batches, num_steps).trainer
    epochs, every = trainer.max_epochs, trainer.check_val_every_n_epoch
    assert epochs is not None
    assert every is not None
    assert epochs * batches >= num_steps
    assert (epochs - every) * batches < num_steps or epochs == every  # not one validation too many
    assert epochs % every == 0
    assert epochs // every <= 2 * VALIDATIONS


@pytest.mark.parametrize(("every", "epochs"), [("2", 716), ("5", 715), ("null", 715)])
def test_how_often_to_validate_can_be_given(every: str, epochs: int) -> None:
    interval = ["trainer.val_check_interval=100"] * (every == "null")
    config = compose([f"trainer.check_val_every_n_epoch={every}", *interval])
    trainer = settle_epochs(config, batches=14, num_steps=10_000).trainer
    assert str(trainer.check_val_every_n_epoch or "null") == every
    assert trainer.max_epochs == epochs


def test_an_interval_in_batches_counts_in_every_epoch() -> None:
    config = compose(["trainer.val_check_interval=0.5"])
    trainer = settle_epochs(config, batches=14, num_steps=10_000).trainer
    assert (trainer.check_val_every_n_epoch, trainer.max_epochs) == (1, 715)


@pytest.mark.parametrize(
    ("validation_seconds", "refits"), [(0, False), (0, True), (1, False), (3, False), (1, True)]
)
def test_validations_and_a_refit_count_as_time(validation_seconds: float, refits: bool) -> None:
    """The budget is 100 seconds, and a step takes a tenth of one."""
    size = Size(rows=160, steps=20.0, longest=20, num_folds=0, is_text=False)
    config = compose(["trainer.max_epochs=null", "budget.minutes=1.6667", "budget.steps=100000"])
    settled = settle_length(config, size, 1, 0.1, validation_seconds, refits).trainer
    assert settled.max_epochs is not None
    validations = 1 + settled.max_epochs // (settled.check_val_every_n_epoch or 1)
    spent = 0.1 * settled.max_epochs * (1 + refits) + validations * validation_seconds
    assert 70 <= spent <= 106  # whole rounds of epochs, up to the next validation


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], 20),
        (["trainer.limit_train_batches=3"], 3),
        (["trainer.limit_train_batches=30"], 20),
        (["trainer.limit_train_batches=0.5"], 10),
        (["trainer.overfit_batches=2"], 2),
        (["trainer.accumulate_grad_batches=3"], 7),
        (["trainer.limit_train_batches=5", "trainer.accumulate_grad_batches=2"], 3),
    ],
    ids=str,
)
def test_the_steps_of_an_epoch_are_lightnings(overrides: list[str], expected: int) -> None:
    assert count_steps(compose(overrides), 20) == expected


def test_a_budget_grows_with_the_rows_between_its_bounds() -> None:
    for is_text in (False, True):
        sizes = [replace_size(rows=rows, is_text=is_text) for rows in (2, 60, 3000, 10**6)]
        steps = [choose_steps(size) for size in sizes]
        assert steps == sorted(steps)
        assert steps[0] == choose_steps(replace_size(rows=4, is_text=is_text)) >= 500
        assert steps[-1] == choose_steps(replace_size(rows=10**7, is_text=is_text)) > steps[1]
        batches = [choose_batch_size(size) for size in sizes]
        assert batches == sorted(batches)
        assert batches[0] > 1  # a batch has statistics


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "1 s"), (42.4, "42 s"), (89, "89 s"), (600, "10 min"), (5300, "88 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert describe_duration(seconds) == words


def test_long_durations_are_in_hours() -> None:
    assert describe_duration(3 * 3600 + 1800) == "3.5 h"


LEFT_TO_THE_DATA = ["trainer.max_epochs=null"]


def settled_trainer(run_dir: Path) -> tuple[int, int]:
    trainer = yaml.safe_load((run_dir / "config.yaml").read_text())["trainer"]
    return trainer["max_epochs"], trainer["check_val_every_n_epoch"]


@pytest.mark.parametrize(
    ("overrides", "epochs"),
    [
        ([*LEFT_TO_THE_DATA, "budget.steps=37"], 3),  # of 14 steps each
        (["trainer.max_epochs=1", "budget.steps=37"], 1),
        ([*LEFT_TO_THE_DATA, "budget.steps=300", "budget.minutes=0.25"], 1),  # 15 seconds
        ([*LEFT_TO_THE_DATA, "budget.steps=20", "budget.minutes=9"], 2),
        ([*LEFT_TO_THE_DATA, "budget.steps=3", "trainer.accumulate_grad_batches=14"], 3),
    ],
    ids=str,
)
def test_the_run_takes_the_steps_of_its_budget(
    run_train: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    overrides: list[str],
    epochs: int,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("attnlstm.training.budget.time_step", lambda *_: 1.0)  # a second
    result = run_train(tmp_path, *overrides)
    assert result.trainer.current_epoch == epochs
    assert settled_trainer(tmp_path)[0] == epochs
    steps = result.trainer.global_step
    epochs_shown = "1 epoch" if epochs == 1 else f"{epochs} epochs"
    assert f"training takes {steps} steps in {epochs_shown}, about {steps} s" in caplog.text


def test_a_budget_of_less_than_an_epoch_is_kept(run_train: Callable, tmp_path: Path) -> None:
    left_to_the_budget = ["trainer.max_epochs=null", "budget.steps=3"]
    result = run_train(tmp_path, *left_to_the_budget, "trainer.accumulate_grad_batches=2")
    assert (result.trainer.global_step, result.trainer.current_epoch) == (3, 1)
    assert result.checkpoint is not None  # the epoch ends in a validation


def test_timing_a_step_changes_nothing(compose_train: Callable) -> None:
    small = ["data.batch_size=16", "model.lstm.hidden_size=4", "model.random_convolutions=null"]
    config = compose_train("validation=holdout", *small)
    encoded = encode(config, split_sources(open_sources(config.data), config.data, config.seed))
    module, datamodule = build_module(config, encoded), build_datamodule(config, encoded)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    assert 0 < time_step(module, datamodule, torch.device("cpu")) < 60
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_a_refit_takes_as_many_steps_as_the_best_epoch(run_train: Callable, tmp_path: Path) -> None:
    rising = ["scheduler=none", "optimizer=sgd", "+optimizer.maximize=true", "optimizer.lr=0.1"]
    result = run_train(tmp_path, *rising, "trainer.max_epochs=3", "refit=true")
    validated = torch.load(tmp_path / "checkpoints" / "validated.ckpt", weights_only=True)
    assert validated["global_step"] == 14  # the first epoch's
    refit = torch.load(result.checkpoint, weights_only=True)
    assert refit["global_step"] == 17  # of the training and validation rows: an epoch, not three


def test_few_validation_rows_mean_no_refit(
    run_train: Callable,
    text_files: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    run_train(tmp_path / "few", *text_files, "refit=auto", "trainer.max_epochs=1")
    assert "no refit: it would add 6 validation rows to 54; refit=true trains on" in caplog.text
    assert not (tmp_path / "few" / "checkpoints" / "validated.ckpt").exists()
    run_train(tmp_path / "many", "refit=auto", "trainer.max_epochs=1")  # 54 rows to 216
    assert (tmp_path / "many" / "checkpoints" / "validated.ckpt").exists()
