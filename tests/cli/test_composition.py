"""Command lines, and one-line errors that name the key and the fix."""

from pathlib import Path
from shutil import copytree

import pytest

from attnlstm.cli.composition import (
    compose_config,
    compose_jobs,
    initialized,
    list_jobs,
    normalize,
)
from attnlstm.config.checks import validate
from attnlstm.config.data import SOURCES
from attnlstm.config.model import EmbeddingConfig
from attnlstm.config.schema import EvaluateConfig, PredictConfig, TrainConfig
from attnlstm.data.sources.text_files import TextFilesSource
from attnlstm.errors import UserError
from tests.config.composed import CONF, OPTIONS, compose


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
def test_mistakes_in_a_file(tmp_path: Path, file: str, text: str, message: str) -> None:
    copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf" / file).write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(UserError, match=message):
        compose_config(tmp_path / "conf", "train", TrainConfig, ["experiment=mine"])


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
        # nothing is similar
        ("+model.foo=3", "^unknown key model.foo; --help=all lists the keys$"),
        ("foo=3", "^unknown key foo; --help=all lists the keys$"),
        ("+hydra.qq=3", "^unknown key hydra.qq; --cfg hydra lists the keys$"),
        # types
        ("+trainer.max_epochs=abc", "trainer.max_epochs=abc: expected int >= -1 .* or null"),
        ("++data.batch_size=abc", "data.batch_size=abc: expected int"),
        ("trainer.max_epochs=abc", "trainer.max_epochs=abc: expected int >= -1 .* or null"),
        ("trainer.gradient_clip_val=abc", "expected int >= 0 .* or float >= 0 or null"),
        (
            "trainer.devices=[a]",
            r"expected int >= -1 .* or auto or .* or a list of int >= -1 and <= [0-9,]+, not a$",
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
        ("trainer.precision=17", "expected one of 16, .*bf16-mixed"),
        ("trainer.precision=16-mixd", "did you mean 16-mixed"),
        ("trainer.accelerator=gpuu", "auto, cpu, gpu.*did you mean gpu"),
        ("trainer.strategy=dpp", "did you mean ddp"),
        ("trainer.deterministic=wran", "did you mean warn"),
        ("trainer.max_time=1h", "expected DD:HH:MM:SS"),
        ("trainer.devices=[0,a]", r"trainer.devices=\[0,a\]: expected .*, not a$"),
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
        ("trainer.limit_val_batches=1.5", "expected int >= 0 .* or float >= 0 and <= 1 or null"),
        # combinations and grammar
        ("logger.wandb.offline=true", "logger.wandb.offline=true: the section is null"),
        (
            "data.train=a.csv",
            r"data.train=a.csv means nothing to data=archive: choose data=series_files or "
            "data=text_files, or leave data.train out",
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
        ("model.stem.stride=0", "expected int >= 1 and <= 65,536 or null"),
        ("model/stem=incepton", "did you mean inception"),
        ("validation=fold", "did you mean folds"),
        ("num_folds=1", "num_folds=1: expected int >= 2 and <= 20$"),
        ("refit=maybe", r"refit=maybe: expected bool \(true or false\) or auto$"),
        ("refit=tru", "refit=tru: expected .*did you mean true"),
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


def test_an_experiment_file_needs_its_first_line(tmp_path: Path) -> None:
    copytree(CONF, tmp_path / "conf")
    (tmp_path / "conf/experiment/mine.yaml").write_text("model: {dropout: 0.1}\n")
    with pytest.raises(UserError, match=r"^experiment/mine.yaml must begin with .*_global_"):
        compose_config(tmp_path / "conf", "train", TrainConfig, ["experiment=mine"])


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", OPTIONS)
def test_data_options_of_other_sources(source: str, name: str) -> None:
    value, sources = OPTIONS[name]
    given = {"data": {"source": source, name: value}}
    if source in sources:
        held = validate(given, TrainConfig).data.model_dump()[name]
        assert (held | value if isinstance(value, dict) else value) == held
        return
    empty = {"data": {"source": source, name: None}}  # has no meaning and does no harm
    assert validate(empty, TrainConfig).data == SOURCES[source]()
    with pytest.raises(
        UserError, match=f"^data.{name}=.* means nothing to data={source}: "
    ) as raised:
        validate(given, TrainConfig)
    for choice in sources:
        assert f"data={choice}" in str(raised.value)


def test_strings_are_converted_to_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THREADS", "3")  # as SLURM sets it
    assert compose_config(CONF, "train", TrainConfig, ["num_threads=${oc.env:THREADS}"]) == (
        compose("num_threads=3")
    )
    assert compose("data.name=7").data.name == "7"
    monkeypatch.setenv("THREADS", "three")
    with pytest.raises(UserError, match=r"num_threads=three: expected int >= 1 .* or auto"):
        compose_config(CONF, "train", TrainConfig, ["num_threads=${oc.env:THREADS}"])


@pytest.mark.parametrize("name", ["my.csv", "folder/my files (1).parquet"])
def test_a_file_instead_of_a_source(name: str) -> None:
    with pytest.raises(UserError, match=r"did you mean data=text_files data.train=") as raised:
        compose(f"data={name}")
    for source in ("text_files", "series_files"):
        assert f"data={source} data.train={name}" in str(raised.value)


def test_settings_of_a_section_that_is_off() -> None:
    off, given = "callbacks.figures=null", "callbacks.figures.every_n_epochs=7"
    with pytest.raises(UserError, match=r"=7: the section is null, .*turn it on first") as raised:
        compose(off, given)
    turned_on = str(raised.value).rpartition("as in ")[2]
    figures = compose(off, turned_on).callbacks.figures
    assert figures is not None
    assert figures.every_n_epochs == 7
    assert compose(given, off).callbacks.figures is None
    wandb = compose("logger.wandb.offline=true", "logger=wandb").logger.wandb
    assert wandb is not None
    assert wandb.offline


def test_text_data_selects_a_text_model() -> None:
    config = compose("data=text_files", "data.train=[a.csv,'b c.csv']", "data.delimiter=';'")
    assert config.data.train == ["a.csv", "b c.csv"]
    assert config.data.delimiter == ";"
    assert (config.data.source, config.data.name) == ("text_files", "text_files")
    assert isinstance(config.data, TextFilesSource)
    assert config.model.embedding != EmbeddingConfig()
    assert compose().model.embedding == EmbeddingConfig()
    same = compose("data=bbc_news").data
    assert (same.tokenizer, same.max_length) == (config.data.tokenizer, config.data.max_length)
    given = compose("data=text_files", "model.embedding.size=7", "data.tokenizer.kind=bpe")
    assert given.model.embedding.size == 7
    assert given.data.tokenizer == config.data.tokenizer.model_copy(update={"kind": "bpe"})


def test_paths_and_columns_need_only_the_shells_quotes() -> None:
    path = "my files/it's a=b (1).csv"
    config = compose("data=text_files", f"data.train={path}", "data.text_column=what was said?")
    assert config.data.train == path
    assert config.data.text_column == "what was said?"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("data.train=données.csv", "train", "données.csv"),
        ("data.train=数据/训练.csv", "train", "数据/训练.csv"),
        ("data.train=[données.csv,b.csv]", "train", ["données.csv", "b.csv"]),
        (
            "data.train=[ mes données (1).csv , l'été.csv]",
            "train",
            ["mes données (1).csv", "l'été.csv"],
        ),
        ("data.train=['a, é.csv',b.csv]", "train", ["a, é.csv", "b.csv"]),
        ("data.train='é b.csv'", "train", "é b.csv"),
        ("data.train=l'été.csv", "train", "l'été.csv"),
        ("data.train=${data.name}/é.csv", "train", "text_files/é.csv"),
        ("data.text_column=texte_complété", "text_column", "texte_complété"),
        ("data.text_column=[titre,texte complété]", "text_column", ["titre", "texte complété"]),
        ("data.label_column=Überschrift (lang)", "label_column", "Überschrift (lang)"),
        ("data.name=l'été", "name", "l'été"),
        ("data.delimiter=;", "delimiter", ";"),
        ("data.delimiter=,", "delimiter", ","),
        ("data.delimiter=|", "delimiter", "|"),
        (r"data.delimiter=\t", "delimiter", r"\t"),
        ("data.decimal=,", "decimal", ","),
        ("data.header=false", "header", False),
        ("data.encoding=cp1252", "encoding", "cp1252"),
        ("data.sheet=Feuille n° 1", "sheet", "Feuille n° 1"),
    ],
)
def test_names_and_paths_have_any_letters(override: str, key: str, value: object) -> None:
    assert getattr(compose("data=text_files", override).data, key) == value


def test_any_letters_in_other_keys_and_in_hydras() -> None:
    channels = compose("data=series_files", "data.channel_columns=[température (°C),y]").data
    assert channels.model_dump()["channel_columns"] == ["température (°C)", "y"]
    assert compose("runs_dir=essais/été").runs_dir == "essais/été"
    wandb = compose("logger=wandb", "logger.wandb.project=été").logger.wandb
    assert wandb is not None
    assert wandb.project == "été"
    with initialized(CONF):
        for folder in ("runs/été", "runs/l'été (1)", "runs/${data.name}/été"):
            override = normalize(f"hydra.run.dir={folder}", CONF, TrainConfig)
            ((composed, _),) = compose_jobs("train", TrainConfig, [[override]])
            expected = folder.replace("${data.name}", "JapaneseVowels")
            assert composed.hydra.run.dir == expected


def test_a_sweep_over_names_with_any_letters() -> None:
    override = normalize("data.train=é.csv,b.csv", CONF, TrainConfig)
    with initialized(CONF):
        assert list_jobs([override]) == [["++data.train='é.csv'"], ["++data.train=b.csv"]]


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
