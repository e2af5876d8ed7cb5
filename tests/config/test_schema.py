"""The schema, the files in conf/, and the checks that both go through."""

import inspect
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from shutil import copytree
from typing import Any, get_args

import pytest

from attnlstm.cli.composition import compose_config
from attnlstm.config.checks import is_section, list_settings, validate
from attnlstm.config.data import DATA_CONFIGS, TextFilesConfig, Truncation
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
from attnlstm.config.schema import (
    Activation,
    Backend,
    EmbeddingConfig,
    EvaluateConfig,
    PoolingName,
    PredictConfig,
    SkipPoolingName,
    StemConfig,
    StemName,
    TrainConfig,
)
from attnlstm.errors import UserError
from attnlstm.training.optimization import check_optimization

CONF = Path(__file__).parents[2] / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
SETTINGS = list_settings(TrainConfig)
FREE = re.compile(r"(optimizer|scheduler)\.")
KEYS = [key for key in SETTINGS if key and not FREE.match(key)]


@cache
def compose(*overrides: str) -> TrainConfig:
    return compose_config(CONF, "train", TrainConfig, overrides)


NEEDS = {"data=hub_text": ("data.path=user/name",)}
"""What a choice is nothing without."""


def choices() -> list[str]:
    """Every choice of every group, as an override; data/text is what others build on."""
    files = [path.relative_to(CONF).with_suffix("") for path in FILES]
    return [
        f"{path.parent}={path.name}"
        for path in files
        if path.parent.name and path.parts[0] != "hydra" and path != Path("data/text")
    ]


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def nested_in_its_source(key: str, value: Any) -> dict[str, Any]:
    """The same, of a source that has the key."""
    values = nested(key, value)
    name = key.removeprefix("data.").split(".")[0]
    if key.startswith("data.") and name in OPTIONS:
        values["data"]["source"] = OPTIONS[name][1][0]
    return values


# ------------------------------------------------------------------------------------------ conf/


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONF)))
def test_every_file_opens_with_the_command_that_uses_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    # Hydra reads its header from the first lines only.
    command = lines[1] if lines[0].startswith("# @package ") else lines[0]
    assert re.match(r"# python (train|evaluate|predict)\.py", command)
    group, choice = path.parent.relative_to(CONF), path.stem
    if group.parts and group.parts[0] != "hydra" and choice != "default":
        assert f"{group}={choice}" in command


@pytest.mark.slow
@pytest.mark.parametrize("choice", choices())
def test_every_choice_is_valid_alone_and_combined(choice: str) -> None:
    config = compose(choice, *NEEDS.get(choice, ()))
    check_optimization(config.optimizer, config.scheduler)
    others = ("experiment=plain_lstm", "debug=overfit", "optimizer=sgd", "scheduler=one_cycle")
    group = choice.split("=")[0]
    combined = [other for other in others if not other.startswith(group)]
    config = compose(choice, *NEEDS.get(choice, ()), *combined)
    check_optimization(config.optimizer, config.scheduler)


def test_choices_have_their_effect() -> None:
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


def test_default_preset_leaves_sharding_to_the_batch_sampler() -> None:
    for preset in ("default", "cpu", "gpu", "ddp"):
        assert compose(f"trainer={preset}").trainer.use_distributed_sampler is False


def test_numbers_are_read_as_floats() -> None:
    config = compose("optimizer.lr=3e-3", "data.noise=1")
    assert config.optimizer["lr"] == 0.003
    assert isinstance(config.optimizer["weight_decay"], float)  # 1e-2 in the yaml
    assert isinstance(config.data.noise, float)


def test_optimizer_takes_keys_that_its_file_leaves_out() -> None:
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


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("experiment/mine.yaml", "model: {lstm: {hiden_size: 3}}", "In .experiment/mine.: unknown"),
        (
            "experiment/mine.yaml",
            "trainer: {max_epochs: abc}",
            "In .experiment/mine.: trainer.max_epochs=abc",
        ),
        ("experiment/mine.yaml", "data: {val_fraction: 2.0}", "data.val_fraction=2.0"),
        ("experiment/mine.yaml", "data: {name: x", "experiment/mine.yaml"),
        ("experiment/mine.yaml", "sed: 3", "unknown key sed: did you mean seed"),
        ("experiment/mine.yaml", "defaults: [{override /data: archiv}]", "data=archiv.*archive"),
    ],
)
def test_mistakes_in_a_file_are_told_too(
    tmp_path: Path, file: str, text: str, message: str
) -> None:
    copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / file).write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(UserError, match=message):
        compose_config(tmp_path / "conf", "train", TrainConfig, ["experiment=mine"])


