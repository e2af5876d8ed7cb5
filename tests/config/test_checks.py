"""Validation of plain values, and one-line errors about what does not fit."""

import re
from typing import Any

import pytest

from attnlstm.config.checks import is_section, list_settings, validate
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError
from tests.config.composed import OPTIONS

SETTINGS = list_settings(TrainConfig)
FREE = re.compile(r"(optimizer|scheduler)\.")
KEYS = [key for key in SETTINGS if key and not FREE.match(key)]


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def nested_in_its_source(key: str, value: Any) -> dict[str, Any]:
    """Return the same for a source that has the key."""
    values = nested(key, value)
    name = key.removeprefix("data.").split(".")[0]
    if key.startswith("data.") and name in OPTIONS:
        values["data"]["source"] = OPTIONS[name][1][0]
    return values


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_found_when_a_letter_is_missing(key: str) -> None:
    misspelt = key[:-2] + key[-1]
    with pytest.raises(UserError) as caught:
        validate(nested_in_its_source(misspelt, None), TrainConfig)
    found = "model.lstm" if key == "model.stem" else key  # "stm" is as close to both
    assert str(caught.value) == f"unknown key {misspelt}: did you mean {found}?"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_refuses_a_wrong_type(key: str) -> None:
    wrong = [[0]] if is_section(SETTINGS[key]) or key in ("optimizer", "scheduler") else {"a": 0}
    with pytest.raises(UserError, match=f"^{re.escape(key)}=.*: expected "):
        validate(nested_in_its_source(key, wrong), TrainConfig)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.source", "text_file", "expected one of archive, .*; did you mean text_files"),
        ("data.on_bad_row", "skip", "expected one of stop, drop, drop! or float > 0 and <= 1"),
        ("data.on_bad_row", 1.5, "expected one of stop, drop, drop! or float > 0 and <= 1"),
        ("data.truncation", "end", "expected one of head, tail"),
        ("data.tokenizer.kind", "words", "did you mean word"),
        ("data.tokenizer.vocab_size", 1, "expected (int|float) >= "),
        ("data.tokenizer.min_frequency", 0, "expected (int|float) >= "),
        ("data.test_fraction", 1.0, "expected float > 0 and < 1"),
        ("data.batch_tokens", 0, "expected (int|float) >= "),
        ("data.max_length", 0, "expected (int|float) >= "),
        ("data.label_separator", "", "expected non-empty str or null"),
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


def test_omitted_keys_have_their_defaults() -> None:
    assert validate({}, TrainConfig) == TrainConfig()


def test_untrusted_dictionaries_import_and_call_nothing() -> None:
    with pytest.raises(UserError, match=r"unknown key model\._target_"):
        validate({"model": {"_target_": "os.system"}}, TrainConfig)
    with pytest.raises(UserError, match="unknown key 3"):
        validate({3: 4}, TrainConfig)  # type: ignore[dict-item]
    with pytest.raises(UserError, match=r"unknown key model\.lstm"):
        validate({"model.lstm": {}}, TrainConfig)
