"""Small tables in the shape that every data source delivers."""

from collections.abc import Callable
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # a loaded machine is not a failure
settings.load_profile("no deadline")

MakeRows = Callable[..., Dataset]


@pytest.fixture(scope="session")
def make_rows() -> MakeRows:
    """`make_rows(series, labels)`: series as nested lists [row][time][channel], labels as names."""

    def make(series: list[Any], labels: list[Any], names: list[str] | None = None) -> Dataset:
        names = names or sorted({label for label in labels if label is not None})
        features = Features(
            {"series": List(List(Value("float32"))), "label": ClassLabel(names=names)}
        )
        return Dataset.from_dict({"series": series, "label": labels}, features=features)

    return make
