"""Sources of files that the tests write, opened and split as a run does."""

import csv

import pytest

from attnlstm.config.data import SOURCES
from attnlstm.data.sources.source import open_sources
from attnlstm.data.splits import split_sources
from attnlstm.errors import UserError


def config_of(source, **options):
    """Paths as texts."""
    paths = {key: str(options[key]) for key in ("train", "validation", "test") if key in options}
    return SOURCES[source](**(options | paths))


def split(config, seed=0, only=None, label_names=None):
    return split_sources(open_sources(config, only), config, seed, label_names)


def message_of(config, **options):
    with pytest.raises(UserError) as caught:
        split(config, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_texts(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def texts_of(name, count=20):
    return [(f"{name} {row}", ("good", "bad")[row % 2]) for row in range(count)]


def write_series(path, ids, header=("id", "time", "x", "y", "label"), length=2):
    """Long tables: `x` of series 7 is 7, `y` is 100 more than `x`; labels in turn."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        for number in ids:
            for time in range(length):
                values = {
                    "id": f"s{number}",
                    "time": time,
                    "x": number + time / 10,
                    "y": 100 + number + time / 10,
                    "label": ("run", "walk")[number % 2],
                }
                writer.writerow({column: values[column] for column in header})
    return path
