"""Composed configurations for the tests."""

from functools import cache
from pathlib import Path

from attnlstm.cli.composition import compose_config
from attnlstm.config.schema import TrainConfig

CONF = Path(__file__).parents[2] / "conf"


@cache
def compose(*overrides: str) -> TrainConfig:
    return compose_config(CONF, "train", TrainConfig, overrides)


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
    "label_separator": ("|", ("text_files", "hub_text", "series_files")),
    "id_column": ("x", ("series_files",)),
    "time_column": ("x", ("series_files",)),
    "layout": ("wide", ("series_files",)),
    "time_format": ("%d/%m/%Y", ("series_files",)),
    "channel_columns": (["x"], ("series_files",)),
    "delimiter": (";", FILES_OF_ROWS),
    "group_column": ("x", ("text_files", "hub_text", "series_files")),
    "axes": ("row,channel,time", ("series_files",)),
    "labels": ("y.npy", ("series_files",)),
    "test_labels": ("y.npy", ("series_files",)),
    "validation_labels": ("y.npy", ("series_files",)),
    "label_from": (r"name:([a-z]+)_\d{1,2}\.wav", ("series_files",)),
    "window": (128, ("series_files",)),
    "stride": (64, ("series_files",)),
    "missing": ("mask", SERIES),
    "encoding": ("cp1252", FILES_OF_ROWS),
    "decimal": (",", FILES_OF_ROWS),
    "header": (False, FILES_OF_ROWS),
    "backslash_escapes": (True, FILES_OF_ROWS),
    "sheet": ("rows", FILES_OF_ROWS),
    "max_length": (5, TEXTS),
    "tokenizer": ({"kind": "bpe"}, TEXTS),
    "truncation": ("tail", TEXTS),
    "noise": (0.5, SERIES),
    "normalize": (False, SERIES),
}
"""Keys that only some sources have: an example value and those sources."""