# -------------------------------------------------------------------------- overrides and mistakes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # unknown keys: the full key and the nearest
        ("hidden_size=3", "unknown key hidden_size: did you mean model.lstm.hidden_size"),
        ("model.hidden_size=3", "unknown key model.hidden_size: did you mean model.lstm.hidden_s"),
        ("trainer.max_epoch=3", "unknown key trainer.max_epoch: did you mean trainer.max_epochs"),
        ("epochs=3", "did you mean trainer.max_epochs"),
        ("lr=1", "did you mean optimizer.lr"),
        ("batch_size=1", "did you mean data.batch_size"),
        ("callbacks.early_stopping.patence=3", "callbacks.early_stopping.patience"),
        ("logger.wandb.offlin=true", "logger.wandb.offline"),
        ("model.lstm={hiden_size:3}", "model.lstm.hidden_size"),
        ("hydra.run.dri=x", "hydra.run.dir"),
        ("model/poling=mean", "did you mean model/pooling"),
        ("experimnt=basic_motions", "did you mean experiment"),
        ("+trainer.max_epoch=3", "unknown key trainer.max_epoch: did you mean trainer.max_epochs"),
        ("++model.lstm={hiden_size:3}", "model.lstm.hidden_size"),
        ("+model/poling=mean", "did you mean model/pooling"),
        ("+hydra.run.dri=x", "hydra.run.dir"),
        # types
        ("+trainer.max_epochs=abc", "trainer.max_epochs=abc: expected int >= -1 or null"),
        ("++data.batch_size=abc", "data.batch_size=abc: expected int"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: expected int >= -1 or null"),
        ("trainer.gradient_clip_val=abc", "expected int >= 0 or float >= 0 or null"),
        (
            "trainer.devices=[a]",
            "expected int >= -1 or auto or .* or a list of int",
        ),
        ("model.lstm.hidden_size=1.5", "model.lstm.hidden_size=1.5: expected int"),
        ("model.lstm.bidirectional=3", "expected bool"),
        ("model.lstm=3", "model.lstm=3: expected a section"),
        ("data.name=null", "data.name=null: expected str"),
        ("data.name=[a,b]", "expected str"),
        ("seed=true", "seed=true: expected int"),
        # choices
        ("model/pooling=hn_qery", "did you mean hn_query.*hn_query, last_state, learned_query"),
        ("+experiment=plain_lst", "did you mean plain_lstm"),
        ("experiment=plain_lst", "did you mean plain_lstm"),
        ("optimizer=adamww", "did you mean adamw.*adam, adamw, adamw_texts, nadam, radam"),
        ("optimizer=null", "optimizer=null: give the name of a choice"),
        ("model.lstm.backend=fusd", "one of auto, naive, fused, torch, native; did you mean fused"),
        ("trainer.precision=17", "expected one of .*bf16-mixed.*did you mean 16"),
        ("trainer.accelerator=gpuu", "auto, cpu, gpu.*did you mean gpu"),
        ("trainer.strategy=dpp", "did you mean ddp"),
        ("trainer.deterministic=wran", "did you mean warn"),
        ("trainer.max_time=1h", "expected DD:HH:MM:SS"),
        ("trainer.devices=all", "trainer.devices=all: expected .*auto"),
        ("data=texts", "data=texts: did you mean text"),
        ("data.sampler=balance", "did you mean balanced"),
        # ranges
        ("data.val_fraction=1.5", "data.val_fraction=1.5: expected float > 0 and < 1$"),
        ("++data.val_fraction=0", "expected float > 0"),
        ("data.batch_size=0", "data.batch_size=0: expected (int|float) >= "),
        ("data.num_workers=-1", "data.num_workers=-1: expected (int|float) >= "),
        ("data.noise=-0.1", "data.noise=-0.1: expected float >= 0"),
        ("data.noise=nan", "data.noise=NaN: expected float >= 0"),
        ("model.dropout=2", "model.dropout=2: expected (int|float) >= "),
        ("model.lstm.hidden_size=0", "model.lstm.hidden_size=0: expected (int|float) >= "),
        ("model.lstm.proj_size=128", "model.lstm.proj_size=128 must be smaller than model.lstm.h"),
        ("loss.label_smoothing=2", "loss.label_smoothing=2: expected (int|float) >= "),
        ("seed=-1", "seed=-1: expected (int|float) >= "),
        ("trainer.limit_val_batches=1.5", "expected int >= 0 or float >= 0 and <= 1 or null"),
        # combinations and grammar
        ("logger.wandb.offline=true", "logger.wandb.offline=true: the section is null"),
        (
            "data.train=a.csv",
            r"data.train=a.csv means nothing to data=archive: choose data=text_files or "
            "data=series_files, or leave data.train out",
        ),
        ("data.max_length=5", "data.max_length=5 means nothing to data=archive"),
        ("data=hub_text", "data.path must be given: add data.path=..."),
        ("model.embedding.vectors=a.txt", "model.embedding.vectors are for texts: choose data="),
        (
            "model.pooling.name=mean",
            r"unknown key model\.pooling\.name: did you mean model\.pooling\?",
        ),
        ("model.pooling=[]", "pools nothing: name one, such as"),
        ("model.pooling=[mean,max,mean]", r"model\.pooling=\[mean,max,mean\] names one twice"),
        ("model.pooling=[mean,men]", r"model\.pooling=.*did you mean mean"),
        ("model.pooling=men", "model.pooling=men: expected .*did you mean mean"),
        ("model.skip_pooling=[last_state]", "model.skip_pooling=.*expected"),
        ("model.stem.stride=0", "expected int >= 1 and <= 65536 or null"),
        ("model/stem=incepton", "did you mean inception"),
        ("validation=fold", "did you mean folds"),
        ("num_folds=1", "num_folds=1: expected int >= 2 and <= 20$"),
        ("refit=maybe", "refit=maybe: expected .*did you mean"),
        ("budget.steps=0", "budget.steps=0: expected (int|float) >= "),
        ("budget.minutes=0", "budget.minutes=0: expected float > 0"),
        ("seed=0,1", "sweep, with -m"),
        ("seed", "cannot read .*seed': write key=value"),
        ("a[=3", "cannot read"),
        ("~model.lstm", "cannot be removed"),
        ("~model/pooling", "cannot be removed"),
        ("loss.label_smoothing=${model.dropuot}", "loss.label_smoothing.*model.dropuot"),
    ],
)
def test_mistyped_overrides(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compose(override)


TEXTS = ("bbc_news", "text_files", "hub_text")
SERIES = ("archive", "series_files")
FILES_OF_ROWS = ("text_files", "series_files")

OPTIONS = {
    "path": ("user/name", ("hub_text",)),
    "subset": ("small", ("hub_text",)),
    "train": (["a.csv", "b.csv"], FILES_OF_ROWS),
    "validation": ("a.csv", FILES_OF_ROWS),
    "test": ("a.csv", FILES_OF_ROWS),
    "text_column": ("x", ("text_files", "hub_text")),
    "label_column": ("x", ("text_files", "hub_text", "series_files")),
    "id_column": ("x", ("series_files",)),
    "time_column": ("x", ("series_files",)),
    "channel_columns": (["x"], ("series_files",)),
    "delimiter": (";", FILES_OF_ROWS),
    "max_length": (5, TEXTS),
    "tokenizer": ({"kind": "bpe"}, TEXTS),
    "truncation": ("tail", TEXTS),
    "noise": (0.5, SERIES),
    "normalize": (False, SERIES),
}
"""Keys that only some sources have: a value, and these sources."""


@pytest.mark.parametrize("source", DATA_CONFIGS)
@pytest.mark.parametrize("name", OPTIONS)
def test_data_options_that_mean_nothing_to_a_source(source: str, name: str) -> None:
    value, sources = OPTIONS[name]
    given = {"data": {"source": source, name: value}}
    if source in sources:
        held = validate(given, TrainConfig).data.model_dump()[name]
        assert (held | value if isinstance(value, dict) else value) == held
        return
    empty = {"data": {"source": source, name: None}}  # means nothing, and does no harm
    assert validate(empty, TrainConfig).data == DATA_CONFIGS[source]()
    with pytest.raises(
        UserError, match=f"^data.{name}=.* means nothing to data={source}: "
    ) as told:
        validate(given, TrainConfig)
    for choice in sources:
        assert f"data={choice}" in str(told.value)


def test_strings_count_as_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "3")  # as a job of SLURM has it
    assert compose_config(CONF, "train", TrainConfig, ["num_threads=${oc.env:THREADS}"]) == (
        compose("num_threads=3")
    )
    assert compose("data.name=7").data.name == "7"
    monkeypatch.setenv("THREADS", "three")
    with pytest.raises(UserError, match="num_threads=three: expected int >= 1 or null"):
        compose_config(CONF, "train", TrainConfig, ["num_threads=${oc.env:THREADS}"])


