"""The schema and the files in conf/."""

import inspect
import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from attnlstm.config.checks import validate
from attnlstm.config.data import SOURCES, Truncation
from attnlstm.config.lightning import (
    Accelerator,
    CheckpointConfig,
    EarlyStoppingConfig,
    MLFlowConfig,
    Precision,
    Strategy,
    TrainerConfig,
    WandbConfig,
)
from attnlstm.config.model import Activation, Backend, SkipPoolingName, StemConfig
from attnlstm.config.schema import TrainConfig
from attnlstm.training.optimization import check_optimization
from tests.config.composed import CONF, compose

FILES = sorted(CONF.rglob("*.yaml"))
NEEDS = {"data=hub_text": ("data.path=user/name",)}
"""The settings that a choice requires."""


def choices() -> list[str]:
    """Return every choice of every group as an override, without data/text, a base of others."""
    files = [path.relative_to(CONF).with_suffix("") for path in FILES]
    return [
        f"{path.parent}={path.name}"
        for path in files
        if path.parent.name and path.parts[0] != "hydra" and path != Path("data/text")
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_begins_with_the_command_that_uses_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    # Hydra reads its header from the first lines only.
    command = lines[1] if lines[0].startswith("# @package ") else lines[0]
    assert re.match(r"# python (train|evaluate|predict)\.py", command)
    group, choice = path.parent.relative_to(CONF), path.stem
    if group.parts and group.parts[0] != "hydra" and choice != "default":
        assert f"{group}={choice}" in command


@pytest.mark.slow
@pytest.mark.parametrize("choice", choices())
def test_every_choice_is_valid_alone_and_combined_and_as_plain_values(choice: str) -> None:
    config = compose(choice, *NEEDS.get(choice, ()))
    check_optimization(config.optimizer, config.scheduler)
    values = config.model_dump()
    assert json.loads(json.dumps(values)) == values
    assert validate(values, TrainConfig) == config
    others = ("experiment=plain_lstm", "debug=overfit", "optimizer=sgd", "scheduler=one_cycle")
    group = choice.split("=")[0]
    combined = [other for other in others if not other.startswith(group)]
    config = compose(choice, *NEEDS.get(choice, ()), *combined)
    check_optimization(config.optimizer, config.scheduler)


@pytest.mark.slow
def test_choices_take_effect() -> None:
    config = compose("experiment=quick", "trainer=cpu", "model/pooling=mean")
    assert (config.trainer.accelerator, config.budget.steps) == ("cpu", 300)
    plain = compose("experiment=plain_lstm").model
    assert (plain.pooling, plain.stem) == (["hn_query"], StemConfig())
    assert config.model.pooling == ["mean"]
    assert compose().model.pooling == ["hn_query", "max"]
    assert compose("model.pooling=max").model.pooling == "max"
    assert compose("model.pooling=[mean,last_state]").model.pooling == ["mean", "last_state"]
    assert compose("model/stem=conv").model.stem.name == "conv"
    assert compose("model/stem=none").model.stem == StemConfig()
    loggers = compose("logger=[wandb,mlflow]").logger
    assert None not in (loggers.wandb, loggers.mlflow)
    assert compose().callbacks.early_stopping is None
    assert compose("callbacks=early_stopping").callbacks.early_stopping is not None
    assert compose("callbacks=early_stopping").callbacks.figures == compose().callbacks.figures
    assert compose("optimizer=sgd").optimizer["name"] == "SGD"
    assert compose("optimizer=sgd", "experiment=quick").optimizer["name"] == "SGD"


def test_presets_leave_sharding_to_the_batch_sampler() -> None:
    for preset in ("default", "cpu", "gpu", "ddp"):
        assert compose(f"trainer={preset}").trainer.use_distributed_sampler is False


def test_numbers_are_read_as_floats() -> None:
    config = compose("optimizer.lr=3e-3", "data.noise=1")
    assert config.optimizer["lr"] == 0.003
    assert isinstance(config.optimizer["weight_decay"], float)  # 1e-2 in the yaml
    assert isinstance(config.data.noise, float)


def test_optimizer_accepts_keys_that_its_file_omits() -> None:
    for prefix in ("", "+", "++"):
        config = compose(f"{prefix}optimizer.betas=[0.8,0.9]", f"{prefix}optimizer.lr=0.1")
        assert config.optimizer == {
            "name": "AdamW",
            "lr": 0.1,
            "weight_decay": 0.01,
            "betas": [0.8, 0.9],
        }
    section = compose("optimizer={name: SGD, momentum: 0.5}").optimizer
    assert section == {"name": "SGD", "lr": 0.002, "weight_decay": 0.01, "momentum": 0.5}
    assert "weight_decay" not in compose("~optimizer.weight_decay").optimizer


@pytest.mark.slow
def test_a_plus_makes_no_difference() -> None:
    for prefix in ("", "+", "++"):
        assert compose(f"{prefix}experiment=quick").budget.steps == 300
        assert compose(f"{prefix}seed=3").seed == 3
        wandb = compose("logger=wandb", f"{prefix}logger.wandb.offline=true").logger.wandb
        assert wandb is not None
        assert wandb.offline


def test_interpolation_shares_a_value() -> None:
    assert compose("scheduler=one_cycle", "optimizer.lr=0.5").scheduler["max_lr"] == 0.5
    assert compose("model.dropout=0.3", "loss.label_smoothing=${model.dropout}").loss == (
        compose("loss.label_smoothing=0.3").loss
    )


def test_trainer_config_is_the_signature_of_lightnings_trainer() -> None:
    import lightning

    objects = {"self", "logger", "callbacks", "plugins", "default_root_dir"}
    signature = inspect.signature(lightning.Trainer.__init__).parameters
    expected = {name: value.default for name, value in signature.items() if name not in objects}
    ours = {name: field.default for name, field in TrainerConfig.model_fields.items()}
    assert ours == expected
    assert list(ours) == list(expected)


def test_sections_hold_arguments_of_their_classes() -> None:
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

    from attnlstm.config.model import LSTMConfig
    from attnlstm.nn import LSTM

    for config, cls in (
        (CheckpointConfig, ModelCheckpoint),
        (EarlyStoppingConfig, EarlyStopping),
        (WandbConfig, WandbLogger),
        (MLFlowConfig, MLFlowLogger),
        (LSTMConfig, LSTM),
    ):
        names = set(config.model_fields) - {"every_n_minutes"}  # not Lightning's
        assert names <= set(inspect.signature(cls.__init__).parameters), cls


def test_choices_match_the_libraries_and_registries() -> None:
    from lightning.fabric.connector import _PRECISION_INPUT
    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import StrategyRegistry

    from attnlstm.data.encoders.text import TRUNCATIONS
    from attnlstm.nn.backends import BACKENDS
    from attnlstm.nn.cell import ACTIVATIONS
    from attnlstm.nn.pooling import POOLINGS
    from attnlstm.nn.stem import STEMS

    def names(choices: Any) -> set[str]:
        return set(get_args(choices))

    assert names(Accelerator) == {"auto", "gpu", *AcceleratorRegistry.available_accelerators()}
    assert names(Strategy) == {"auto", *StrategyRegistry.available_strategies()}
    precisions = {choice for option in get_args(_PRECISION_INPUT) for choice in get_args(option)}
    assert names(Precision) == precisions - {"16", "32", "64"}
    assert names(Backend) == {"auto", *BACKENDS}
    assert names(Activation) == set(ACTIVATIONS)
    assert {path.stem for path in (CONF / "model/pooling").iterdir()} == set(POOLINGS)
    assert names(SkipPoolingName) <= set(POOLINGS)
    assert {path.stem for path in (CONF / "model/stem").iterdir()} == {"none", *STEMS}
    assert {path.stem for path in (CONF / "data").iterdir()} == {"text", *SOURCES}
    assert names(Truncation) == set(TRUNCATIONS)
