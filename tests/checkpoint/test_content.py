"""Migration of older checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from attnlstm.checkpoint.content import FORMAT_KEY, FORMAT_VERSION, read_checkpoint
from attnlstm.checkpoint.load import load_checkpoint
from attnlstm.training.calibrate import write_calibration
from attnlstm.training.module import restore_module
from tests.checkpoint.altered import changed

OF_OTHER_SOURCES = {
    **dict.fromkeys(("path", "subset", "train", "validation", "test", "text_column")),
    **dict.fromkeys(("label_column", "id_column", "time_column", "channel_columns", "delimiter")),
    "tokenizer": {"kind": "word", "vocab_size": 30000, "min_frequency": 1, "lowercase": True},
    "max_length": None,
    "truncation": "head",
}
"""The keys of the section `data` in format 4 besides those of the archive."""


def as_version_4(loaded: dict[str, Any]) -> None:
    """Turn a checkpoint into one from when all sources had the same keys."""
    loaded[FORMAT_KEY] = 4
    loaded["hyper_parameters"]["config"]["data"] |= OF_OTHER_SOURCES


def as_version_3(loaded: dict[str, Any]) -> None:
    """Turn a checkpoint into one from before the second classifier had a weight."""
    as_version_4(loaded)
    loaded[FORMAT_KEY] = 3
    del loaded["calibration"]["expert_weight"]
    del loaded["hyper_parameters"]["config"]["model"]["max_steps"]


def as_version_2(loaded: dict[str, Any]) -> None:
    """Turn a checkpoint into one from before there were calibrations."""
    as_version_3(loaded)
    loaded[FORMAT_KEY] = 2
    del loaded["calibration"]


def as_version_1(loaded: dict[str, Any]) -> None:
    """Turn a checkpoint into one from before there were stems and several poolings."""
    as_version_2(loaded)
    loaded[FORMAT_KEY] = 1
    config = loaded["hyper_parameters"]["config"]
    (name,) = config["model"]["pooling"]
    is_scaled = config["model"].pop("scaled_attention")
    config["model"]["pooling"] = {"name": name, "scaled": is_scaled if name == "hn_query" else None}
    for key in ("stem", "skip_pooling", "ngrams", "random_convolutions"):
        del config["model"][key]
    for key in ("budget", "validation", "num_folds"):
        del config[key]


def as_version_0(loaded: dict[str, Any]) -> None:
    """Turn a checkpoint into one of the first format."""
    as_version_1(loaded)
    del loaded[FORMAT_KEY]
    arguments = loaded["hyper_parameters"]
    arguments["input_size"] = 12
    del arguments["trained_on"], arguments["encoder"]["channel_names"]
    del arguments["config"]["model"]["ensemble_size"], arguments["config"]["loss"]["focal_gamma"]


def test_older_files_are_migrated(small_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    path.write_bytes(changed(small_checkpoint, as_version_0))
    old, new = load_checkpoint(path), load_checkpoint(small_checkpoint)
    assert (old.config, old.trained_on) == (new.config, ["train"])
    assert old.arguments == new.arguments
    inputs = torch.randn(3, 7, 12)
    lengths = torch.tensor([7, 2, 5])
    with torch.inference_mode():
        expected = new.classifier.eval()(inputs, lengths).logits
        torch.testing.assert_close(old.classifier.eval()(inputs, lengths).logits, expected)
    assert restore_module(old).label_names == new.label_names


def test_experts_of_older_files_have_equal_weights(small_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    path.write_bytes(changed(small_checkpoint, as_version_3))
    old, new = load_checkpoint(path), load_checkpoint(small_checkpoint)
    assert (old.calibration.expert_weight, old.temperature) == (0.5, new.temperature)
    assert old.config == new.config


@pytest.mark.parametrize("as_before", [as_version_1, as_version_2])
def test_checkpoints_without_calibration_answer_as_before(
    small_checkpoint: Path, tmp_path: Path, as_before: Callable
) -> None:
    path = tmp_path / "old.ckpt"
    path.write_bytes(changed(small_checkpoint, as_before))
    old, new = load_checkpoint(path), load_checkpoint(small_checkpoint)
    assert new.temperature != 1
    assert (old.calibration, old.temperature, restore_module(old).temperature) == (None, 1, 1)
    inputs, lengths = torch.randn(3, 7, 12), torch.tensor([7, 2, 5])
    with torch.inference_mode():
        # at that time, probabilities were computed from the classifier's own logits
        expected = new.classifier.eval()(inputs, lengths).logits
        found = restore_module(old).eval()(inputs, lengths).logits
        calibrated = restore_module(new).eval()(inputs, lengths).logits
    assert torch.equal(found, expected)
    torch.testing.assert_close(calibrated, expected / new.temperature)


@pytest.mark.parametrize(
    ("pooling", "expected", "is_scaled"),
    [
        ({"name": "hn_query", "scaled": True}, ["hn_query"], True),
        ({"name": "hn_query", "scaled": False}, ["hn_query"], False),
        ({"name": "hn_query"}, ["hn_query"], False),
        ({"name": "mean", "scaled": None}, ["mean"], False),
    ],
)
def test_the_single_pooling_of_older_files_becomes_a_list(
    small_checkpoint: Path,
    tmp_path: Path,
    pooling: dict[str, Any],
    expected: list[str],
    is_scaled: bool,
) -> None:
    def with_pooling(loaded: dict[str, Any]) -> None:
        as_version_1(loaded)
        loaded["hyper_parameters"]["config"]["model"]["pooling"] = pooling

    path = tmp_path / "old.ckpt"
    path.write_bytes(changed(small_checkpoint, with_pooling))
    model = load_checkpoint(path).config.model
    assert (model.pooling, model.scaled_attention) == (expected, is_scaled)
    assert (model.stem.name, model.skip_pooling, model.ngrams) == ("none", [], None)


def test_calibrating_an_older_file_migrates_it(small_checkpoint: Path, tmp_path: Path) -> None:
    path, calibration = tmp_path / "old.ckpt", load_checkpoint(small_checkpoint).calibration
    assert calibration is not None
    path.write_bytes(changed(small_checkpoint, as_version_0))
    write_calibration(path, calibration)
    assert torch.load(path, weights_only=True)[FORMAT_KEY] == FORMAT_VERSION
    assert load_checkpoint(path).temperature == calibration.temperature


def test_new_files_have_the_current_version(small_checkpoint: Path) -> None:
    best = read_checkpoint(small_checkpoint)
    last = read_checkpoint(small_checkpoint.with_name("last.ckpt"))
    assert best.loaded[FORMAT_KEY] == last.loaded[FORMAT_KEY] == FORMAT_VERSION
    assert "optimizer_states" in last.loaded  # needed to resume training