@pytest.mark.parametrize("name", ["my.csv", "folder/my files (1).parquet"])
def test_files_in_place_of_a_source(name: str) -> None:
    with pytest.raises(UserError, match=r"did you mean data=text_files data.train=") as told:
        compose(f"data={name}")
    for source in ("text_files", "series_files"):
        assert f"data={source} data.train={name}" in str(told.value)


def test_settings_of_a_section_that_is_off() -> None:
    off, given = "callbacks.figures=null", "callbacks.figures.every_n_epochs=7"
    with pytest.raises(UserError, match=r"=7: the section is null, .*turn it on first") as told:
        compose(off, given)
    turned_on = str(told.value).rpartition("as in ")[2]
    figures = compose(off, turned_on).callbacks.figures
    assert figures is not None
    assert figures.every_n_epochs == 7
    assert compose(given, off).callbacks.figures is None
    wandb = compose("logger.wandb.offline=true", "logger=wandb").logger.wandb
    assert wandb is not None
    assert wandb.offline


def test_data_of_texts_brings_a_model_of_texts() -> None:
    config = compose("data=text_files", "data.train=[a.csv,'b c.csv']", "data.delimiter=';'")
    assert config.data.train == ["a.csv", "b c.csv"]
    assert config.data.delimiter == ";"
    assert (config.data.source, config.data.name) == ("text_files", "text_files")
    assert isinstance(config.data, TextFilesConfig)
    assert config.model.embedding != EmbeddingConfig()
    assert compose().model.embedding == EmbeddingConfig()
    same = compose("data=bbc_news").data
    assert (same.tokenizer, same.max_length) == (config.data.tokenizer, config.data.max_length)
    given = compose("data=text_files", "model.embedding.size=7", "data.tokenizer.kind=bpe")
    assert given.model.embedding.size == 7
    assert given.data.tokenizer == config.data.tokenizer.model_copy(update={"kind": "bpe"})


