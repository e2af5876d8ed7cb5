"""Typing errors that ask for more memory or processors than there are."""

import re

import pytest
import torch
from torch import nn

from attnlstm.cli import CONF
from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig
from attnlstm.errors import UserError
from attnlstm.training.resources import check_memory, check_processors

CPU = torch.device("cpu")
PLAIN = ["model/stem=none", "model.random_convolutions=null", "validation=holdout"]


def compose(*overrides: str) -> TrainConfig:
    return compose_config(CONF, "train", TrainConfig, overrides)


@pytest.mark.parametrize(
    "override",
    [
        "model.ensemble_size=1000000000",
        "model.lstm.num_layers=1000000",
        "model.lstm.hidden_size=1000000000000",
        "model.lstm.proj_size=1000000000000",
        "data.num_workers=100000",
        "num_threads=1000000000",
        "data.batch_size=1e30",
        "trainer.max_epochs=1e30",
        "callbacks.early_stopping={patience: 1000000000000}",
    ],
)
def test_numbers_that_nobody_means(override: str) -> None:
    with pytest.raises(UserError, match=r"expected .*int >= -?\d and <= [\d,]+"):
        compose(override)


def test_the_estimate_counts_weights_gradients_and_moments() -> None:
    lstm = nn.LSTM(1, 1024, num_layers=2, bidirectional=True)
    num_weights = sum(weight.numel() for weight in lstm.parameters())
    options = [*PLAIN, "model.lstm.hidden_size=1024", "model.lstm.num_layers=2"]
    expected = 4 * 4 * num_weights / 1e9
    check_memory(compose(*options, f"max_memory={1.05 * expected}"), CPU)
    with pytest.raises(UserError, match=r"reduce model.lstm.hidden_size or model.lstm.num_layers$"):
        check_memory(compose(*options, f"max_memory={0.99 * expected}"), CPU)
    three = [*options, "model.ensemble_size=3"]
    with pytest.raises(UserError, match=r"or model.ensemble_size$"):
        check_memory(compose(*three, f"max_memory={2.9 * expected}"), CPU)


@pytest.mark.parametrize(
    ("overrides", "steps", "keys"),
    [
        (["model.lstm.hidden_size=65536"], 1, "model.lstm.hidden_size or model.lstm.num_layers"),
        (["data.batch_size=100000"], 10_000, "data.batch_size"),
        (["data.batch_tokens=1000000000"], 10**9, "data.batch_tokens"),
    ],
)
def test_what_is_too_large_is_named(overrides: list[str], steps: int, keys: str) -> None:
    config = compose(*PLAIN, "max_memory=4", *overrides)
    with pytest.raises(UserError, match=f"training takes about .* GB .*: reduce {keys}$"):
        check_memory(config, CPU, longest=steps)


def test_the_defaults_fit_into_a_gigabyte() -> None:
    check_memory(compose("max_memory=1"), CPU, longest=2000)


def test_processes_beyond_the_processors() -> None:
    check_processors("num_threads", None)
    check_processors("num_threads", 4)
    with pytest.raises(UserError, match=re.escape("num_threads=100000: give at most ")):
        check_processors("num_threads", 100000)
