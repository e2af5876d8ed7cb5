"""The examples in the docstrings are run as they are written."""

import doctest
import importlib
import pkgutil

import pytest
import torch

from attnlstm import nn

MODULES = [info.name for info in pkgutil.iter_modules(nn.__path__) if not info.ispkg]
CLASSES = [
    name
    for name in nn.__all__
    if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), torch.nn.Module)
]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_give_what_they_show(module: str) -> None:
    names = {name: getattr(nn, name) for name in nn.__all__}
    results = doctest.testmod(
        importlib.import_module(f"attnlstm.nn.{module}"), extraglobs=names | {"torch": torch}
    )
    assert results.failed == 0


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_module_has_an_example(name: str) -> None:
    assert "Example:\n" in getattr(nn, name).__doc__