def test_paths_and_columns_need_no_quotes_on_top_of_the_shells() -> None:
    path = "my files/it's a=b (1).csv"
    config = compose("data=text_files", f"data.train={path}", "data.text_column=what was said?")
    assert config.data.train == path
    assert config.data.text_column == "what was said?"


def test_evaluate_knows_only_its_own_keys() -> None:
    assert compose_config(CONF, "evaluate", EvaluateConfig, ["ckpt=a"]).ckpt == "a"
    for override, message in (
        ("seed=3", "ckpt must be given|unknown key seed"),
        ("trainer=gpu", "trainer=gpu: expected a section"),
        ("trainer.max_epochs=3", "unknown key trainer.max_epochs"),
        ("model.lstm.backend=nave", "did you mean naive"),
    ):
        with pytest.raises(UserError, match=message):
            compose_config(CONF, "evaluate", EvaluateConfig, ["ckpt=a", override])
    with pytest.raises(UserError, match="ckpt must be given"):
        compose_config(CONF, "evaluate", EvaluateConfig)


def test_predict_knows_only_its_own_keys() -> None:
    config = compose_config(CONF, "predict", PredictConfig, ["ckpt=a", "input=[a.csv,b.csv]"])
    assert (config.ckpt, config.input) == ("a", ["a.csv", "b.csv"])
    for override, message in (
        ("data.noise=1", "unknown key data.noise"),
        ("outptu=a.csv", "did you mean output"),
        ("data.batch_size=0", "expected (int|float) >= "),
    ):
        with pytest.raises(UserError, match=message):
            compose_config(CONF, "predict", PredictConfig, ["ckpt=a", override])
    with pytest.raises(UserError, match="ckpt must be given"):
        compose_config(CONF, "predict", PredictConfig)


