"""The help: examples, choices, and every key with its value and description."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from attnlstm.cli import evaluate, predict, train

ROOT = Path(__file__).parents[2]
VERBS = {"train": train.main, "evaluate": evaluate.main, "predict": predict.main}

Show = Callable[..., str]


@pytest.fixture
def show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Show:
    """Return what `attnlstm VERB ...` prints in an empty folder, which stays empty."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [verb, *arguments])
        with contextlib.suppress(SystemExit):
            VERBS[verb]()
        assert not (tmp_path / "runs").exists()
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out

    return run


def keys(shown: str) -> dict[str, str]:
    """Return each `key=value`, or `key`, with the text next to it or below."""
    entries = re.split(r"^  (?=[a-z]\S*(?: |\n))", shown, flags=re.MULTILINE)[1:]
    split = [entry.split("\n\n")[0].split(maxsplit=1) for entry in entries]
    return {setting: " ".join(text.split()) for setting, text in split}


def all_keys(show: Show, verb: str) -> set[str]:
    """Return every key of a verb's configuration, as Hydra composes it."""

    def leaves(values: dict, prefix: str = "") -> set[str]:
        names = {f"{prefix}{name}" for name, value in values.items() if value in ({}, None)}
        for name, value in values.items():
            is_section = isinstance(value, dict) and value
            names |= leaves(value, f"{prefix}{name}.") if is_section else {f"{prefix}{name}"}
        return names

    return leaves(yaml.safe_load(show(verb, "--cfg", "job")))


def test_keys_have_values_and_descriptions(show: Show) -> None:
    shown = show("train", "--help", "optimizer.lr=0.5")
    assert keys(shown)["model.lstm.num_layers=1"] == "number of stacked layers"
    assert keys(shown)["model.pooling=[hn_query,max]"].startswith("how outputs become one vector")
    assert keys(shown)["data.source=archive"].startswith("where the rows come from (one of archive")
    assert keys(shown)["scheduler.max_lr=${optimizer.lr}"] == "an argument of OneCycleLR"
    assert "optimizer.lr=0.5" in keys(shown)
    assert shown.index("== Data") < shown.index("  data.name=") < shown.index("== Model")
    assert "attnlstm train data=text_files data.train=train.csv" in shown
    assert "model/pooling: hn_query, last_state, learned_query, max, mean" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "data=text_files", "scheduler=cosine", "callbacks=early_stopping"],
        ["train", "data=hub_text", "scheduler=plateau", "optimizer=sgd", "logger=wandb"],
        ["train", "data=series_files", "scheduler=step", "model/stem=conv", "logger=mlflow"],
        ["train", "data=bbc_news", "scheduler=none"],
        ["evaluate"],
        ["predict"],
    ],
    ids=" ".join,
)
def test_every_key_has_a_description(show: Show, arguments: list[str]) -> None:
    shown = keys(show(*arguments, "--help=all"))
    assert len(shown) > 10
    assert [key for key, text in shown.items() if len(text) < 6] == []


@pytest.mark.parametrize("verb", VERBS)
def test_all_shows_every_key_once(show: Show, verb: str) -> None:
    shown = [setting.partition("=")[0] for setting in keys(show(verb, "--help=all"))]
    assert len(set(shown)) == len(shown)
    assert all_keys(show, verb) <= set(shown)


def test_rare_keys_are_shown_only_by_all(show: Show) -> None:
    few, many = keys(show("train", "--help")), keys(show("train", "--help=all"))
    assert "trainer.max_epochs=null" in few
    assert "trainer.sync_batchnorm=false" not in few
    assert many["trainer.sync_batchnorm=false"]
    assert "data.train=null" in keys(show("train", "data=text_files", "--help"))
    assert few.items() < many.items()


def test_a_config_folder_adds_choices(show: Show, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "tiny.yaml").write_text(
        "# @package _global_\nmodel: {lstm: {hidden_size: 4}}\ntrainer: {min_epochs: 2}\n"
    )
    shown = show("train", "--config-dir=mine", "experiment=tiny", "--help")
    assert "experiment: plain_lstm, quick, tiny" in shown
    assert {"model.lstm.hidden_size=4", "trainer.min_epochs=2"} < keys(shown).keys()


def test_a_mistake_next_to_help_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "--help=all", "model/poling=mean"])
    with pytest.raises(SystemExit, match="2"):
        train.main()
    assert capsys.readouterr().err.startswith("error: unknown key model/poling")


def test_help_and_mistakes_import_no_heavy_library() -> None:
    code = (
        "import sys, atexit\n"
        "heavy = {'torch', 'lightning', 'datasets', 'aeon', 'matplotlib', 'numpy', 'pandas'}\n"
        "atexit.register(lambda: print('imported', sorted(heavy & set(sys.modules))))\n"
        "from attnlstm.cli.train import main\n"
        "main()\n"
    )
    for arguments in (["--help"], ["modle.x=1"]):
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True
        )
        assert result.stdout.splitlines()[-1] == "imported []"