# ------------------------------------------------------------------------------ plain dictionaries


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_found_when_a_letter_is_missing(key: str) -> None:
    misspelt = key[:-2] + key[-1]
    with pytest.raises(UserError) as caught:
        validate(nested_in_its_source(misspelt, None), TrainConfig)
    found = (
        "model.lstm" if key == "model.stem" else key
    )  # a letter from "stm", the one as the other
    assert str(caught.value) == f"unknown key {misspelt}: did you mean {found}?"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_refuses_what_is_not_its_type(key: str) -> None:
    wrong = [[0]] if is_section(SETTINGS[key]) or key in ("optimizer", "scheduler") else {"a": 0}
    with pytest.raises(UserError, match=f"^{re.escape(key)}=.*: expected "):
        validate(nested_in_its_source(key, wrong), TrainConfig)


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["seed=3", *choices()])
def test_a_config_survives_the_way_to_plain_values_and_back(choice: str) -> None:
    config = compose(choice, *NEEDS.get(choice, ()))
    values = config.model_dump()
    assert json.loads(json.dumps(values)) == values
    assert validate(values, TrainConfig) == config


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.source", "text_file", "expected one of archive, .*; did you mean text_files"),
        ("data.on_bad_row", "skip", "expected one of stop, drop"),
        ("data.truncation", "end", "expected one of head, tail"),
        ("data.tokenizer.kind", "words", "did you mean word"),
        ("data.tokenizer.vocab_size", 1, "expected (int|float) >= "),
        ("data.tokenizer.min_frequency", 0, "expected (int|float) >= "),
        ("data.test_fraction", 1.0, "expected float > 0 and < 1"),
        ("data.batch_tokens", 0, "expected (int|float) >= "),
        ("data.max_length", 0, "expected (int|float) >= "),
        ("data.train", ["a.csv", True], r"expected str or a list of str or null"),
        ("data.channel_columns", "x", "expected a list of str or null"),
        ("model.embedding.size", 0, "expected (int|float) >= "),
        ("model.embedding.word_dropout", 1.0, "expected float >= 0 and < 1"),
        ("model.embedding.embedding_dropout", -0.1, "expected (int|float) >= "),
        ("model.embedding.variational_dropout", 1.0, "expected (int|float) >= "),
        ("loss.focal_gamma", -1.0, "expected (int|float) >= "),
    ],
)
def test_values_that_do_not_fit(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"{re.escape(key)}=.*{message}"):
        validate(nested_in_its_source(key, value), TrainConfig)


def test_keys_left_out_have_their_defaults() -> None:
    assert validate({}, TrainConfig) == TrainConfig()


def test_dictionaries_of_strangers_import_and_call_nothing() -> None:
    with pytest.raises(UserError, match=r"unknown key model\._target_"):
        validate({"model": {"_target_": "os.system"}}, TrainConfig)
    with pytest.raises(UserError, match="unknown key 3"):
        validate({3: 4}, TrainConfig)  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"unknown key model\.lstm"):
        validate({"model.lstm": {}}, TrainConfig)


# ----------------------------------------------------------------------- what the schema stands for


def test_trainer_config_is_the_signature_of_lightnings_trainer() -> None:
    import lightning

    objects = {"self", "logger", "callbacks", "plugins", "default_root_dir"}
    signature = inspect.signature(lightning.Trainer.__init__).parameters
    expected = {name: value.default for name, value in signature.items() if name not in objects}
    ours = {name: field.default for name, field in TrainerConfig.model_fields.items()}
    assert ours == expected
    assert list(ours) == list(expected)


def test_sections_hold_arguments_of_the_classes_that_they_name() -> None:
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
    from lightning.pytorch.loggers import MLFlowLogger, WandbLogger

    from attnlstm.config.schema import LSTMConfig
    from attnlstm.nn import LSTM

    for config, cls in (
        (CheckpointConfig, ModelCheckpoint),
        (EarlyStoppingConfig, EarlyStopping),
        (WandbConfig, WandbLogger),
        (MLFlowConfig, MLFlowLogger),
        (LSTMConfig, LSTM),
    ):
        names = set(config.model_fields) - {"every_n_minutes"}  # a number of ours
        assert names <= set(inspect.signature(cls.__init__).parameters), cls


def test_choices_are_those_of_the_libraries_and_registries() -> None:
    from lightning.fabric.connector import _PRECISION_INPUT
    from lightning.pytorch.accelerators import AcceleratorRegistry
    from lightning.pytorch.strategies import StrategyRegistry

    from attnlstm.data import SOURCES
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
    assert names(PoolingName) == set(POOLINGS)
    assert names(SkipPoolingName) <= set(POOLINGS)
    assert names(StemName) == {"none", *STEMS}
    assert list(DATA_CONFIGS) == [model().source for model in DATA_CONFIGS.values()]  # type: ignore[attr-defined]
    assert set(DATA_CONFIGS) == set(SOURCES)
    assert names(Truncation) == set(TRUNCATIONS)


def test_checking_a_config_imports_no_heavy_library() -> None:
    program = (
        "import sys; from pathlib import Path; from attnlstm.config.schema import TrainConfig; "
        "from attnlstm.cli.composition import compose_config; "
        f"compose_config(Path({str(CONF)!r}), 'train', TrainConfig); "
        "print([name for name in ('torch', 'lightning', 'datasets', 'aeon', 'numpy') "
        "if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
